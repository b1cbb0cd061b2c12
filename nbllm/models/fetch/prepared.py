"""Folders of the cache that nbllm fills itself, whole or not at all.

What is written is staged beside its place and moved there in one step, under a lock: a
half-written folder never counts, and two processes never convert twice.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from nbllm.errors import ModelError
from nbllm.models.fetch.cache import explained_when_full
from nbllm.models.fetch.hashing import sha256
from nbllm.storage.json_file import read_object

__all__ = ["MANIFEST", "Fetched", "Manifest", "is_prepared", "prepared"]

MANIFEST = "nbllm.json"  # written last


@dataclass(frozen=True)
class Manifest:
    """The description of a folder that nbllm prepared; it is written last."""

    source: str
    revision: str
    licence: str | None
    context_length: int | None = None
    accepted_terms: str | None = None  # address of the licence that was accepted
    files: Mapping[str, str] = field(default_factory=dict)  # each file's sha256, to verify it by


@dataclass(frozen=True)
class Fetched:
    """A model on this disk, with its source and revision."""

    folder: Path
    source: str  # as in Model.source
    revision: str  # commit of the hub, or sha256 of what was published
    licence: str | None
    context_length: int | None = None  # tokens, where the configuration says too much


def is_prepared(folder: Path) -> bool:
    """Return whether nbllm has filled this folder of its cache; asking counts as using it.

    Args:
        folder: of the cache.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    with suppress(OSError):  # a cache that others share may not be ours to write
        os.utime(manifest)  # tells when the model was last used
    return True


def prepared(folder: Path, make: Callable[[Path], Manifest]) -> Fetched:
    """Return a folder of the cache, which is filled if it is not there whole.

    Args:
        folder: of the cache.
        make: writes the files into the folder that it is given, and returns its manifest.

    Raises:
        DownloadError: the disk fills up.
    """
    if not is_prepared(folder):
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not is_prepared(folder):
                _fill(folder, make)
    stated = Manifest(**read_object(folder / MANIFEST, error=ModelError))
    return Fetched(folder, stated.source, stated.revision, stated.licence, stated.context_length)


def _fill(folder: Path, make: Callable[[Path], Manifest]) -> None:
    staging = folder.with_name(f"{folder.name}.partial")
    for stale in (staging, folder):
        shutil.rmtree(stale, ignore_errors=True)
    staging.mkdir(mode=0o700)
    try:
        with explained_when_full(f"preparing {folder.name}", folder):
            made = make(staging)
            files = sorted(file for file in staging.rglob("*") if file.is_file())
            hashes = {file.relative_to(staging).as_posix(): sha256(file) for file in files}
            described = asdict(replace(made, files=hashes))
            (staging / MANIFEST).write_text(json.dumps(described, indent=1), encoding="utf-8")
            staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)

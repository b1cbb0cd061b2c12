"""Reads and writes records: small JSON files that several processes share."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbllm.home import home
from nbllm.storage.json_file import find_object, is_users_file
from nbllm.storage.locked_json import write_json

__all__ = [
    "activity_folder",
    "create_flag",
    "delete",
    "finite_number",
    "is_own_file",
    "read_record",
    "record_files",
    "remove_unfinished",
    "write_record",
]

_MAX_BYTES = 1_000_000  # a record of many models has some thousand

_UNFINISHED = ".part"  # the suffix of files that `write_json` is writing
_MAX_UNFINISHED_AGE = 3600.0  # seconds


def activity_folder(name: str) -> Path:
    """Return a folder of records, in `NBLLM_ACTIVITY` or in nbllm's home; it may not exist.

    Args:
        name: The name of the folder.
    """
    named = os.environ.get("NBLLM_ACTIVITY")
    return (Path(named).expanduser().absolute() if named else home() / "activity") / name


def record_files(folder: Path) -> Iterator[Path]:
    """Yield the record files in a folder, in any order; none if it cannot be read.

    Links, FIFOs and other users' files are ignored.
    """
    try:
        with os.scandir(folder) as entries:
            named = (folder / entry.name for entry in entries if entry.name.endswith(".json"))
            yield from filter(is_own_file, named)
    except OSError:
        return


def write_record(path: Path, record: Mapping[str, Any]) -> bool:
    """Replace a record atomically; return whether it could be written.

    A failure is no error, since a read-only or full home should not stop a run.

    Args:
        path: The file.
        record: The new content.
    """
    try:
        write_json(path, record)
    except OSError:
        return False
    return True


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if it is missing, damaged, too large, or not this user's."""
    return find_object(path, max_bytes=_MAX_BYTES, own_only=True)


def create_flag(path: Path) -> None:
    """Create an empty file, unless this user has one at that path.

    Raises:
        OSError: The file cannot be created, or something else exists. Links are not followed.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not is_own_file(path):
            raise


def is_own_file(path: Path) -> bool:
    """Return whether the path is a regular file of this user, and no link."""
    try:
        return is_users_file(os.lstat(path))
    except OSError:
        return False


def finite_number(value: Any) -> float:
    """Return a value as a float; raise ValueError unless it is finite, as JSON requires."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def delete(path: Path) -> None:
    """Remove a file, if it exists and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def remove_unfinished(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed while writing."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        try:
            if time.time() - path.stat().st_mtime > _MAX_UNFINISHED_AGE:
                path.unlink()
        except OSError:
            continue

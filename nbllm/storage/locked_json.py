"""Reads and writes nbllm's own small JSON files, which several processes share.

A file is replaced atomically, so that readers see the old or the new content. An update, which
reads the file first, holds a lock file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbllm.home import private_folder
from nbllm.storage.json_file import find_object

__all__ = ["replace_text", "update_json", "write_json"]

_TRIES = 5
_RETRY_AFTER = 0.01  # seconds


def write_json(file: Path, value: Any, *, indent: int | None = None) -> None:
    """Replace a JSON file; a missing folder is created for the user alone.

    Args:
        file: The file.
        value: Its new value.
        indent: The spaces per level, as in `json.dumps`.

    Raises:
        OSError: The file cannot be written. The old value stays.
    """
    private_folder(file.parent)
    replace_text(file, json.dumps(value, indent=indent))


def update_json(file: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to the object in a JSON file, replacing entries with the same names.

    A file that is missing or damaged counts as an empty object.

    Args:
        file: The file. A lock file with the suffix .lock stays in its folder.
        entries: The new entries.

    Raises:
        OSError: The file cannot be written. The old object stays.
    """
    from filelock import FileLock

    private_folder(file.parent)
    with FileLock(file.with_suffix(".lock"), mode=0o600):
        write_json(file, {**(find_object(file) or {}), **entries}, indent=1)


def replace_text(path: Path, text: str) -> None:
    """Replace the text of a file atomically; only its user can read it.

    Args:
        path: The file, in a folder that exists.
        text: Its new text.

    Raises:
        OSError: The file cannot be written. The old text stays.
    """
    import tempfile

    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        _replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _replace(unfinished: str, path: Path) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            return os.replace(unfinished, path)
        except PermissionError:  # on Windows, while another process reads the old file
            if not tries_left:
                raise
            time.sleep(_RETRY_AFTER)

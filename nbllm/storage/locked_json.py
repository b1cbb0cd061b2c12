"""Small JSON files of nbllm's own, which several processes write and read at once.

A file is replaced whole, so that readers see the old one or the new one. Where a writer adds to
what others have written, it holds a lock beside the file.
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

_TRIES, _MOMENT = 5, 0.01  # seconds


def write_json(file: Path, value: Any, *, indent: int | None = None) -> None:
    """Replace a JSON file, in a folder that is made for its user alone.

    Args:
        file: The file.
        value: Its new value.
        indent: Blanks a level, as in `json.dumps`.

    Raises:
        OSError: It cannot be written. The old value stays.
    """
    private_folder(file.parent)
    replace_text(file, json.dumps(value, indent=indent))


def update_json(file: Path, entries: Mapping[str, Any]) -> None:
    """Add entries to the object of a JSON file, or replace those of the same names.

    A file that is missing or damaged counts as an empty object.

    Args:
        file: The file. A lock file of the same name stays beside it.
        entries: The new entries.

    Raises:
        OSError: It cannot be written. The old object stays.
    """
    from filelock import FileLock

    private_folder(file.parent)
    with FileLock(file.with_suffix(".lock"), mode=0o600):
        write_json(file, {**(find_object(file) or {}), **entries}, indent=1)


def replace_text(path: Path, text: str) -> None:
    """Write a file that only its user can read; readers see the old text or the new one, whole.

    Args:
        path: The file, in a folder that exists.
        text: Its new text.

    Raises:
        OSError: It cannot be written. The old text stays.
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
        except PermissionError:  # on Windows, for as long as someone reads the old one
            if not tries_left:
                raise
            time.sleep(_MOMENT)

"""Small JSON files that several processes write and read at once."""

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
    "delete",
    "finite",
    "is_own_file",
    "raise_flag",
    "read",
    "record_files",
    "sweep",
    "write",
]

_LARGEST = 1_000_000  # bytes of a record; one of many models has some thousand

_UNFINISHED = ".part"
_LONG_AGO = 3600.0  # seconds


def activity_folder(name: str) -> Path:
    """Return the folder of the records called `name`, in `NBLLM_ACTIVITY` or in nbllm's home.

    It is not created here.
    """
    named = os.environ.get("NBLLM_ACTIVITY")
    return (Path(named).expanduser().absolute() if named else home() / "activity") / name


def record_files(folder: Path) -> Iterator[Path]:
    """Yield the records in a folder, in no order; none where it cannot be read.

    Links, FIFOs and other users' files are no records, and are left alone.
    """
    try:
        with os.scandir(folder) as entries:
            named = (folder / entry.name for entry in entries if entry.name.endswith(".json"))
            yield from filter(is_own_file, named)
    except OSError:
        return


def write(path: Path, record: Mapping[str, Any]) -> bool:
    """Replace a record, so that a reader sees the old one or the new one and never a part.

    Returns whether it could: a home that is read-only or full is no reason to stop a run.
    """
    try:
        write_json(path, record)
    except OSError:
        return False
    return True


def read(path: Path) -> dict[str, Any] | None:
    """Return a record, or None where it is gone, damaged, too large, or not this user's."""
    return find_object(path, most=_LARGEST, own=True)


def raise_flag(path: Path) -> None:
    """Create an empty file, unless this user has one there.

    Raises:
        OSError: It cannot be created, or something else lies there. A link is not followed.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not is_own_file(path):
            raise


def is_own_file(path: Path) -> bool:
    """Whether a file of this user's lies there: no link, no FIFO, nothing of another user's."""
    try:
        return is_users_file(os.lstat(path))
    except OSError:
        return False


def finite(value: Any) -> float:
    """Return a number of a record; ValueError for infinity, which browsers refuse in JSON."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def delete(path: Path) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def sweep(folder: Path) -> None:
    """Remove unfinished files of processes that were killed while they wrote."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        try:
            if time.time() - path.stat().st_mtime > _LONG_AGO:
                path.unlink()
        except OSError:
            continue

"""Small JSON files that several processes write and read at once."""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbllm.home import home, private_folder, replace_text

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
    """The folder of the records called `name`, in `NBLLM_ACTIVITY` or in nbllm's home.

    It is not created here.
    """
    named = os.environ.get("NBLLM_ACTIVITY")
    return (Path(named).expanduser().absolute() if named else home() / "activity") / name


def record_files(folder: Path) -> Iterator[Path]:
    """The records in a folder, in no order; none where it cannot be read.

    What is no file of this user's, such as a link, a FIFO or another's file, is no record, and is
    left alone.
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
        private_folder(path.parent)
        replace_text(path, json.dumps(record))
    except OSError:
        return False
    return True


def read(path: Path) -> dict[str, Any] | None:
    """A record, or None where it is gone, damaged, larger than any record, or not this user's."""
    try:
        content = _content(path)
        found = None if content is None else json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _content(path: Path) -> str | None:
    # Not waiting, for a FIFO that nobody writes to; and what it is, is asked of what was opened.
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, os.O_RDONLY | careful), "rb") as file:
        if not _is_own(os.fstat(file.fileno())):
            return None
        content = file.read(_LARGEST + 1)
    return content.decode("utf-8") if len(content) <= _LARGEST else None


def raise_flag(path: Path) -> None:
    """Creates an empty file, unless this user has one there.

    Raises:
        OSError: it cannot be created, or something else lies there. A link is not followed.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not is_own_file(path):
            raise


def is_own_file(path: Path) -> bool:
    """Whether a file of this user's lies there: no link, no FIFO, nothing of another user's."""
    try:
        return _is_own(os.lstat(path))
    except OSError:
        return False


def _is_own(status: os.stat_result) -> bool:
    """Whether it is a regular file, and this user's where the system has users."""
    user = getattr(os, "geteuid", None)
    return stat.S_ISREG(status.st_mode) and (user is None or status.st_uid == user())


def finite(value: Any) -> float:
    """A number of a record; JSON as browsers read it has no infinity. Raises ValueError."""
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
    """Remove what processes that were killed while they wrote have left."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        try:
            if time.time() - path.stat().st_mtime > _LONG_AGO:
                path.unlink()
        except OSError:
            continue

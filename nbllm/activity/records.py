"""Small JSON files that several processes write and read at once."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbllm.home import home

__all__ = ["activity_folder", "delete", "finite", "read", "record_files", "sweep", "write"]


_UNFINISHED = ".part"
_LONG_AGO = 3600.0  # seconds
_TRIES, _MOMENT = 5, 0.01  # seconds


def activity_folder(name: str) -> Path:
    """The folder of the records called `name`, in `NBLLM_ACTIVITY` or in nbllm's home.

    It is not created here.
    """
    named = os.environ.get("NBLLM_ACTIVITY")
    return (Path(named).expanduser().absolute() if named else home() / "activity") / name


def record_files(folder: Path) -> Iterator[Path]:
    """The records in a folder, in no order; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (folder / entry.name for entry in entries if entry.name.endswith(".json"))
    except OSError:
        return


def write(path: Path, record: Mapping[str, Any]) -> bool:
    """Replace a record, so that a reader sees the old one or the new one and never a part.

    Returns whether it could: a home that is read-only or full is no reason to stop a run.
    """
    unfinished = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Readable by its owner alone: errors and names of notebooks are nobody else's business.
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=_UNFINISHED)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(record, out)
        _replace(unfinished, path)
    except OSError:
        if unfinished is not None:
            delete(Path(unfinished))
        return False
    return True


def _replace(unfinished: str, path: Path) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            return os.replace(unfinished, path)
        except PermissionError:  # on Windows, for as long as someone reads the old one
            if not tries_left:
                raise
            time.sleep(_MOMENT)


def read(path: Path) -> dict[str, Any] | None:
    """A record, or None where it is gone or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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

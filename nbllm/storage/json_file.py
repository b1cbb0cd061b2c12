"""JSON files that others wrote, read within bounds of size, depth and type.

A file's name tells nothing of what lies there: a FIFO blocks whoever opens it, a file of any size
fills the memory, and values nested deeply enough end the interpreter's stack.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from nbllm.errors import NbllmError
from nbllm.wording import counted, with_article

__all__ = ["read_json", "read_object", "read_text"]

_MOST = 10_000_000  # bytes, unless a caller expects more
_DEEPEST = 64  # lists and objects in each other; configurations have fewer than ten


def read_object(file: Path, *, error: type[NbllmError], most: int = _MOST) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
        file: its path.
        error: what is raised where it cannot be read.
        most: bytes that it may have.

    Raises:
        NbllmError: `error`, where the file is missing, not a regular one, larger, nested deeper,
            or not an object in UTF-8.
    """
    found = read_json(file, error=error, most=most)
    if not isinstance(found, dict):
        raise error(
            f"{file} has to hold a JSON object, and holds {with_article(type(found).__name__)}. "
            "Fetch it again, or ask whoever wrote it."
        )
    return found


def read_json(file: Path, *, error: type[NbllmError], most: int = _MOST) -> Any:
    """Returns what a JSON file holds, of any type.

    Args and Raises as for `read_object`.
    """
    text = read_text(file, error=error, most=most)
    try:
        found = json.loads(text)
    except RecursionError:
        raise _too_deep(file, error) from None
    except ValueError as problem:
        raise error(
            f"{file} is not JSON ({problem}). Fetch it again, or ask whoever wrote it."
        ) from problem
    if _is_deeper(found, _DEEPEST):
        raise _too_deep(file, error)
    return found


def read_text(file: Path, *, error: type[NbllmError], most: int = _MOST) -> str:
    """Returns the text of a file in UTF-8.

    Args and Raises as for `read_object`.
    """
    try:
        # Not blocking, for a FIFO that nobody writes to; what it is, is asked of what was opened.
        opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise error(f"{file} is not a regular file, and is not read. Remove it.")
            with os.fdopen(opened, "rb", closefd=False) as stream:
                content = stream.read(most + 1)
        finally:
            os.close(opened)
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except OSError as problem:
        raise error(f"{file} cannot be read ({problem.strerror}). Check the file.") from problem
    if len(content) > most:
        raise error(
            f"{file} has more than {counted(most, 'byte')}, which no such file needs, and is not "
            "read. Fetch it again, or ask whoever wrote it."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{file} is not text in UTF-8 (byte {problem.start:,}). Fetch it again, or ask whoever "
            "wrote it."
        ) from problem


def _too_deep(file: Path, error: type[NbllmError]) -> NbllmError:
    return error(
        f"{file} nests values more than {_DEEPEST} deep, which no such file needs, and is not "
        "read. Fetch it again, or ask whoever wrote it."
    )


def _is_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects lie in each other more than `most` deep."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True

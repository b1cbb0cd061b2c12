"""JSON files that others wrote, read within bounds of size, depth and type.

A file's name says nothing of its content: a FIFO blocks whoever opens it, a file of any size fills
the memory, and values nested deeply enough end the interpreter's stack.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from nbllm.errors import NbllmError
from nbllm.wording import counted, with_article

__all__ = ["find_object", "is_users_file", "read_json", "read_object", "read_text"]

_MOST = 10_000_000  # bytes, unless a caller expects more
_DEEPEST = 64  # lists and objects in each other; configurations have fewer than ten


class _UnreadableError(NbllmError):
    """A file without an object in it."""


def find_object(file: Path, *, most: int = _MOST, own: bool = False) -> dict[str, Any] | None:
    """Return the object that a JSON file holds; None where `read_object` would raise.

    Args:
        file: Its path.
        most: The most bytes that it may have.
        own: Only read a file of this user's, and follow no link.
    """
    try:
        return read_object(file, error=_UnreadableError, most=most, own=own)
    except _UnreadableError:
        return None


def read_object(
    file: Path, *, error: type[NbllmError], most: int = _MOST, own: bool = False
) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        file: Its path.
        error: The class of the error where it cannot be read.
        most: The most bytes that it may have.
        own: Only read a file of this user's, and follow no link.

    Raises:
        NbllmError: `error`: the file is missing, not a regular one, larger, nested deeper, or not
            an object in UTF-8.
    """
    found = read_json(file, error=error, most=most, own=own)
    if not isinstance(found, dict):
        raise error(
            f"{file} has to hold a JSON object, and holds {with_article(type(found).__name__)}. "
            "Fetch it again, or ask whoever wrote it."
        )
    return found


def read_json(file: Path, *, error: type[NbllmError], most: int = _MOST, own: bool = False) -> Any:
    """Return the value that a JSON file holds, of any type.

    Args:
        file: Its path.
        error: The class of the error where it cannot be read.
        most: The most bytes that it may have.
        own: Only read a file of this user's, and follow no link.

    Raises:
        NbllmError: As `read_object`, but for the type of the value.
    """
    text = read_text(file, error=error, most=most, own=own)
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


def read_text(file: Path, *, error: type[NbllmError], most: int = _MOST, own: bool = False) -> str:
    """Return the text of a file in UTF-8.

    Args:
        file: Its path.
        error: The class of the error where it cannot be read.
        most: The most bytes that it may have.
        own: Only read a file of this user's, and follow no link.

    Raises:
        NbllmError: `error`: the file is missing, not a regular one, larger, or not UTF-8.
    """
    # Not blocking, for a FIFO that nobody writes to; the opened file itself is checked.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    try:
        opened = os.open(file, flags | (getattr(os, "O_NOFOLLOW", 0) if own else 0))
        try:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{file} is not a regular file, and is not read. Remove it.")
            if own and not is_users_file(status):
                raise error(f"{file} is another user's, and is not read. Remove it.")
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


def is_users_file(status: os.stat_result) -> bool:
    """Whether a file is a regular one, and this user's where the system has users.

    Args:
        status: As `os.stat` returns it.
    """
    user = getattr(os, "geteuid", None)
    return stat.S_ISREG(status.st_mode) and (user is None or status.st_uid == user())


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

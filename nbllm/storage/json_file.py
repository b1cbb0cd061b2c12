"""Reads untrusted JSON files within limits of size, depth and type.

A FIFO blocks the process that opens it, a large file fills the memory, and deeply nested values
overflow the interpreter's stack.
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

_MAX_BYTES = 10_000_000
_MAX_DEPTH = 64  # nested lists and objects; configurations have fewer than ten


class _UnreadableError(NbllmError):
    """The error of `find_object`, which does not leave this module."""


def find_object(
    file: Path, *, max_bytes: int = _MAX_BYTES, own_only: bool = False
) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where `read_object` would raise.

    Args:
        file: The path of the file.
        max_bytes: The largest size of the file.
        own_only: Whether to read only this user's files and follow no links.
    """
    try:
        return read_object(file, error=_UnreadableError, max_bytes=max_bytes, own_only=own_only)
    except _UnreadableError:
        return None


def read_object(
    file: Path, *, error: type[NbllmError], max_bytes: int = _MAX_BYTES, own_only: bool = False
) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        file: The path of the file.
        error: The class of the error to raise.
        max_bytes: The largest size of the file.
        own_only: Whether to read only this user's files and follow no links.

    Raises:
        NbllmError: An `error`: the file is missing, not a regular file, too large, nested too
            deeply, or not a JSON object in UTF-8.
    """
    found = read_json(file, error=error, max_bytes=max_bytes, own_only=own_only)
    if not isinstance(found, dict):
        raise error(
            f"{file} has to hold a JSON object, and holds {with_article(type(found).__name__)}. "
            "Fetch it again, or ask whoever wrote it."
        )
    return found


def read_json(
    file: Path, *, error: type[NbllmError], max_bytes: int = _MAX_BYTES, own_only: bool = False
) -> Any:
    """Return the value in a JSON file, of any type.

    Args:
        file: The path of the file.
        error: The class of the error to raise.
        max_bytes: The largest size of the file.
        own_only: Whether to read only this user's files and follow no links.

    Raises:
        NbllmError: As in `read_object`, but for a value of any type.
    """
    text = read_text(file, error=error, max_bytes=max_bytes, own_only=own_only)
    try:
        found = json.loads(text)
    except RecursionError:
        raise _too_deep(file, error) from None
    except ValueError as problem:
        raise error(
            f"{file} is not JSON ({problem}). Fetch it again, or ask whoever wrote it."
        ) from problem
    if _is_deeper(found, _MAX_DEPTH):
        raise _too_deep(file, error)
    return found


def read_text(
    file: Path, *, error: type[NbllmError], max_bytes: int = _MAX_BYTES, own_only: bool = False
) -> str:
    """Return the text of a UTF-8 file.

    Args:
        file: The path of the file.
        error: The class of the error to raise.
        max_bytes: The largest size of the file.
        own_only: Whether to read only this user's files and follow no links.

    Raises:
        NbllmError: An `error`: the file is missing, not a regular file, too large, or not UTF-8.
    """
    # Non-blocking, for a FIFO without a writer; the type of the opened file is checked below.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    try:
        opened = os.open(file, flags | (getattr(os, "O_NOFOLLOW", 0) if own_only else 0))
        try:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{file} is not a regular file, and is not read. Remove it.")
            if own_only and not is_users_file(status):
                raise error(f"{file} is another user's, and is not read. Remove it.")
            with os.fdopen(opened, "rb", closefd=False) as stream:
                content = stream.read(max_bytes + 1)
        finally:
            os.close(opened)
    except NbllmError:  # raised above; some are OSErrors too
        raise
    except OSError as problem:
        raise error(f"{file} cannot be read ({problem.strerror}). Check the file.") from problem
    if len(content) > max_bytes:
        raise error(
            f"{file} has more than {counted(max_bytes, 'byte')}, which no such file needs, and is "
            "not read. Fetch it again, or ask whoever wrote it."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{file} is not text in UTF-8 (byte {problem.start:,}). Fetch it again, or ask whoever "
            "wrote it."
        ) from problem


def is_users_file(status: os.stat_result) -> bool:
    """Return whether a file is a regular file and, where systems have users, this user's.

    Args:
        status: The result of `os.stat` for the file.
    """
    user = getattr(os, "geteuid", None)
    return stat.S_ISREG(status.st_mode) and (user is None or status.st_uid == user())


def _too_deep(file: Path, error: type[NbllmError]) -> NbllmError:
    return error(
        f"{file} nests values more than {_MAX_DEPTH} deep, which no such file needs, and is not "
        "read. Fetch it again, or ask whoever wrote it."
    )


def _is_deeper(value: Any, limit: int) -> bool:
    """Return whether lists and objects are nested more than `limit` deep."""
    level = [value]
    for _ in range(limit):
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

"""Bounds the header of a GGUF file before gguf reads it."""

from __future__ import annotations

import mmap
import stat
import struct
from pathlib import Path

from nbllm.errors import UnsupportedModelError
from nbllm.wording import counted

__all__ = ["LONGEST_HEADER", "check_header"]

LONGEST_HEADER = 64_000_000  # bytes, in which the largest vocabularies have room
_MOST_TENSORS = 100_000
_MOST_FIELDS = 10_000
_MOST_STRINGS = 2_000_000  # in all arrays together; 262,144 tokens with their merges are 800,000
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_LARGEST = 2**48  # weights along one dimension

_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes
_STRING, _ARRAY = 8, 9
_COUNT, _TYPE = struct.Struct("<Q"), struct.Struct("<I")


def check_header(file: Path) -> None:
    """Refuse a file whose header does not end, or holds more than that of any model.

    Args:
        file: the GGUF file.

    Raises:
        UnsupportedModelError: saying why.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise UnsupportedModelError(f"{file} is not a regular file, and is not read.")
    with file.open("rb") as opened:
        magic = opened.read(4)
    if magic != b"GGUF":
        raise UnsupportedModelError(
            f"{file.name} cannot be read as GGUF: it does not begin as such a file does. Check "
            "that it is what its name says."
        )
    size = file.stat().st_size
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), min(size, LONGEST_HEADER), access=mmap.ACCESS_READ) as head,
    ):
        try:
            _Walk(head).all()
        except struct.error as error:  # beyond the end
            reason = (
                f"with {counted(size, 'byte')} it is cut off, or it is damaged"
                if size <= LONGEST_HEADER
                else f"its header does not end within {counted(LONGEST_HEADER, 'byte')}"
            )
            raise UnsupportedModelError(
                f"{file.name} cannot be read as GGUF: {reason}. Fetch it again."
            ) from error
        except _Excess as error:
            raise UnsupportedModelError(
                f"{file.name} cannot be read as GGUF: its header states {error}, which no model "
                "has. Fetch it again, or ask whoever wrote it."
            ) from error


class _Excess(Exception):
    """A header states more than any model has."""


class _Walk:
    """A position in a header, which moves on; it raises struct.error beyond the end."""

    def __init__(self, head: mmap.mmap) -> None:
        self.head, self.place, self.strings = head, 8, 0

    def all(self) -> None:
        tensors, fields = self.count(), self.count()
        _check("tensors", tensors, _MOST_TENSORS)
        _check("fields", fields, _MOST_FIELDS)
        for _ in range(fields):
            self.skip(self.count())
            self.value(self.type())
        for _ in range(tensors):
            self.skip(self.count())
            dimensions = self.type()
            _check("dimensions", dimensions, _MOST_DIMENSIONS)
            for _ in range(dimensions):
                _check("weights along a dimension", self.count(), _LARGEST)
            self.skip(_TYPE.size + _COUNT.size)

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.count())
        elif kind == _ARRAY:
            self.array(self.type(), self.count())
        elif kind in _WIDTHS:
            self.skip(_WIDTHS[kind])
        else:
            raise _Excess(f"a value of type {kind}")

    def array(self, kind: int, length: int) -> None:
        if kind in _WIDTHS:
            self.skip(_WIDTHS[kind] * length)
        elif kind == _STRING:
            self.strings += length
            _check("strings", self.strings, _MOST_STRINGS)
            for _ in range(length):
                self.skip(self.count())
        else:
            raise _Excess(f"an array of type {kind}")

    def count(self) -> int:
        (found,) = _COUNT.unpack_from(self.head, self.place)
        self.place += _COUNT.size
        return int(found)

    def type(self) -> int:
        (found,) = _TYPE.unpack_from(self.head, self.place)
        self.place += _TYPE.size
        return int(found)

    def skip(self, length: int) -> None:
        self.place += length
        if self.place > len(self.head):
            raise struct.error("beyond the end")


def _check(what: str, stated: int, most: int) -> None:
    if stated > most:
        raise _Excess(f"{stated:,} {what}")

"""Storage of recorded queries and keys: in memory, or in a memory-mapped file.

The file is written, not mapped, while a pass runs: mapped pages would count as the process's
memory, and a full disk would kill it instead of raising an error. It is mapped afterwards.
"""

from __future__ import annotations

import tempfile
import weakref
from contextlib import suppress
from io import FileIO
from pathlib import Path

import torch

from nbllm.errors import NbllmError

__all__ = ["Storage", "Tape"]

_ALIGNED = 16  # bytes, at whose multiples numbers of any dtype may begin


class Storage:
    """Makes tapes; its file is deleted with the last object that holds it.

    Args:
        offload: True for a file in the system's folder for temporary ones, or the folder to make
            it in; False for memory.

    Raises:
        NbllmError: Nothing can be written there.
    """

    def __init__(self, offload: bool | str | Path = False) -> None:
        self.file: File | None = None
        if offload is False:
            return
        parent = Path(tempfile.gettempdir() if offload is True else offload).expanduser()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix="nbllm-recording-", dir=parent)
        except OSError as error:
            raise _unwritable(parent, error) from error
        self.file = File(FileIO(handle, "r+b"), Path(path))
        weakref.finalize(self, self.file.delete)

    def tape(self, capacity: int) -> Tape:
        """Return a tape for up to `capacity` tokens."""
        return Tape(capacity, self.file)


class Tape:
    """A tensor (heads, tokens, width) that is written some tokens at a time."""

    def __init__(self, capacity: int, file: File | None) -> None:
        self.capacity = capacity
        self.length: int = 0
        self._file = file
        self._start = 0  # in the file
        self._kept: torch.Tensor | None = None

    def append(self, part: torch.Tensor) -> None:
        """Append (heads, tokens, width)."""
        part = part.detach()
        if self._file is not None:
            self._write(self._file, part.cpu())
        elif part.shape[1] == self.capacity:
            # A view into a fused q, k, v projection would keep all of it alive.
            self._kept = part.contiguous()
        else:
            if self._kept is None:
                self._kept = part.new_empty(part.shape[0], self.capacity, part.shape[2])
            self._kept[:, self.length : self.length + part.shape[1]] = part
        self.length += part.shape[1]

    def read(self) -> torch.Tensor:
        """Return all that was written: (heads, tokens, width)."""
        kept = self._kept
        if kept is None:
            raise ValueError("nothing was written on this tape")
        if self._file is not None:
            size = kept.shape[0] * self.capacity * kept.shape[2] * kept.itemsize
            numbers = self._file.read(self._start, size).view(kept.dtype)
            kept = numbers.view(kept.shape[0], self.capacity, kept.shape[2])
        return kept[:, : self.length]

    def _write(self, file: File, part: torch.Tensor) -> None:
        line = part.shape[2] * part.itemsize  # bytes of one token of one head
        if self._kept is None:
            self._start = file.take(part.shape[0] * self.capacity * line)
            # Of the tensor itself only what it is like: heads, width and dtype.
            self._kept = torch.empty(part.shape[0], 0, part.shape[2], dtype=part.dtype)
        if part.shape[1] == self.capacity:
            file.write(self._start, part)
            return
        for head, lines in enumerate(part):
            file.write(self._start + (head * self.capacity + self.length) * line, lines)


class File:
    """The file of one recording, in which each tape has a place of its own."""

    def __init__(self, writing: FileIO, path: Path) -> None:
        # Kept open: to open it for every tape of a short text takes longer than to write them.
        self._writing = writing
        self.path = path
        self._size = 0  # of all places taken, in bytes
        self._mapped = torch.empty(0, dtype=torch.uint8)

    def take(self, size: int) -> int:
        """Reserve `size` bytes for a tape, and return where they start."""
        start = self._size
        self._size += size + -size % _ALIGNED
        return start

    def write(self, start: int, numbers: torch.Tensor) -> None:
        """Write numbers, row after row, from byte `start` on."""
        left = numbers.contiguous().view(torch.uint8).numpy().reshape(-1).data
        try:
            if self._writing.closed:
                self._writing = FileIO(self.path, "r+b")
            self._writing.seek(start)
            while left:
                left = left[self._writing.write(left) :]
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def read(self, start: int, size: int) -> torch.Tensor:
        """Return bytes as a mapped tensor, which is read from the disk on access."""
        # A recording is kept for long, and a process may have few files open.
        self._writing.close()
        if self._mapped.numel() < self._size:
            try:
                with self.path.open("r+b") as file:
                    file.truncate(self._size)  # a generation may end early
                # Not shared, all of it would count as memory that is promised to the process.
                self._mapped = torch.from_file(
                    str(self.path), shared=True, size=self._size, dtype=torch.uint8
                )
            except (OSError, RuntimeError) as error:
                raise _unwritable(self.path.parent, error) from error
        return self._mapped[start : start + size]

    def delete(self) -> None:
        """Delete the file; tensors that have it mapped can still be read."""
        self._writing.close()
        with suppress(OSError):  # Windows keeps it while it is mapped
            self.path.unlink()


def _unwritable(folder: Path, error: Exception) -> NbllmError:
    return NbllmError(
        f"The recording cannot be kept in {folder}: {error}. Give offload= a folder on a disk "
        "with room, or record fewer layers."
    )

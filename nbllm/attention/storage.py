"""Where recorded queries and keys lie: in memory, or in files that are read where looked at.

Files are written, not mapped, while a pass runs: mapped pages would count as the process's
memory, and a full disk would kill it instead of raising an error. They are mapped afterwards.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from pathlib import Path

import torch

from nbllm.errors import NbllmError

__all__ = ["Storage", "Tape"]


class Storage:
    """Gives out tapes; its files are deleted with the last that holds it.

    Args:
        offload: True for files in the system's folder for temporary ones, or the folder to make
            them in; False for memory.

    Raises NbllmError where nothing can be written there.
    """

    def __init__(self, offload: bool | str | Path = False) -> None:
        self.folder: Path | None = None
        self._tapes = 0
        if offload is False:
            return
        parent = None if offload is True else Path(offload).expanduser()
        try:
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="nbllm-recording-", dir=parent))
        except OSError as error:
            raise _unwritable(parent or Path(tempfile.gettempdir()), error) from error
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def tape(self, capacity: int) -> Tape:
        """One that takes up to `capacity` tokens."""
        self._tapes += 1
        file = None if self.folder is None else self.folder / f"{self._tapes}.tensor"
        return Tape(capacity, file)


class Tape:
    """A tensor (heads, tokens, width) that is written some tokens at a time."""

    def __init__(self, capacity: int, file: Path | None) -> None:
        self.capacity = capacity
        self.length = 0
        self._file = file
        self._kept: torch.Tensor | None = None

    def append(self, part: torch.Tensor) -> None:
        """Write (heads, tokens, width) behind what is there."""
        part = part.detach()
        if self._file is not None:
            self._write(self._file, part)
            # Of the tensor itself only what it is like: heads, width and dtype.
            self._kept = torch.empty(part.shape[0], 0, part.shape[2], dtype=part.dtype)
        elif part.shape[1] == self.capacity:
            # A view into a fused q, k, v projection would keep all of it alive.
            self._kept = part.contiguous()
        else:
            if self._kept is None:
                self._kept = part.new_empty(part.shape[0], self.capacity, part.shape[2])
            self._kept[:, self.length : self.length + part.shape[1]] = part
        self.length += part.shape[1]

    def read(self) -> torch.Tensor:
        """All of it: (heads, tokens, width)."""
        kept = self._kept
        if kept is None:
            raise ValueError("nothing was written on this tape")
        if self._file is not None:
            shape = (kept.shape[0], self.capacity, kept.shape[2])
            size = math.prod(shape)
            try:
                with self._file.open("r+b") as file:
                    file.truncate(size * kept.itemsize)  # a generation may end early
                kept = torch.from_file(
                    str(self._file), shared=False, size=size, dtype=kept.dtype
                ).view(shape)
            except (OSError, RuntimeError) as error:
                raise _unwritable(self._file.parent, error) from error
        return kept[:, : self.length]

    def _write(self, path: Path, part: torch.Tensor) -> None:
        line = part.shape[2] * part.itemsize  # bytes of one token of one head
        try:
            with path.open("r+b" if self.length else "wb") as file:
                for head, lines in enumerate(part):
                    file.seek((head * self.capacity + self.length) * line)
                    file.write(lines.contiguous().cpu().view(torch.uint8).numpy().data)
        except OSError as error:
            raise _unwritable(path.parent, error) from error


def _unwritable(folder: Path, error: Exception) -> NbllmError:
    return NbllmError(
        f"The recording cannot be kept in {folder}: {error}. Give offload= a folder on a disk "
        "with room, or record fewer layers."
    )

"""Tapes in memory and in files."""

import gc
from pathlib import Path

import pytest
import torch

from nbllm.attention.storage import Storage, Tape
from nbllm.errors import NbllmError


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.bool])
@pytest.mark.parametrize("steps", [[7], [4, 1, 1], [1, 1]])
def test_what_is_written_is_read(offload, dtype, steps) -> None:
    parts = [(torch.randn(3, step, 5) * 3).to(dtype) for step in steps]
    storage = Storage(offload)
    tape = storage.tape(7)
    for part in parts:
        # As a projection hands it over: tokens first in memory.
        tape.append(part.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(tape.read(), torch.cat(parts, dim=1))
    assert tape.read().dtype == dtype


def test_files_go_with_their_last_reader(tmp_path) -> None:
    storage = Storage(tmp_path / "here")
    tape = storage.tape(2)
    tape.append(torch.ones(1, 2, 3))
    (folder,) = (tmp_path / "here").iterdir()
    assert [file.stat().st_size for file in folder.iterdir()] == [2 * 3 * 4]
    read = tape.read()
    del storage, tape
    gc.collect()
    assert not folder.exists()
    assert read.sum() == 6  # still there for what has it mapped


def test_memory_holds_no_fused_projection() -> None:
    fused = torch.randn(4, 10, 300)
    tape = Storage().tape(10)
    tape.append(fused[:, :, 100:200])
    assert tape.read().untyped_storage().nbytes() == 4 * 10 * 100 * 4


def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NbllmError, match=r"cannot be kept in .*file.*Give offload= a folder"):
        Storage(tmp_path / "file" / "below")


def test_a_disk_that_is_full() -> None:
    with pytest.raises(NbllmError, match=r"No space left on device.*a disk with room"):
        Tape(2, Path("/dev/full")).append(torch.ones(1, 2, 3))


def test_a_folder_that_went_away(tmp_path) -> None:
    storage = Storage(tmp_path)
    tape = storage.tape(2)
    storage.folder.rename(tmp_path / "gone")
    with pytest.raises(NbllmError, match="cannot be kept in"):
        tape.append(torch.ones(1, 2, 3))

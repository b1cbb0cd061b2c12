"""Tapes in memory and in files."""

import gc
from io import FileIO
from pathlib import Path

import pytest
import torch

from nbllm.attention.recording.storage import File, Storage, Tape
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


def test_a_file_goes_with_its_last_reader(tmp_path) -> None:
    storage = Storage(tmp_path / "here")
    tape = storage.tape(2)
    tape.append(torch.ones(1, 2, 3))
    (file,) = (tmp_path / "here").iterdir()
    assert file.stat().st_size == 2 * 3 * 4
    read = tape.read()
    del storage, tape
    gc.collect()
    assert not file.exists()
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
    with FileIO("/dev/full", "r+b") as full:
        tape = Tape(2, File(full, Path("/dev/full")))
        with pytest.raises(NbllmError, match=r"No space left on device.*a disk with room"):
            tape.append(torch.ones(1, 2, 3))


def test_a_file_that_went_away(tmp_path) -> None:
    storage = Storage(tmp_path)
    tape = storage.tape(2)
    tape.append(torch.ones(1, 2, 3))
    storage.file.path.unlink()
    with pytest.raises(NbllmError, match="cannot be kept in"):
        tape.read()


def test_tapes_share_a_file_in_any_order_of_writing_and_reading(tmp_path) -> None:
    storage = Storage(tmp_path)
    parts = [
        torch.rand(3, 5, 1) < 0.5,
        torch.randn(1, 5, 3, dtype=torch.float64),
        torch.randn(2, 5, 7).to(torch.bfloat16),
    ]
    tapes = [storage.tape(6) for _ in parts]
    early = []
    for first, last in ((0, 3), (3, 5)):
        for tape, part in zip(tapes, parts, strict=True):
            tape.append(part[:, first:last])
            early.append(tape.read())
    for tape, part, before in zip(tapes, parts, early, strict=False):
        assert torch.equal(tape.read(), part)
        assert torch.equal(before, part[:, :3])
    assert len(list(tmp_path.iterdir())) == 1


def test_recordings_kept_hold_no_file_open(tmp_path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    kept = [Storage(tmp_path) for _ in range(20)]
    for storage in kept:
        tape = storage.tape(2)
        for _ in range(2):  # the second is written where the file is mapped already
            tape.append(torch.ones(1, 1, 1))
            tape.read()
    assert len(list(Path("/dev/fd").iterdir())) == before

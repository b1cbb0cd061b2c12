"""Files among the records of jobs and processes that nbllm did not write."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nbllm.activity import jobs as module
from nbllm.activity.jobs import Job, cancel, jobs
from nbllm.activity.processes import HeldModel, announce, processes
from nbllm.activity.records import create_flag, is_own_file, read_record
from nbllm.errors import ActivityError, UnknownJobError
from nbllm.lab.status import status

WRONG = [
    None, True, -1, 1 << 70, 10**4000, 1.5, float("nan"), float("inf"), "", "x", "\ud800<b>", "\0",
    "../../x", [], [[]], {}, {"x": 1}, "x" * 100_000,
]  # fmt: skip


@pytest.fixture
def job() -> Any:
    begun = Job.begin(verb="sentiment", output="o", model="m", rows=9, texts=8)
    yield begun
    begun.end("done")


@pytest.fixture
def records(folder: Path, job: Job) -> list[Path]:
    """The record of a job and that of a process, on disk."""
    held = HeldModel("k", "m", "none", "float32", "cpu", 1, 1, {"cpu": 1})
    announce([held])
    found = sorted(folder.rglob("*.json"))
    assert len(found) == 2
    return found


def looked_at() -> list[Any]:
    """What the panel asks for, as it is sent: numbers have an end there, and no NaN."""
    module._ended_records.clear()
    told = status().payload({}, Path.cwd())
    return [json.dumps(told, allow_nan=False)]


def test_a_flag_that_is_a_link_is_not_followed(folder: Path, job: Job, tmp_path: Path) -> None:
    flag = folder / "jobs" / f"{job.id}.cancel"
    for target in (tmp_path / "new", tmp_path / "old"):
        if target.name == "old":
            target.write_text("content")
            os.utime(target, (1, 1))
        flag.symlink_to(target)
        assert not job.cancelled
        with pytest.raises(ActivityError, match="Interrupt its kernel"):
            cancel(job.id)
        assert not target.exists() or (target.stat().st_mtime, target.read_text()) == (1, "content")
        flag.unlink()
    cancel(job.id)
    cancel(job.id)  # who asks twice gets what was asked for
    assert job.cancelled and flag.stat().st_mode & 0o777 == 0o600


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    path.with_name("elsewhere").write_text("{}")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_fifo, make_link, make_folder, make_device])
def test_what_is_no_file_is_neither_waited_for_nor_read_nor_removed(
    make: Any, records: list[Path]
) -> None:
    started = time.monotonic()
    for path in records:
        odd = path.with_name(path.name.replace(path.stem[:3], "0f0"))
        flag = odd.with_suffix(".cancel")
        make(odd)
        make(flag)
        assert read_record(odd) is None and not is_own_file(flag)
        with pytest.raises(OSError):
            create_flag(flag)
        looked_at()
        with pytest.raises((UnknownJobError, ActivityError)):
            cancel(odd.stem)
        assert odd.is_symlink() or odd.exists()
    assert len(jobs()) == len(processes()) == 1
    assert time.monotonic() - started < 5


def test_another_users_files_are_nobodys_here(
    records: list[Path], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel(job.id)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert jobs() == [] and processes() == [] and not job.cancelled
    assert all(path.exists() for path in records)


def test_a_record_without_end_is_not_read(records: list[Path]) -> None:
    for path in records:
        with path.open("r+b") as file:
            file.truncate(200_000_000)
    started = time.process_time()
    assert jobs() == [] and processes() == []
    assert time.process_time() - started < 1


def test_every_field_with_every_wrong_value(records: list[Path]) -> None:
    for path in records:
        right = json.loads(path.read_text())
        assert looked_at()
        for name in right:
            inner = right[name][0] if isinstance(right[name], list) and right[name] else right[name]
            for wrong in WRONG:
                path.write_text(json.dumps({**right, name: wrong}, default=str))
                looked_at()
                for key in inner if isinstance(inner, dict) else ():
                    changed: Any = {**inner, key: wrong}
                    changed = [changed] if isinstance(right[name], list) else changed
                    path.write_text(json.dumps({**right, name: changed}))
                    looked_at()
                    if not path.exists():  # a damaged record of a process is removed
                        path.write_text("{}")
        for damaged in (b"", b"\xff\xfe", b"[" * 100_000, b"null", b"[1]", b'"x"', b"{"):
            path.write_bytes(damaged)
            looked_at()
            assert not path.exists() or path.suffix == ".json"
        path.write_text(json.dumps(right))
    assert asdict(jobs()[0])["verb"] == "sentiment"

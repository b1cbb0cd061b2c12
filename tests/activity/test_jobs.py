"""Runs as other processes see them: on disk, whole, and stopped from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbllm.activity import jobs as module
from nbllm.activity.jobs import Job, JobRecord, cancel, jobs
from nbllm.errors import ActivityError, UnknownJobError
from nbllm.home import home


def begin(verb: str = "sentiment") -> Job:
    return Job.begin(verb=verb, output="r_sentiment", model="smollm2", rows=10, texts=8)


def update(job: Job, answered: int, **others: Any) -> None:
    counts = {"known": 1, "failed": 2, "share": 0.25, "rows_per_second": 4.5, "seconds_left": 1.5}
    job.update(answered=answered, **counts | others)


def only() -> JobRecord:
    (record,) = jobs()
    return record


# A run in another process, which says its id and then asks after every batch whether to go on.
WORKER = """
import sys, time
from nbllm.activity.jobs import Job
job = Job.begin(verb="filter", output="o", model="m", rows=9, texts=9)
print(job.id, flush=True)
while not job.cancelled:
    time.sleep(0.01)
job.end("cancelled")
"""


@pytest.fixture
def worker() -> Any:
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_job_is_seen_from_its_beginning_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    before = time.time()
    job = begin()
    seen = only()
    assert (seen.id, seen.state, seen.answered, seen.cancelling) == (job.id, "running", 0, False)
    assert (seen.verb, seen.output, seen.model) == ("sentiment", "r_sentiment", "smollm2")
    assert (seen.rows, seen.texts, seen.owner.pid) == (10, 8, os.getpid())
    assert before <= seen.started <= seen.updated <= time.time()
    update(job, 3)
    seen = only()
    assert (seen.answered, seen.known, seen.failed) == (3, 1, 2)
    assert (seen.rows_per_second, seen.seconds_left) == (4.5, 1.5)
    job.end("failed", "OSError: no space")
    seen = only()
    assert (seen.state, seen.error, seen.seconds_left) == ("failed", "OSError: no space", None)


def test_updates_reach_the_disk_four_times_a_second_and_the_last_one_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[int] = []
    keep = module.write_record

    def counted(path: Path, record: dict[str, Any]) -> bool:
        written.append(record["answered"])
        return keep(path, record)

    monkeypatch.setattr(module, "write_record", counted)
    now = iter(range(10_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now) / 100)  # 10 ms a look
    job = begin()
    for answered in range(1, 1001):
        update(job, answered)
    seconds = next(now) / 100
    assert 2 <= len(written) / seconds <= 5
    job.end("done")
    job.end("failed", "too late")
    update(job, 1)  # of a thread that has not heard of the end
    assert written[-1] == only().answered == 1000
    assert (only().state, only().error) == ("done", "")


def test_a_number_that_json_has_not_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    job = begin()
    update(job, 1, rows_per_second=float("inf"), seconds_left=float("nan"))
    assert (only().rows_per_second, only().seconds_left) == (0.0, None)


def test_the_newest_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1000.0, 2000.0, 3000.0])
    monkeypatch.setattr(module.time, "time", lambda: next(clock))
    for verb in ("classify", "extract", "mask"):
        begin(verb)
    assert [record.verb for record in jobs()] == ["mask", "extract", "classify"]


def test_a_job_of_another_process_is_cancelled(worker: subprocess.Popen[str]) -> None:
    job_id = first_line(worker)
    assert (only().id, only().state, only().owner.pid) == (job_id, "running", worker.pid)
    cancel(job_id)
    assert worker.wait(10) == 0
    assert (only().state, only().cancelling) == ("cancelled", False)


def test_between_the_flag_and_the_end_it_is_cancelling() -> None:
    job = begin()
    assert not job.cancelled
    cancel(job.id)
    cancel(job.id)  # impatience does no harm
    assert job.cancelled and only().cancelling and only().state == "running"
    job.end("cancelled")
    assert not only().cancelling


def test_a_job_whose_process_was_killed_is_lost(worker: subprocess.Popen[str]) -> None:
    job_id = first_line(worker)
    os.kill(worker.pid, signal.SIGKILL)
    # Not waited for: it is a zombie, whose number still stands.
    until = time.monotonic() + 10
    while only().state == "running" and time.monotonic() < until:
        time.sleep(0.01)
    assert only().state == "lost"
    worker.wait()
    assert only().state == "lost"
    with pytest.raises(ActivityError, match="is not running: it is lost"):
        cancel(job_id)


def test_a_job_that_ends_while_it_is_looked_at_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = begin()

    def ended(owner: Any) -> bool:
        job.end("done")
        return False

    monkeypatch.setattr(module.Owner, "is_alive", property(ended))
    assert only().state == "done"


def test_a_job_stays_where_it_began(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("NBLLM_ACTIVITY", "activity")
    job = begin()
    cancel(job.id)
    (folder.parent / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert job.cancelled
    job.end("cancelled")
    monkeypatch.setenv("NBLLM_ACTIVITY", str(folder))
    assert only().state == "cancelled"


def test_a_number_that_another_process_got_since_does_not_count(folder: Path) -> None:
    job = begin()
    path = folder / "jobs" / f"{job.id}.json"
    record = json.loads(path.read_text())
    record["owner"]["started"] -= 60
    path.write_text(json.dumps(record))
    assert only().state == "lost"


def test_on_another_machine_silence_is_what_tells(folder: Path) -> None:
    job = begin()
    path = folder / "jobs" / f"{job.id}.json"
    record = json.loads(path.read_text())
    record["owner"] |= {"space": "elsewhere", "pid": 1}
    path.write_text(json.dumps(record))
    assert only().state == "running"
    record["updated"] -= 3600
    path.write_text(json.dumps(record))
    assert only().state == "lost"


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "interrupted"])
def test_what_has_ended_cannot_be_cancelled(end: Any) -> None:
    job = begin()
    job.end(end)
    with pytest.raises(ActivityError, match=f"is not running: it is {end}"):
        cancel(job.id)


@pytest.mark.parametrize(
    "name", ["", "none", "../../secret", "/etc/passwd", "0" * 12, f"{'0' * 12}-{'0' * 8}", "a\0b"]
)
def test_what_is_not_there_cannot_be_cancelled(name: str, folder: Path) -> None:
    begin()
    before = sorted(folder.rglob("*"))
    with pytest.raises(UnknownJobError, match="There is no job"):
        cancel(name)
    assert sorted(folder.rglob("*")) == before


def damaged(kind: str) -> Callable[[dict[str, Any]], str]:
    return {
        "no JSON": lambda record: json.dumps(record)[:50],
        "a list": lambda record: "[1]",
        "deep": lambda record: "[" * 100_000,
        "a field gone": lambda record: json.dumps({k: v for k, v in record.items() if k != "rows"}),
        "no number": lambda record: json.dumps(record | {"rows": "many"}),
        "not finite": lambda record: json.dumps(record | {"seconds_left": float("inf")}),
        "a state unknown": lambda record: json.dumps(record | {"state": "<b>"}),
        "a unit unknown": lambda record: json.dumps(record | {"unit": "<b>"}),
        "a state of no kind": lambda record: json.dumps(record | {"state": ["running"]}),
        "no owner": lambda record: json.dumps(record | {"owner": None}),
        "a pid of nobody": lambda record: json.dumps(
            record | {"owner": record["owner"] | {"pid": -(10**30)}}
        ),
        "another's id": lambda record: json.dumps(record | {"id": "../../x"}),
        "bytes": lambda record: "\udcff",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("no JSON", "a list", "deep", "a field gone", "no number", "not finite"),
        *("a state unknown", "a state of no kind", "a unit unknown"),
        *("no owner", "another's id", "bytes"),
    ],
)
def test_a_damaged_record_is_left_out(kind: str, folder: Path) -> None:
    bad, good = begin(), begin()
    path = folder / "jobs" / f"{bad.id}.json"
    text = damaged(kind)(json.loads(path.read_text()))
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert [record.id for record in jobs()] == [good.id]
    with pytest.raises(UnknownJobError):
        cancel(bad.id)


def test_a_process_number_that_cannot_be_is_a_lost_job(folder: Path) -> None:
    path = folder / "jobs" / f"{begin().id}.json"
    path.write_text(damaged("a pid of nobody")(json.loads(path.read_text())))
    assert only().state == "lost"


def test_other_files_in_the_folder_do_not_matter(folder: Path) -> None:
    job = begin()
    (folder / "jobs" / "notes.json").write_text("{}")
    (folder / "jobs" / f"{'f' * 12}-{'f' * 8}.json").mkdir()
    assert only().id == job.id


def test_of_many_the_last_200_are_kept_and_what_is_at_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.time()
    clock = iter(start + i for i in range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(module.time, "time", lambda: next(clock))
        running, *ended = [begin() for _ in range(3)]
        for job in ended:
            cancel(job.id)
            job.end("done")
        for _ in range(210):
            begin().end("done")
    seen = jobs()
    assert [job.id for job in seen if job.state == "running"] == [running.id]
    assert len(seen) == 201
    assert not {job.id for job in ended} & {job.id for job in seen}
    assert len(list((folder / "jobs").iterdir())) == 201


def test_what_a_killed_writer_left_is_swept_away(folder: Path) -> None:
    begin().end("done")
    old, new = (folder / "jobs" / f"x{i}.part" for i in range(2))
    for path in (old, new):
        path.write_text("{")
    os.utime(old, (0, 0))
    begin()
    assert not old.exists() and new.exists()


@pytest.fixture(params=["a file in the way", "a folder that takes nothing"])
def closed(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be written, in two ways that hold for root too."""
    if request.param == "a file in the way":
        folder.write_text("")
    else:
        monkeypatch.setenv("NBLLM_ACTIVITY", "/proc/self")


@pytest.mark.usefixtures("closed")
def test_a_home_that_cannot_be_written_stops_nothing() -> None:
    job = begin()
    update(job, 8)
    assert not job.cancelled and jobs() == []
    job.end("done")
    with pytest.raises(UnknownJobError):
        cancel(job.id)


def test_a_full_disk_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_PAUSE", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("nbllm.activity.records.os.replace", full)
        update(job, 4)
    assert only().answered == 0
    assert [path.suffix for path in (folder / "jobs").iterdir()] == [".json"]
    update(job, 5)
    assert only().answered == 5


def test_a_reader_that_is_in_the_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin()
    replace, refusals = os.replace, iter([PermissionError(13, "in use")] * 2)

    def busy(*paths: Any) -> None:
        for refusal in refusals:
            raise refusal
        replace(*paths)

    monkeypatch.setattr("nbllm.activity.records.os.replace", busy)
    job.end("done")
    assert only().state == "done"


def test_a_request_that_the_disk_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin()

    def refused(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module, "create_flag", refused)
    with pytest.raises(ActivityError, match=r"Read-only file system.*Interrupt its kernel"):
        cancel(job.id)


def test_a_reader_never_sees_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    running = [begin() for _ in range(2)]

    def write(job: Job) -> None:
        for answered in range(300):
            update(job, answered)

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(write, job) for job in running]
        looks = 0
        while not all(end.done() for end in ends):
            assert len(jobs()) == 2
            looks += 1
    assert looks > 5
    for end in ends:
        end.result()


def test_two_processes_write_at_once(folder: Path) -> None:
    code = (
        "from nbllm.activity.jobs import Job\n"
        "for i in range(60):\n"
        "    Job.begin(verb='v', output='o', model='m', rows=i, texts=i).end('done')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    seen = jobs()
    assert len(seen) == len({job.id for job in seen}) == 120
    assert {job.state for job in seen} == {"done"}


def test_nobody_else_can_read_it(folder: Path) -> None:
    job = begin()
    assert (folder / "jobs" / f"{job.id}.json").stat().st_mode & 0o077 == 0


def test_it_lies_in_the_home_where_nothing_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NBLLM_ACTIVITY")
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    job = begin()
    assert (home() / "activity" / "jobs" / f"{job.id}.json").is_file()


def test_a_list_of_200_is_quick_once_it_was_read() -> None:
    for _ in range(200):
        begin().end("done")
    jobs()
    start = time.process_time()
    jobs()
    assert time.process_time() - start < 0.05


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, nbllm.activity.jobs, nbllm.activity.processes\n"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

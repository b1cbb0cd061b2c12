"""Records of runs of verbs and of trainings, with flags to cancel them."""

from __future__ import annotations

import math
import re
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

from nbllm.activity.owner import Owner, this_process
from nbllm.activity.records import (
    activity_folder,
    create_flag,
    delete,
    finite_number,
    is_own_file,
    read_record,
    record_files,
    remove_unfinished,
    write_record,
)
from nbllm.errors import ActivityError, UnknownJobError

__all__ = ["EndState", "Job", "JobRecord", "State", "Unit", "cancel", "jobs"]

EndState = Literal["done", "failed", "cancelled", "interrupted"]
State = Literal["running", "done", "failed", "cancelled", "interrupted", "lost"]
Unit = Literal["text", "step"]

_MAX_RECORDS = 200
_PAUSE = 0.22  # seconds between two updates on disk, at least
_TIMEOUT = 120.0  # seconds without an update until a run on another machine is lost
_MAX_ERROR = 2000  # characters

# Sorts by start time, is a valid file name on any system, and needs no escape in a URL.
_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")

# Records of ended runs never change, and a panel polls several times per second.
_ended_records: dict[Path, JobRecord] = {}


@dataclass(frozen=True)
class JobRecord:
    """A run of a verb, or a training; all counts but `rows` are in `unit`s."""

    id: str
    verb: str
    output: str  # the column of its answers
    model: str
    state: State
    rows: int
    texts: int
    owner: Owner
    started: float  # seconds since 1970, as is `updated`
    updated: float
    answered: int = 0
    known: int = 0  # answers from the ledger
    failed: int = 0
    share: float = 0.0  # of the work done, 0 to 1
    rows_per_second: float = 0.0
    seconds_left: float | None = None
    error: str = ""
    unit: Unit = "text"  # a distinct text of a verb, or a step of a training
    cancelling: bool = False  # it will stop after the current batch

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> JobRecord:
        """Return the record in a JSON object.

        An invalid one raises KeyError, TypeError or ValueError.
        """
        if record["state"] not in get_args(State):
            raise ValueError(record["state"])
        if record["unit"] not in get_args(Unit):
            raise ValueError(record["unit"])
        left = record["seconds_left"]
        return cls(
            id=str(record["id"]),
            verb=str(record["verb"]),
            output=str(record["output"]),
            model=str(record["model"]),
            state=record["state"],
            rows=int(record["rows"]),
            texts=int(record["texts"]),
            owner=Owner.from_json(record["owner"]),
            started=finite_number(record["started"]),
            updated=finite_number(record["updated"]),
            answered=int(record["answered"]),
            known=int(record["known"]),
            failed=int(record["failed"]),
            share=finite_number(record["share"]),
            rows_per_second=finite_number(record["rows_per_second"]),
            seconds_left=None if left is None else finite_number(left),
            error=str(record["error"]),
            unit=record["unit"],
        )


class Job:
    """The record of a run of this process; thread-safe.

    If nbllm's home cannot be written, it does nothing, and the run cannot be cancelled.

    Example:
        >>> job = Job.begin(verb="sentiment", output="r", model="m", rows=9, texts=8)
        >>> job.update(
        ...     answered=4, known=0, failed=0, share=0.5, rows_per_second=2.0, seconds_left=2.0
        ... )
        >>> job.cancelled
        False
        >>> job.end("done")
    """

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        # Absolute from the start: a notebook may change its folder, or nbllm's home, meanwhile.
        self._file, self._flag = _file(record.id), _flag(record.id)
        self._written = 0.0
        self._lock = Lock()
        self._write()

    @classmethod
    def begin(
        cls, *, verb: str, output: str, model: str, rows: int, texts: int, unit: Unit = "text"
    ) -> Job:
        """Record the start of a run.

        Args:
            verb: The verb, or "finetune" or "pretrain".
            output: The column of its answers, or the folder of a training.
            model: The user's name of the model.
            rows: The number of rows in the frame.
            texts: The number of units: distinct texts, or steps.
            unit: The unit of all counts but `rows`.
        """
        _prune()
        now = time.time()
        return cls(
            JobRecord(
                id=f"{int(now * 1000):012x}-{secrets.token_hex(4)}",
                verb=verb,
                output=output,
                model=model,
                state="running",
                rows=rows,
                texts=texts,
                unit=unit,
                owner=this_process(),
                started=now,
                updated=now,
            )
        )

    @property
    def id(self) -> str:
        """The id for `cancel`, which needs no escape in a URL."""
        return self._record.id

    @property
    def cancelled(self) -> bool:
        """Whether the run has been cancelled; cheap enough to check once per batch."""
        return is_own_file(self._flag)

    def update(
        self,
        *,
        answered: int,
        known: int,
        failed: int,
        share: float,
        rows_per_second: float,
        seconds_left: float | None,
    ) -> None:
        """Record the progress, which is written at most about four times per second.

        Args:
            answered: The number of texts with an answer, including those from the ledger.
            known: The number of answers from the ledger.
            failed: The number of failed texts.
            share: The share of work done, 0 to 1, which weights texts by their cost.
            rows_per_second: The mean speed so far.
            seconds_left: The estimated seconds until the end; None if unknown.
        """
        left = seconds_left if seconds_left is not None and math.isfinite(seconds_left) else None
        with self._lock:
            if self._record.state != "running":
                return
            self._record = replace(
                self._record,
                answered=int(answered),
                known=int(known),
                failed=int(failed),
                share=float(share),
                # JSON has no infinity: a browser would reject the whole answer.
                rows_per_second=float(rows_per_second) if math.isfinite(rows_per_second) else 0.0,
                seconds_left=None if left is None else float(left),
                updated=time.time(),
            )
            if time.monotonic() - self._written >= _PAUSE:
                self._write()

    def end(self, state: EndState, error: str = "") -> None:
        """Record the end; calls after the first are ignored.

        Args:
            state: The final state.
            error: The error message, for "failed".
        """
        with self._lock:
            if self._record.state != "running":
                return
            self._record = replace(
                self._record,
                state=state,
                error=error[:_MAX_ERROR],
                seconds_left=None,
                updated=time.time(),
            )
            self._write()
        delete(self._flag)

    def _write(self) -> None:
        self._written = time.monotonic()
        write_record(self._file, asdict(self._record))


def jobs() -> list[JobRecord]:
    """Return the last 200 runs of this user's processes, newest first.

    A run whose process died while it was running is "lost". Damaged files are ignored.
    """
    files = _files()
    present = set(files)
    for path in list(_ended_records):  # a copy: a server calls this from several threads
        if path not in present:
            _ended_records.pop(path, None)
    found = []
    for path in files:
        record = _ended_records.get(path) or _read(path)
        if record is not None:
            found.append(record)
    # There may be more: older runs that are still running, and records written concurrently.
    return [
        record for i, record in enumerate(found) if i < _MAX_RECORDS or record.state == "running"
    ]


def cancel(job_id: str) -> None:
    """Cancel a run, which then stops after its current batch.

    Args:
        job_id: The id of the run.

    Raises:
        UnknownJobError: There is no such run.
        ActivityError: The run has ended, or the flag cannot be written.
    """
    record = _read(_file(job_id)) if _ID.fullmatch(job_id) else None
    if record is None:
        raise UnknownJobError(
            f"There is no job {job_id!r}. It may be one of the many before the last "
            f"{_MAX_RECORDS}: look at the list again."
        )
    if record.state != "running":
        raise ActivityError(
            f"The job {record.verb!r} is not running: it is {record.state}. "
            "There is nothing to cancel."
        )
    try:
        create_flag(_flag(job_id))
    except OSError as error:
        raise ActivityError(
            f"The job {record.verb!r} could not be cancelled: {error}. Interrupt its kernel."
        ) from error


def _folder() -> Path:
    return activity_folder("jobs")


def _file(job_id: str) -> Path:
    return _folder() / f"{job_id}.json"


def _flag(job_id: str) -> Path:
    return _folder() / f"{job_id}.cancel"


def _files() -> list[Path]:
    """Return the record files, newest first."""
    named = (path for path in record_files(_folder()) if _ID.fullmatch(path.stem))
    return sorted(named, key=lambda path: path.name, reverse=True)


def _read(path: Path) -> JobRecord | None:
    """Return the current record in a file; None if it is missing, damaged or another user's."""
    record = _parsed(path)
    if record is not None and record.state == "running" and not _is_running(record):
        # Between the two reads, run and process may have ended normally.
        record = _parsed(path)
        if record is not None and record.state == "running":
            record = replace(record, state="lost", seconds_left=None)
    if record is None:
        return None
    if record.state == "running":
        return replace(record, cancelling=is_own_file(_flag(record.id)))
    if record.state != "lost" or record.owner.is_here:  # another machine's may be updated again
        _ended_records[path] = record
    return record


def _parsed(path: Path) -> JobRecord | None:
    stored = read_record(path)
    try:
        record = None if stored is None else JobRecord.from_json(stored)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return record if record is not None and record.id == path.stem else None


def _is_running(record: JobRecord) -> bool:
    if record.owner.is_here:
        return record.owner.is_alive
    return time.time() - record.updated < _TIMEOUT


def _prune() -> None:
    """Delete the oldest records to make room for one more; those of running jobs stay."""
    for path in _files()[_MAX_RECORDS - 1 :]:
        record = _ended_records.get(path) or _read(path)
        if record is None or record.state != "running":
            delete(path)
            delete(path.with_suffix(".cancel"))
    remove_unfinished(_folder())

"""Verbs and trainings that run, as other processes see them: progress, and a flag to stop them."""

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
    delete,
    finite,
    is_own_file,
    raise_flag,
    read,
    record_files,
    sweep,
    write,
)
from nbllm.errors import ActivityError, UnknownJobError

__all__ = ["Ended", "Job", "JobRecord", "State", "Unit", "cancel", "jobs"]

Ended = Literal["done", "failed", "cancelled", "interrupted"]
State = Literal["running", "done", "failed", "cancelled", "interrupted", "lost"]
Unit = Literal["text", "step"]

_KEPT = 200  # records
_PAUSE = 0.22  # seconds at least between two updates on disk
_SILENT = 120.0  # seconds after which a run on another machine is given up
_LONGEST_ERROR = 2000  # characters

# Sorts by the time of its beginning, is a file's name on any system, and needs no escape.
_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")

# Records of runs that ended never change, and a panel polls several times a second.
_ended: dict[Path, JobRecord] = {}


@dataclass(frozen=True)
class JobRecord:
    """One run of a verb, or a training; its counts are of `unit`s, `rows` of the frame's rows."""

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
    known: int = 0  # answers that the ledger had
    failed: int = 0
    share: float = 0.0  # of the work that is done
    rows_per_second: float = 0.0
    seconds_left: float | None = None
    error: str = ""
    unit: Unit = "text"  # distinct texts of a verb, steps of a training
    cancelling: bool = False  # it will stop after its batch

    @classmethod
    def read(cls, record: dict[str, Any]) -> JobRecord:
        """Return a record as `Job` wrote it; KeyError, TypeError or ValueError for another."""
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
            owner=Owner.read(record["owner"]),
            started=finite(record["started"]),
            updated=finite(record["updated"]),
            answered=int(record["answered"]),
            known=int(record["known"]),
            failed=int(record["failed"]),
            share=finite(record["share"]),
            rows_per_second=finite(record["rows_per_second"]),
            seconds_left=None if left is None else finite(left),
            error=str(record["error"]),
            unit=record["unit"],
        )


class Job:
    """A run of this process, whose record others read; any of its threads may update it.

    Where nbllm's home cannot be written it does nothing, and nobody can cancel it.

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
        # Once for all: a notebook may change its folder, or nbllm's home, while it works.
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
            rows: The number of rows of the frame.
            texts: The number of distinct texts to answer, or of steps.
            unit: Which of the two.
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
        """The id, by which `cancel` finds it; it needs no escape in a URL."""
        return self._record.id

    @property
    def cancelled(self) -> bool:
        """Whether someone has cancelled it; cheap enough to look at once per batch."""
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
        """Record the progress; it is written about four times a second, however often it is called.

        Args:
            answered: Texts with an answer, those of the ledger among them.
            known: Answers that the ledger had.
            failed: Texts without an answer.
            share: The share of the work that is done, from 0 to 1; texts differ in what they take.
            rows_per_second: The speed so far.
            seconds_left: Seconds until the end; None where that is not known yet.
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
                # JSON has no infinity, and a browser refuses the whole answer for one.
                rows_per_second=float(rows_per_second) if math.isfinite(rows_per_second) else 0.0,
                seconds_left=None if left is None else float(left),
                updated=time.time(),
            )
            if time.monotonic() - self._written >= _PAUSE:
                self._write()

    def end(self, state: Ended, error: str = "") -> None:
        """Record the end; only the first call counts.

        Args:
            state: How it ended.
            error: The error, for "failed".
        """
        with self._lock:
            if self._record.state != "running":
                return
            self._record = replace(
                self._record,
                state=state,
                error=error[:_LONGEST_ERROR],
                seconds_left=None,
                updated=time.time(),
            )
            self._write()
        delete(self._flag)

    def _write(self) -> None:
        self._written = time.monotonic()
        write(self._file, asdict(self._record))


def jobs() -> list[JobRecord]:
    """Return the last 200 runs of this user's processes, newest first.

    One that was running when its process died is "lost". Files that are damaged are left out.
    """
    files = _files()
    there = set(files)
    for path in list(_ended):  # a copy: a server calls this from several threads
        if path not in there:
            _ended.pop(path, None)
    found = []
    for path in files:
        record = _ended.get(path) or _read(path)
        if record is not None:
            found.append(record)
    # Of more, the oldest are at work still, or were written at the same moment as others.
    return [record for i, record in enumerate(found) if i < _KEPT or record.state == "running"]


def cancel(job_id: str) -> None:
    """Cancel a run: it stops after the batch that it computes.

    Args:
        job_id: Its id, as in the list of `jobs`.

    Raises:
        UnknownJobError: There is no such run.
        ActivityError: It has ended, or the flag cannot be written.
    """
    record = _read(_file(job_id)) if _ID.fullmatch(job_id) else None
    if record is None:
        raise UnknownJobError(
            f"There is no job {job_id!r}. It may be one of the many before the last {_KEPT}: "
            "look at the list again."
        )
    if record.state != "running":
        raise ActivityError(
            f"The job {record.verb!r} is not running: it is {record.state}. "
            "There is nothing to cancel."
        )
    try:
        raise_flag(_flag(job_id))
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
    """The records on disk, newest first."""
    named = (path for path in record_files(_folder()) if _ID.fullmatch(path.stem))
    return sorted(named, key=lambda path: path.name, reverse=True)


def _read(path: Path) -> JobRecord | None:
    """The record at this moment; None where it is gone, damaged or another user's."""
    record = _parsed(path)
    if record is not None and record.state == "running" and not _is_at_work(record):
        # Between the two looks it may have ended as it should, and its process too.
        record = _parsed(path)
        if record is not None and record.state == "running":
            record = replace(record, state="lost", seconds_left=None)
    if record is None:
        return None
    if record.state == "running":
        return replace(record, cancelling=is_own_file(_flag(record.id)))
    if record.state != "lost" or record.owner.is_here:  # from elsewhere it may be updated again
        _ended[path] = record
    return record


def _parsed(path: Path) -> JobRecord | None:
    stored = read(path)
    try:
        record = None if stored is None else JobRecord.read(stored)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return record if record is not None and record.id == path.stem else None


def _is_at_work(record: JobRecord) -> bool:
    if record.owner.is_here:
        return record.owner.is_alive
    return time.time() - record.updated < _SILENT


def _prune() -> None:
    """Make room for one more record; those of running jobs stay, however old."""
    for path in _files()[_KEPT - 1 :]:
        record = _ended.get(path) or _read(path)
        if record is None or record.state != "running":
            delete(path)
            delete(path.with_suffix(".cancel"))
    sweep(_folder())

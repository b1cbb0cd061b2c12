"""Verbs and trainings at work, as other processes see them: how far, and a flag that stops them."""

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

# Records of runs that ended never change, and a panel asks several times a second.
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
    cancelling: bool = False  # it was asked to stop, and has not yet

    @classmethod
    def read(cls, record: dict[str, Any]) -> JobRecord:
        """A record as `Job` wrote it. Raises KeyError, TypeError or ValueError for another."""
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
    """A run of this process, told to the others; any of its threads may tell.

    Where nbllm's home cannot be written it does nothing, and nobody can ask it to stop.

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
        """Tell of a run that begins.

        Args:
            verb: what it does.
            output: the column that its answers go to, or the folder of a training.
            model: what the user calls the model.
            rows: of the frame.
            texts: to be answered, each once; or steps.
            unit: which of the two.
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
        """By which `cancel` finds it; it needs no escape in a URL."""
        return self._record.id

    @property
    def cancelled(self) -> bool:
        """Whether someone asked for it to stop; cheap enough for once a batch."""
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
        """Tell how far it is; written about four times a second, however often it is called.

        Args:
            answered: texts with an answer, those of the ledger among them.
            known: answers that the ledger had.
            failed: texts without an answer.
            share: of the work that is done, from 0 to 1; texts differ in what they take.
            rows_per_second: so far.
            seconds_left: until the end; None where that cannot be told yet.
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
        """Tell how it ended; only the first call counts.

        Args:
            state: in which way.
            error: what went wrong, for "failed".
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
    """The last 200 runs of this user's processes, newest first.

    One that was at work when its process died is "lost". Files that are damaged are left out.
    """
    files = _files()
    there = set(files)
    for path in list(_ended):  # a copy: a server asks from several threads
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
    """Ask a run to stop after the batch that it computes.

    Raises:
        UnknownJobError: there is none of this id.
        ActivityError: it has ended, or the disk refuses to take the request.
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
            f"The job {record.verb!r} could not be asked to stop: {error}. Interrupt its kernel."
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
    """A record as things stand; None where it is gone, damaged or another's."""
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
    if record.state != "lost" or record.owner.is_here:  # from elsewhere it may be heard again
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
    """Make room for one more; what is at work stays, however old."""
    for path in _files()[_KEPT - 1 :]:
        record = _ended.get(path) or _read(path)
        if record is None or record.state != "running":
            delete(path)
            delete(path.with_suffix(".cancel"))
    sweep(_folder())

"""Results on disk: one commit a batch, filed under all that decides the answer.

An answer is filed under its question and its row. The question is a hash of the model, its
quantization, the prompt and every parameter; the row's key is a hash of its texts. So nothing
is computed twice, and a changed question is never answered from the file.
The texts of the rows are not stored; the prompts, their examples and the answers are.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nbllm._warnings import warn_user
from nbllm.engine.ledger_file import (
    bytes_of,
    check_bytes,
    check_tables,
    is_damage,
    is_full,
    ledger_error,
)
from nbllm.home import home, private_folder

__all__ = ["OFFSET", "Filed", "Ledger", "ledger_path"]

# Under which a question's calibration offset is filed, beside the answers of its rows.
OFFSET = "offset"

# SQLite's message may quote damaged bytes, which Python then cannot read.
_FAULTS = (sqlite3.Error, UnicodeDecodeError)

_PATIENCE = 30.0  # seconds to wait for another process that writes

# Bytes of one value. No record or answer has as many, and SQLite reads none that has more.
_LARGEST_VALUE = 50_000_000

# Bytes of the log of writes, above which it is moved into the file: an open reader or several
# writers keep SQLite from doing so by itself.
_LARGE_LOG = 32_000_000
_LONGEST_WAIT = 200  # milliseconds for those who read meanwhile

_COLUMNS = {
    "runs": "id,record,started",
    "questions": "id,question",
    "answers": "question,key,answer",
    "failures": "question,key,error",
    "reports": "id,run,report",
}
_SCHEMA = """
create table if not exists runs (
    id text primary key, record text not null, started real not null
) without rowid;
create table if not exists questions (
    id integer primary key, question text not null unique
);
create table if not exists answers (
    question integer not null, key blob not null, answer text not null,
    primary key (question, key)
) without rowid;
create table if not exists failures (
    question integer not null, key blob not null, error text not null,
    primary key (question, key)
) without rowid;
create table if not exists reports (
    id integer primary key, run text not null, report text not null
);
"""


def ledger_path() -> Path:
    """Where answers are kept: `NBLLM_LEDGER`, or `ledger.sqlite` in nbllm's home."""
    named = os.environ.get("NBLLM_LEDGER")
    return Path(named).expanduser() if named else home() / "ledger.sqlite"


@dataclass(frozen=True)
class Filed:
    """What the ledger has of one verb."""

    verb: str
    runs: int
    answers: int
    started: float | None  # the newest run, in seconds since 1970


class Ledger:
    """One connection to the file of answers.

    Args:
        path: the file; None keeps everything in memory, for this connection only.

    Where the file cannot be written, a warning says so, and answers that it has are read.

    Raises:
        LedgerError: the file is damaged, or another program's. So does every method that reads,
            where it comes upon damage. The file is left as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._closed = False  # for writing, since the disk is full, gone or read-only
        self._questions: dict[str, int] = {}  # number of each that was asked for
        try:
            self._db = _connect(path)
        except (OSError, *_FAULTS) as error:
            if is_damage(error):
                raise ledger_error(path, error) from error
            there = path if path is not None and path.is_file() else None
            self._closed = there is not None
            found = "answers that it has are taken, and " if self._closed else ""
            warn_user(
                f"The ledger {path} cannot be written ({error}); {found}this run is not saved. "
                "Set NBLLM_LEDGER to a file that can be written, or pass ledger=False.",
            )
            self.path = there
            self._db = _connect(None) if there is None else _connect_to_read(there)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    @property
    def size(self) -> int:
        """Bytes on disk, with what SQLite has yet to move into the file; 0 where it is gone."""
        return 0 if self.path is None else bytes_of(self.path) + bytes_of(self.path, "-wal")

    def open_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """File what a run is; a run that is on file stays as it is."""
        self._write(
            "insert or ignore into runs values (?, ?, ?)",
            [(run_id, json.dumps(record), time.time())],
        )

    def record(self, run_id: str) -> dict[str, Any] | None:
        """What was filed of a run, or None."""
        found = self._rows("select record from runs where id = ?", run_id)
        return self._parsed(found[0][0]) if found else None

    def known(self, question: str, keys: Iterable[str]) -> dict[str, Any]:
        """The answers on file, by key."""
        found = self._filed("key, answer from answers", question, keys)
        return {key: self._parsed(answer) for key, answer in found}

    def failed(self, question: str, keys: Iterable[str]) -> dict[str, str]:
        """The errors on file of rows that asking again would not answer, by key."""
        found = dict(self._filed("key, error from failures", question, keys))
        if not all(isinstance(error, str) for error in found.values()):
            raise ledger_error(self.path, "what was filed as an error is no text")
        return found

    def _filed(self, what: str, question: str, keys: Iterable[str]) -> list[tuple[str, Any]]:
        number = self._number(question)
        found: list[tuple[str, Any]] = []
        for some in _chunks(keys, 500) if number is not None else ():
            places = ",".join("?" * len(some))
            whose = {_key(key): key for key in some}
            statement = f"select {what} where question = ? and key in ({places})"
            found += [(whose[key], value) for key, value in self._rows(statement, number, *whose)]
        return found

    def has_answers(self, question: str) -> bool:
        """Whether any row's answer to a question is on file."""
        number = self._number(question)
        found = self._rows("select 1 from answers where question = ? limit 1", number)
        return next(iter(found), None) is not None

    def commit(self, question: str, answers: Mapping[str, Any]) -> None:
        """File answers, all of them or none."""
        filed = {key: json.dumps(answer) for key, answer in answers.items()}
        self._file("insert or replace into answers values (?, ?, ?)", question, filed)

    def commit_failed(self, question: str, errors: Mapping[str, str]) -> None:
        """File errors of rows that asking again would not answer."""
        self._file("insert or replace into failures values (?, ?, ?)", question, errors)

    def _file(self, statement: str, question: str, values: Mapping[str, str]) -> None:
        if not values:
            return
        if self._number(question) is None:
            self._write("insert or ignore into questions (question) values (?)", [(question,)])
        number = self._number(question)
        self._write(statement, [(number, _key(key), value) for key, value in values.items()])
        self._bound_log()

    def _number(self, question: str) -> int | None:
        """That of a question; None where nothing was filed of it."""
        if question not in self._questions:
            found = self._rows("select id from questions where question = ?", question)
            if not found:
                return None
            self._questions[question] = found[0][0]
        return self._questions[question]

    def _bound_log(self) -> None:
        """Move the log into the file where it has become large, unless others are at it."""
        if self.path is None or self._closed or bytes_of(self.path, "-wal") < _LARGE_LOG:
            return
        try:
            self._db.execute(f"pragma busy_timeout = {_LONGEST_WAIT}")
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()
        except sqlite3.Error:  # what matters is in the log, and there it stays
            return
        finally:
            self._db.execute(f"pragma busy_timeout = {int(_PATIENCE * 1000)}")

    def add_report(self, run_id: str, report: Mapping[str, Any]) -> None:
        """File what a run did."""
        self._write(
            "insert into reports (run, report) values (?, ?)", [(run_id, json.dumps(report))]
        )

    def last_report(self, run_id: str) -> dict[str, Any] | None:
        """The newest report of a run, or None."""
        found = self._rows(
            "select report from reports where run = ? order by id desc limit 1", run_id
        )
        return self._parsed(found[0][0]) if found else None

    def contents(self) -> list[Filed]:
        """What is on file by verb, with the answers of killed runs at the end as "?"."""
        rows = self._rows(
            "with named as (select json_extract(record, '$.question') as question,"
            "  max(json_extract(record, '$.verb')) as verb, count(*) as runs,"
            "  max(started) as started from runs group by question),"
            " counted as (select questions.question, count(*) as answers from answers"
            "  join questions on questions.id = answers.question group by answers.question)"
            " select coalesce(verb, '?'), coalesce(sum(runs), 0), coalesce(sum(answers), 0),"
            "  max(started)"
            " from (select question from named union select question from counted)"
            " left join named using (question) left join counted using (question)"
            " group by verb order by verb is null, verb"
        )
        found = [Filed(*row) for row in rows]
        if not all(
            isinstance(one.verb, str) and isinstance(one.started, float | None) for one in found
        ):
            raise ledger_error(self.path, "the record of a run is not one that nbllm wrote")
        return found

    def purge(self, *, older_than: float | None = None) -> int:
        """Delete all, or runs and their answers by age; the file shrinks.

        Args:
            older_than: seconds since a run was first asked. Without it everything goes, the
                answers of killed runs too.

        Returns:
            how many answers were deleted.
        """
        before = time.time() if older_than is None else time.time() - older_than
        old = "select json_extract(record, '$.question') from runs where started {} ?"
        try:
            kept = self._count()
            with self._db:
                for table in ("answers", "failures"):
                    if older_than is None:
                        self._db.execute(f"delete from {table}")
                        continue
                    self._db.execute(
                        f"delete from {table} where question in (select id from questions"
                        f" where question in ({old.format('<')})"
                        f" and question not in ({old.format('>=')}))",
                        (before, before),
                    )
                self._db.execute("delete from runs where started < ?", (before,))
                self._db.execute("delete from reports where run not in (select id from runs)")
            self._db.execute("vacuum")
            self._db.execute("pragma wal_checkpoint(truncate)")
            return kept - self._count()
        except _FAULTS as error:
            if older_than is None and is_full(error):
                return self._remove(kept)
            raise ledger_error(self.path, error) from error

    def _remove(self, kept: int) -> int:
        """Delete the file itself, where the disk has no room to note what is deleted in it."""
        assert self.path is not None
        try:
            # Refused while another process has it open.
            self._db.execute("pragma locking_mode = exclusive")
            self._db.execute("begin exclusive")
        except _FAULTS as error:
            raise ledger_error(self.path, error) from error
        self._db.close()
        for file in (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")):
            file.unlink(missing_ok=True)
        self._questions.clear()
        self._db = _connect(self.path)
        return kept

    def _count(self) -> int:
        return int(self._rows("select count(*) from answers")[0][0])

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds, all of it."""
        try:
            return self._db.execute(statement, values).fetchall()
        except _FAULTS as error:
            raise ledger_error(self.path, error) from error

    def _parsed(self, filed: Any) -> Any:
        try:
            return json.loads(filed)
        except (TypeError, ValueError, RecursionError) as error:
            raise ledger_error(self.path, f"what was filed is no JSON any more: {error}") from error

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows, all or none; where that is no longer possible, say so once and go on."""
        if self._closed:
            return
        try:
            with self._db:
                self._db.executemany(statement, rows)
        except _FAULTS as error:  # full, locked, read-only, or damaged
            self._closed = True
            if is_damage(error):
                mend = "Move it away"
            elif is_full(error):
                mend = "Make room, if need be with `nbllm ledger purge`"
            else:
                mend = "Try again when no other program is at it"
            warn_user(
                f"The ledger {self.path} takes no more ({error}). What it has stays; the rest of "
                f"this run is not saved, so keep the frame that it returns. {mend}, or set "
                "NBLLM_LEDGER to a file elsewhere.",
            )


def _key(key: str) -> bytes:
    """As it is filed: 16 bytes of a hash."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """To a file that nobody can change, as on a read-only disk: SQLite locks nothing there."""
    try:
        check_bytes(path)
        place = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        database = sqlite3.connect(place, uri=True)
        _bound(database)
        check_tables(database, path, _COLUMNS)
    except _FAULTS as error:
        raise ledger_error(path, error) from error
    return database


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        private_folder(path.parent)
        check_bytes(path)
        # For its owner alone, and so are the files that SQLite puts beside it.
        path.touch(mode=0o600)
    database = sqlite3.connect(path or ":memory:", timeout=_PATIENCE)
    try:
        _bound(database)
        if path is not None:
            check_tables(database, path, _COLUMNS)
        # WAL with NORMAL loses nothing that was committed when the process is killed.
        _switch_to_wal(database)
        database.execute("pragma synchronous = normal")
        database.execute("pragma cell_size_check = on")  # notices more damage
        database.execute(f"pragma journal_size_limit = {_LARGE_LOG}")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


def _bound(database: sqlite3.Connection) -> None:
    """Keep a file that may be anybody's from filling the memory, and from running code."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
    database.execute("pragma trusted_schema = off")


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """Once for a file; while another process does it, SQLite does not wait but refuses."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            database.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk

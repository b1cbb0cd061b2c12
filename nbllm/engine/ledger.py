"""The ledger: answers on disk, one commit per batch, under a key of all that decides them.

An answer is stored under its question and its row. The question is a hash of the model, its
quantization, the prompt and every parameter; the row's key is a hash of its texts. So nothing
is computed twice, and a changed question is never answered from the file.
The texts of the rows are not stored; the prompts, their examples and the answers are.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from nbllm._warnings import warn_user
from nbllm.engine.ledger_file import bytes_of, is_damage, is_full, ledger_error
from nbllm.engine.ledger_schema import (
    FAULTS,
    LARGE_LOG,
    PATIENCE,
    connect,
    connect_read_only,
    row_hash,
)
from nbllm.home import home

__all__ = ["OFFSET", "Ledger", "VerbContents", "ledger_path"]

# Under which a question's calibration offset is filed, beside the answers of its rows.
OFFSET = "offset"

# Milliseconds to wait for readers, where the log has become large.
_LONGEST_WAIT = 200


def ledger_path() -> Path:
    """Return the file of answers: `NBLLM_LEDGER`, or `ledger.sqlite` in nbllm's home."""
    named = os.environ.get("NBLLM_LEDGER")
    return Path(named).expanduser() if named else home() / "ledger.sqlite"


@dataclass(frozen=True)
class VerbContents:
    """What the ledger holds of one verb."""

    verb: str
    runs: int
    answers: int
    started: float | None  # the newest run, in seconds since 1970


class Ledger:
    """One connection to the file of answers.

    Where the file cannot be written, a warning says so, and the answers in it are used.

    Args:
        path: the file; None keeps everything in memory, for this connection only.

    Raises:
        LedgerError: the file is damaged, another program's, or of a newer nbllm. So does every
            method that finds damage while it reads. The file is left as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._closed = False  # for writing, since the disk is full, gone or read-only
        self._questions: dict[str, int] = {}  # number of each that was asked for
        try:
            self._db = connect(path)
        except (OSError, *FAULTS) as error:
            if is_damage(error):
                raise ledger_error(path, error) from error
            there = path if path is not None and path.is_file() else None
            self._closed = there is not None
            found = "answers that it has are taken, and " if self._closed else ""
            warn_user(
                f"The ledger {path} cannot be written ({error}); {found}this run is not saved. "
                "Set NBLLM_LEDGER to a file that can be written, or pass ledger=False."
            )
            self.path = there
            self._db = connect(None) if there is None else connect_read_only(there)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def size(self) -> int:
        """The bytes on disk, the write-ahead log included; 0 where the file is gone."""
        return 0 if self.path is None else bytes_of(self.path) + bytes_of(self.path, "-wal")

    def open_run(self, run_id: str, record: Mapping[str, Any]) -> None:
        """Store the record of a run, unless it is stored already.

        Args:
            run_id: names the run.
            record: all that decides its answers, as JSON holds it.
        """
        self._write(
            "insert or ignore into runs values (?, ?, ?)",
            [(run_id, json.dumps(record), time.time())],
        )

    def record(self, run_id: str) -> dict[str, Any] | None:
        """Return the record of a run; None where it is not stored.

        Args:
            run_id: as given to `open_run`.
        """
        found = self._rows("select record from runs where id = ?", run_id)
        return self._parsed(found[0][0]) if found else None

    def known(self, question: str, keys: Iterable[str]) -> dict[str, Any]:
        """Return the stored answers to a question, by key.

        Args:
            question: the hash of all that decides an answer.
            keys: of the rows to look up.
        """
        found = self._filed("key, answer from answers", question, keys)
        return {key: self._parsed(answer) for key, answer in found}

    def failed(self, question: str, keys: Iterable[str]) -> dict[str, str]:
        """Return the stored errors of rows that asking again would not answer, by key.

        Args:
            question: the hash of all that decides an answer.
            keys: of the rows to look up.

        Raises:
            LedgerError: what is stored as an error is no text.
        """
        found = dict(self._filed("key, error from failures", question, keys))
        if not all(isinstance(error, str) for error in found.values()):
            raise ledger_error(self.path, "what was filed as an error is no text")
        return found

    def _filed(self, what: str, question: str, keys: Iterable[str]) -> list[tuple[str, Any]]:
        number = self._number(question)
        found: list[tuple[str, Any]] = []
        for some in _chunks(keys, 500) if number is not None else ():
            places = ",".join("?" * len(some))
            whose = {row_hash(key): key for key in some}
            statement = f"select {what} where question = ? and key in ({places})"
            found += [(whose[key], value) for key, value in self._rows(statement, number, *whose)]
        return found

    def has_answers(self, question: str) -> bool:
        """Return whether any row's answer to a question is stored.

        Args:
            question: the hash of all that decides an answer.
        """
        number = self._number(question)
        found = self._rows("select 1 from answers where question = ? limit 1", number)
        return next(iter(found), None) is not None

    def commit(self, question: str, answers: Mapping[str, Any]) -> None:
        """Store answers, all of them or none.

        Args:
            question: the hash of all that decides them.
            answers: by the key of the row, as JSON holds them.
        """
        filed = {key: json.dumps(answer) for key, answer in answers.items()}
        self._file("insert or replace into answers values (?, ?, ?)", question, filed)

    def commit_failed(self, question: str, errors: Mapping[str, str]) -> None:
        """Store errors of rows that asking again would not answer.

        Args:
            question: the hash of all that decides the answers.
            errors: by the key of the row.
        """
        self._file("insert or replace into failures values (?, ?, ?)", question, errors)

    def _file(self, statement: str, question: str, values: Mapping[str, str]) -> None:
        if not values:
            return
        if self._number(question) is None:
            self._write("insert or ignore into questions (question) values (?)", [(question,)])
        number = self._number(question)
        self._write(statement, [(number, row_hash(key), value) for key, value in values.items()])
        self._bound_log()

    def _number(self, question: str) -> int | None:
        """Return the number of a question; None where nothing is stored of it."""
        if question not in self._questions:
            found = self._rows("select id from questions where question = ?", question)
            if not found:
                return None
            self._questions[question] = found[0][0]
        return self._questions[question]

    def _bound_log(self) -> None:
        """Move the log into the file where it has become large, unless others are reading it."""
        if self.path is None or self._closed or bytes_of(self.path, "-wal") < LARGE_LOG:
            return
        try:
            self._db.execute(f"pragma busy_timeout = {_LONGEST_WAIT}")
            self._db.execute("pragma wal_checkpoint(truncate)").fetchall()
        except sqlite3.Error:  # what matters is in the log, and there it stays
            return
        finally:
            self._db.execute(f"pragma busy_timeout = {int(PATIENCE * 1000)}")

    def add_report(self, run_id: str, report: Mapping[str, Any]) -> None:
        """Store the report of a run.

        Args:
            run_id: names the run.
            report: as JSON holds it.
        """
        self._write(
            "insert into reports (run, report) values (?, ?)", [(run_id, json.dumps(report))]
        )

    def last_report(self, run_id: str) -> dict[str, Any] | None:
        """Return the newest report of a run; None where there is none.

        Args:
            run_id: names the run.
        """
        found = self._rows(
            "select report from reports where run = ? order by id desc limit 1", run_id
        )
        return self._parsed(found[0][0]) if found else None

    def contents(self) -> list[VerbContents]:
        """Return what is stored, by verb; the answers of killed runs are last, under "?".

        Raises:
            LedgerError: the record of a run is not one that nbllm wrote.
        """
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
        found = [VerbContents(*row) for row in rows]
        if not all(
            isinstance(one.verb, str) and isinstance(one.started, float | None) for one in found
        ):
            raise ledger_error(self.path, "the record of a run is not one that nbllm wrote")
        return found

    def purge(self, *, older_than: float | None = None) -> int:
        """Delete everything, or runs and their answers by age; the file shrinks.

        Args:
            older_than: seconds since a run was first asked for. Without it everything is deleted,
                the answers of killed runs too.

        Returns:
            The number of answers deleted.

        Raises:
            LedgerError: the file cannot be written, or is damaged.
        """
        before = time.time() if older_than is None else time.time() - older_than
        old = "select json_extract(record, '$.question') from runs where started {} ?"
        kept = 0
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
        except FAULTS as error:
            if older_than is None and is_full(error):
                return self._remove(kept)
            raise ledger_error(self.path, error) from error

    def _remove(self, kept: int) -> int:
        """Delete the file itself, where the disk has no room to record deletions in it."""
        assert self.path is not None
        try:
            # Refused while another process has it open.
            self._db.execute("pragma locking_mode = exclusive")
            self._db.execute("begin exclusive")
        except FAULTS as error:
            raise ledger_error(self.path, error) from error
        self._db.close()
        for file in (self.path, Path(f"{self.path}-wal"), Path(f"{self.path}-shm")):
            file.unlink(missing_ok=True)
        self._questions.clear()
        self._db = connect(self.path)
        return kept

    def _count(self) -> int:
        return int(self._rows("select count(*) from answers")[0][0])

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows that a query finds."""
        try:
            return self._db.execute(statement, values).fetchall()
        except FAULTS as error:
            raise ledger_error(self.path, error) from error

    def _parsed(self, filed: Any) -> Any:
        try:
            return json.loads(filed)
        except (TypeError, ValueError, RecursionError) as error:
            raise ledger_error(self.path, f"what was filed is no JSON any more: {error}") from error

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows, all or none; where that is no longer possible, warn once and go on."""
        if self._closed:
            return
        try:
            with self._db:
                self._db.executemany(statement, rows)
        except FAULTS as error:  # full, locked, read-only, or damaged
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
                "NBLLM_LEDGER to a file elsewhere."
            )


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk

"""Results on disk: one commit a batch, filed under all that decides the answer.

An answer is filed under its question and its row. The question is a hash of the model, its
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
from types import TracebackType
from typing import Any, Self

from nbllm.engine.ledger_file import check_bytes, check_tables, is_damage, ledger_error
from nbllm.home import home
from nbllm.warned import warn_user

__all__ = ["OFFSET", "Filed", "Ledger", "ledger_path"]

# Under which a question's calibration offset is filed, beside the answers of its rows.
OFFSET = "offset"

# SQLite's message may quote damaged bytes, which Python then cannot read.
_FAULTS = (sqlite3.Error, UnicodeDecodeError)

_PATIENCE = 30.0  # seconds to wait for another process that writes

_COLUMNS = {
    "runs": "id,record,started",
    "answers": "question,key,answer",
    "reports": "id,run,report",
}
_SCHEMA = """
create table if not exists runs (
    id text primary key, record text not null, started real not null
) without rowid;
create table if not exists answers (
    question text not null, key text not null, answer text not null,
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

    Where the folder cannot be written, a warning says so and the answers stay in memory.

    Raises:
        LedgerError: the file is damaged, or another program's. So does every method that reads,
            where it comes upon damage. The file is left as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._closed = False  # for writing, since the disk is full or gone
        try:
            self._db = _connect(path)
        except (OSError, *_FAULTS) as error:
            if is_damage(error):
                raise ledger_error(path, error) from error
            warn_user(
                f"The ledger {path} cannot be used ({error}); this run is not saved. "
                "Set NBLLM_LEDGER to a file that can be written, or pass ledger=False.",
            )
            self.path = None
            self._db = _connect(None)

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
        files = [] if self.path is None else [self.path, Path(f"{self.path}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

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
        found: dict[str, Any] = {}
        for some in _chunks(keys, 500):
            places = ",".join("?" * len(some))
            rows = self._rows(
                f"select key, answer from answers where question = ? and key in ({places})",
                question,
                *some,
            )
            found.update((key, self._parsed(answer)) for key, answer in rows)
        return found

    def has_answers(self, question: str) -> bool:
        """Whether any row's answer to a question is on file."""
        found = self._rows("select 1 from answers where question = ? limit 1", question)
        return next(iter(found), None) is not None

    def commit(self, question: str, answers: Mapping[str, Any]) -> None:
        """File answers, all of them or none."""
        self._write(
            "insert or replace into answers values (?, ?, ?)",
            [(question, key, json.dumps(answer)) for key, answer in answers.items()],
        )

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
            " counted as (select question, count(*) as answers from answers group by question)"
            " select coalesce(verb, '?'), coalesce(sum(runs), 0), coalesce(sum(answers), 0),"
            "  max(started)"
            " from (select question from named union select question from counted)"
            " left join named using (question) left join counted using (question)"
            " group by verb order by verb is null, verb"
        )
        return [Filed(*row) for row in rows]

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
                if older_than is None:
                    self._db.execute("delete from answers")
                else:
                    self._db.execute(
                        f"delete from answers where question in ({old.format('<')})"
                        f" and question not in ({old.format('>=')})",
                        (before, before),
                    )
                self._db.execute("delete from runs where started < ?", (before,))
                self._db.execute("delete from reports where run not in (select id from runs)")
            self._db.execute("vacuum")
            self._db.execute("pragma wal_checkpoint(truncate)")
            return kept - self._count()
        except _FAULTS as error:
            raise ledger_error(self.path, error) from error

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
        except (TypeError, ValueError) as error:
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
            mend = "Move it away" if is_damage(error) else "Make room with `nbllm ledger purge`"
            warn_user(
                f"The ledger {self.path} takes no more ({error}). What it has stays; the rest of "
                f"this run is not saved, so keep the frame that it returns. {mend}, or set "
                "NBLLM_LEDGER to a file elsewhere.",
            )


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_bytes(path)
    database = sqlite3.connect(path or ":memory:", timeout=_PATIENCE)
    try:
        if path is not None:
            check_tables(database, path, _COLUMNS)
        # WAL with NORMAL loses nothing that was committed when the process is killed.
        _switch_to_wal(database)
        database.execute("pragma synchronous = normal")
        database.execute("pragma cell_size_check = on")  # notices more damage
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


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

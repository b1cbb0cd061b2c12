"""Ledgers of earlier nbllm are migrated, those of later ones refused, and nothing is lost.

The files in `ledgers` were written by nbllm itself: `format_1` before questions were numbered,
`format_2_unnumbered` before `user_version` was set, and `format_1_written_by_2` by both in turn.
"""

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from nbllm.engine import ledger_schema
from nbllm.engine.ledger import Ledger
from nbllm.engine.ledger_schema import VERSION
from nbllm.errors import LedgerError

WRITTEN = Path(__file__).with_name("ledgers")
ANSWERS = {"one": [-0.5, -1.25], "two": "ein Text, 一个", "offset": [0.5, -0.5]}
OLDER = ["format_1", "format_2_unnumbered", "format_1_written_by_2"]


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A ledger that an earlier nbllm wrote."""
    return shutil.copy(WRITTEN / f"{request.param}.sqlite", tmp_path / f"{request.param}.sqlite")


def check_contents(ledger: Ledger, *, failures: bool) -> None:
    assert ledger.known("a question", [*ANSWERS, "other"]) == ANSWERS
    assert ledger.known("another question", [*ANSWERS, "other"]) == {"one": ""}
    found = {"three": "the model wrote nothing"} if failures else {}
    assert ledger.failed("a question", ["one", "three"]) == found
    assert ledger.record("a run") == {"verb": "sentiment", "question": "a question"}
    assert ledger.last_report("a run") == {"rows": 2}
    filed = [(each.verb, each.runs, each.answers) for each in ledger.contents()]
    assert filed == [("sentiment", 1, 3), ("?", 0, 1)]


def asked(path: Path, statement: str) -> Any:
    database = sqlite3.connect(path)
    found = database.execute(statement).fetchall()
    database.close()
    return found


def test_an_older_ledger_is_migrated_with_all_that_it_has(older: Path) -> None:
    assert asked(older, "pragma user_version") == [(0,)]
    for _ in range(2):
        with Ledger(older) as ledger:
            check_contents(ledger, failures=older.stem != "format_1")
    assert asked(older, "pragma user_version") == [(VERSION,)]
    assert asked(older, "pragma integrity_check") == [("ok",)]
    new = older.with_name("new")
    with Ledger(new):
        pass
    schema = "select name, sql from sqlite_master where name not like 'sqlite%' order by name"
    columns = "select name, type, pk from pragma_table_info('answers')"
    names = [name for name, _ in asked(new, schema)]
    assert [name for name, _ in asked(older, schema)] == names
    assert asked(older, columns) == asked(new, columns)
    with Ledger(older) as ledger:
        ledger.commit("a question", {"four": 4})
        assert ledger.known("a question", ["one", "four"]) == {"one": ANSWERS["one"], "four": 4}
        assert ledger.purge() == 5


def test_an_older_ledger_that_cannot_be_written_is_read(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    before = older.read_bytes()
    monkeypatch.setattr(Path, "touch", refuse)
    with (
        pytest.warns(UserWarning, match="answers that it has are taken"),
        Ledger(older) as ledger,
    ):
        check_contents(ledger, failures=older.stem != "format_1")
    assert older.read_bytes() == before and [*older.parent.iterdir()] == [older]


def test_many_may_migrate_an_older_ledger_at_once(tmp_path: Path) -> None:
    def open_together(path: Path) -> Any:
        together.wait()
        with Ledger(path) as ledger:
            return ledger.known("a question", ANSWERS)

    together = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for n in range(10):
            path = shutil.copy(WRITTEN / f"{OLDER[n % 3]}.sqlite", tmp_path / f"{n}")
            assert list(pool.map(open_together, [path] * 8)) == [ANSWERS] * 8


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(WRITTEN / "format_1.sqlite", tmp_path / "ledger")
    with monkeypatch.context() as patch:
        steps = (*ledger_schema._NUMBER_QUESTIONS[:-1], "select * from missing")
        patch.setattr(ledger_schema, "_NUMBER_QUESTIONS", steps)
        with pytest.raises(LedgerError, match="no such table"):
            Ledger(path)
    assert asked(path, "pragma user_version") == [(0,)]
    assert asked(path, "select count(*), typeof(key) from answers") == [(4, "text")]
    with Ledger(path) as ledger:
        check_contents(ledger, failures=False)


@pytest.mark.parametrize("writable", [True, False])
def test_a_newer_ledger_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.commit("q", {"a": 1})
    database = sqlite3.connect(path)
    database.execute("create table vectors (id, vector)")
    database.execute(f"pragma user_version = {VERSION + 1}")
    database.commit()
    database.close()
    before = path.read_bytes()
    if not writable:
        monkeypatch.setattr("nbllm.engine.ledger.connect", ledger_schema.connect_read_only)
    with pytest.raises(LedgerError, match="newer nbllm") as raised:
        Ledger(path)
    assert f"in format {VERSION + 1}; this one reads formats up to {VERSION}" in str(raised.value)
    assert "Update nbllm; or set NBLLM_LEDGER to another file" in str(raised.value)
    assert path.read_bytes() == before


def test_another_programs_numbered_database_is_not_taken_for_a_newer_ledger(
    tmp_path: Path,
) -> None:
    database = sqlite3.connect(tmp_path / "places")
    database.execute("create table bookmarks (id)")
    database.execute("pragma user_version = 77")
    database.commit()
    database.close()
    with pytest.raises(LedgerError, match="its tables are not a ledger's: 'bookmarks'"):
        Ledger(tmp_path / "places")

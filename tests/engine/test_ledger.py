"""The ledger: what was committed is there, for this process and for others."""

import hashlib
import json
import multiprocessing
import os
import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas as pd
import pytest

from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.errors import LedgerError
from nbllm.models.model import Model


def test_answers_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite"
    answers = {"a": [-1.5, -0.25], "b": "ein Text, 一个", "c": ""}
    with Ledger(path) as ledger:
        ledger.commit("q", answers)
    with Ledger(path) as ledger:
        assert ledger.known("q", ["a", "b", "c", "d"]) == answers
        assert ledger.known("other", ["a"]) == {}


def test_more_keys_than_a_query_may_have(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        ledger.commit("q", {str(i): i for i in range(3000)})
        assert len(ledger.known("q", map(str, range(4000)))) == 3000


def test_a_run_that_is_on_file_stays_as_it_is() -> None:
    with Ledger(None) as ledger:
        ledger.open_run("r", {"prompt": "first"})
        ledger.open_run("r", {"prompt": "second"})
        assert ledger.record("r") == {"prompt": "first"}
        assert ledger.record("s") is None


def test_the_newest_report_is_found() -> None:
    with Ledger(None) as ledger:
        ledger.add_report("r", {"rows": 1})
        ledger.add_report("r", {"rows": 2})
        assert ledger.last_report("r") == {"rows": 2}
        assert ledger.last_report("s") is None


def test_the_environment_names_another_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NBLLM_LEDGER", str(tmp_path / "mine"))
    assert ledger_path() == tmp_path / "mine"
    monkeypatch.delenv("NBLLM_LEDGER")
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path))
    assert ledger_path() == tmp_path / "ledger.sqlite"


def test_a_ledger_that_cannot_be_written_is_said_and_done_without(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.mkdir()
    with pytest.warns(UserWarning, match=r"not saved.*NBLLM_LEDGER"):
        ledger = Ledger(path)
    ledger.commit("q", {"a": 1})
    assert ledger.known("q", ["a"]) == {"a": 1}
    assert ledger.path is None


def filled(path: Path) -> dict[str, str]:
    """A ledger of several pages, all of them in its file; and its answers."""
    answers = {f"{n:03}": "x" * 200 for n in range(200)}
    with Ledger(path) as ledger:
        ledger.commit("q", answers)
        ledger.open_run("r", {"verb": "sentiment", "question": "q"})
        ledger.add_report("r", {"rows": 200})
    return answers


def overwrite(path: Path, old: bytes, new: bytes) -> None:
    assert old in path.read_bytes() and len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new))


def other_programs(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript("create table answers (id, user); create table customers (name);")
    database.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"this is no database, " * 1000), "not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "cut short: 50 of"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "cut short"),
        (lambda path: (path.unlink(), other_programs(path)), "'answers', 'customers'"),
        (lambda path: overwrite(path, b"CREATE TABLE", b"CRE\xff\xffE TABLE"), "that are no text"),
    ],
    ids=["overwritten", "cut in the header", "cut at the end", "another program's", "schema"],
)
def test_a_damaged_ledger_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "ledger"
    filled(path)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=said) as raised:
        Ledger(path)
    for told in (str(path), "left as it is", "Move it away", "NBLLM_LEDGER", "ledger=False"):
        assert told in str(raised.value)
    assert path.read_bytes() == before


def test_a_ledger_that_is_damaged_inside_is_an_error_where_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    answers = filled(path)
    whole = bytearray(path.read_bytes())
    whole[4096 * 5 : -4096] = b"\xff" * (len(whole) - 4096 * 6)
    path.write_bytes(whole)
    with Ledger(path) as ledger:
        for read in (lambda: ledger.known("q", answers), ledger.contents, ledger.purge):
            with pytest.raises(LedgerError, match=r"malformed.*Move it away"):
                read()
    assert path.read_bytes() == whole


def test_an_answer_that_is_no_json_any_more_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    answers = filled(path)
    overwrite(path, b"x" * 200, b"x" * 100 + b'"' * 100)
    with Ledger(path) as ledger, pytest.raises(LedgerError, match="no JSON"):
        ledger.known("q", answers)


def test_the_log_beside_an_emptied_file_is_not_deleted(tmp_path: Path) -> None:
    # SQLite would take the file for a new one, and its log for a left-over.
    path, log = tmp_path / "ledger", tmp_path / "ledger-wal"
    with Ledger(path) as ledger:
        ledger.commit("q", {"a": 1})
        kept = log.read_bytes()
    path.write_bytes(b"")
    log.write_bytes(kept)
    with pytest.raises(LedgerError, match="empty, but not the log"):
        Ledger(path)
    assert log.read_bytes() == kept


def test_no_verb_asks_the_model_with_a_damaged_ledger(
    tiny_llama: Model, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_path.write_bytes(b"no database")
    frame = pd.DataFrame({"text": ["fine"]})
    with monkeypatch.context() as patch:
        patch.setattr(tiny_llama.network, "forward", None)
        for ask in (
            lambda: frame.llm.sentiment("text", model=tiny_llama),
            lambda: frame.llm.summarize("text", model=tiny_llama),
            lambda: frame.llm.estimate("sentiment", "text", model=tiny_llama),
            lambda: frame.llm.sentiment("text", model=tiny_llama, background=True).result(),
        ):
            with pytest.raises(LedgerError, match="not a database"):
                ask()
    answered = frame.llm.sentiment("text", model=tiny_llama, ledger=False)
    assert answered["text_sentiment"].notna().all()
    assert ledger_path.read_bytes() == b"no database"


def test_an_empty_file_is_a_new_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.touch()
    with Ledger(path) as ledger:
        ledger.commit("q", {"a": 1})
    with Ledger(path) as ledger:
        assert ledger.known("q", ["a"]) == {"a": 1}


@pytest.mark.parametrize("seed", range(12))
def test_any_damage_is_an_error_of_ours_or_none_at_all(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ledger"
    answers = filled(path)
    dice = random.Random(seed)
    whole = bytearray(path.read_bytes())
    for _ in range(20):
        whole[dice.randrange(len(whole))] = dice.randrange(256)
    path.write_bytes(whole)
    with suppress(LedgerError), Ledger(path) as ledger:
        for read in (
            lambda: ledger.known("q", answers),
            lambda: ledger.record("r"),
            lambda: ledger.last_report("r"),
            ledger.contents,
        ):
            with suppress(LedgerError):
                read()
    assert path.read_bytes() == whole


def test_a_full_disk_is_said_once_and_costs_nothing_that_was_filed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.commit("q", {"before": 1})
        pages = ledger._db.execute("pragma page_count").fetchone()[0]
        ledger._db.execute(f"pragma max_page_count = {pages}")
        with pytest.warns(UserWarning, match=r"takes no more \(database or disk is full\)") as said:
            ledger.commit("q", {f"after {n}": "x" * 1000 for n in range(20)})
            ledger.commit("q", {"later": 2})
            ledger.open_run("r", {})
        assert len(said) == 1
    with Ledger(path) as ledger:
        assert ledger.known("q", ["before", "after 0", "later"]) == {"before": 1}
        ledger.commit("q", {"again": 3})
        assert ledger.known("q", ["again"]) == {"again": 3}


def test_a_file_that_is_damaged_while_it_is_open_stops_no_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.commit("q", {f"{n}": "x" * 1000 for n in range(20)})
        ledger._db.execute("pragma wal_checkpoint(truncate)")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (ledger.size - 4096))
        ledger._db.execute("pragma shrink_memory")
        with pytest.warns(UserWarning, match=r"takes no more \(.*malformed.*Move it away"):
            ledger.commit("q", {"after": 1})


def test_the_size_is_that_of_all_its_files_and_nothing_where_they_are_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.commit("q", {f"{n}": "x" * 1000 for n in range(20)})
        kept = [file for file in tmp_path.iterdir() if not file.name.endswith("-shm")]
        assert len(kept) == 2
        assert ledger.size == sum(file.stat().st_size for file in kept)
        assert ledger.size > 20_000
        for file in tmp_path.iterdir():
            file.unlink()
        assert ledger.size == 0
    assert Ledger(None).size == 0


def test_a_purge_takes_what_is_old_or_all_and_the_file_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        for question, verb in [("old", "embed"), ("both", "sentiment"), ("new", "sentiment")]:
            ledger.commit(question, {f"{n}": "x" * 500 for n in range(200)})
            ledger.open_run(f"{question}-run", {"verb": verb, "question": question})
            ledger.add_report(f"{question}-run", {"rows": 200})
        ledger.open_run("both-again", {"verb": "sentiment", "question": "both"})
        ledger.commit("killed", {"1": 1})
        with ledger._db:
            ledger._db.execute(
                "update runs set started = started - 1000 where id in ('old-run', 'both-run')"
            )
        told = [(filed.verb, filed.runs, filed.answers) for filed in ledger.contents()]
        assert told == [("embed", 1, 200), ("sentiment", 3, 400), ("?", 0, 1)]
        ledger._db.execute("pragma wal_checkpoint(truncate)")
        whole = path.stat().st_size

        assert ledger.purge(older_than=500) == 200
        assert path.stat().st_size < whole * 3 / 4
        assert ledger.known("old", ["1"]) == {} and ledger.record("old-run") is None
        assert ledger.last_report("old-run") is None and ledger.last_report("new-run")
        assert len(ledger.known("both", map(str, range(200)))) == 200
        assert ledger.record("both-run") is None and ledger.record("both-again") is not None
        assert ledger.known("new", ["1"]) and ledger.known("killed", ["1"])

        assert ledger.purge() == 401
        assert ledger.contents() == []
        assert path.stat().st_size < whole / 4


def write_many(path: Path, name: str) -> None:
    with Ledger(path) as ledger:
        for n in range(100):
            ledger.commit("q", {f"{name}-{n}": n})


def test_two_processes_write_one_ledger(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "ledger"
    writers = [context.Process(target=write_many, args=(path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sqlite3.connect(path).execute("select count(*) from answers").fetchone() == (200,)


def test_many_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    def open_together(path: Path) -> bool:
        together.wait()
        with Ledger(path) as ledger:
            return ledger.path is not None

    together = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for n in range(30):
            assert all(pool.map(open_together, [tmp_path / f"{n}"] * 8))


class _Full:
    """A connection to a file on a disk that has no room for what deleting notes."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self.database, name)

    def __enter__(self) -> Any:
        return self.database.__enter__()

    def __exit__(self, *told: Any) -> Any:
        return self.database.__exit__(*told)

    def execute(self, statement: str, *values: Any) -> Any:
        if statement.startswith(("delete", "vacuum")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self.database.execute(statement, *values)


def test_a_full_disk_can_be_purged(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    filled(path)
    with Ledger(path) as ledger:
        ledger._db = _Full(ledger._db)  # type: ignore[assignment]
        with pytest.raises(LedgerError, match="its disk has room"):
            ledger.purge(older_than=0)
        assert ledger.purge() == 200
        assert ledger.contents() == []
        ledger.commit("q", {"a": 1})
        assert ledger.known("q", ["a", "001"]) == {"a": 1}


def test_a_full_disk_is_not_purged_under_those_who_use_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    answers = filled(path)
    with Ledger(path) as other, Ledger(path) as ledger:
        other._rows("select 1 from answers limit 1")
        ledger._db.execute("pragma busy_timeout = 10")
        ledger._db = _Full(ledger._db)  # type: ignore[assignment]
        with pytest.raises(LedgerError, match="locked"):
            ledger.purge()
        assert other.known("q", answers) == answers


def test_a_ledger_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    answers = filled(path)
    before = path.read_bytes()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.warns(UserWarning, match="answers that it has are taken, and this run is not"):
        ledger = Ledger(path)
    with ledger:
        assert ledger.known("q", answers) == answers
        ledger.commit("q", {"new": 1})
        ledger.commit_failed("q", {"newer": "no"})
        ledger.open_run("s", {})
        assert ledger.known("q", ["new"]) == {} == ledger.failed("q", ["newer"])
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["ledger"]


def test_an_answer_takes_few_bytes_and_its_files_are_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger"
    scores = json.dumps([-0.125, -3.5])
    with Ledger(path) as ledger:
        for start in range(0, 20_000, 500):
            keys = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(start, start + 500)]
            ledger.commit("q" * 64, {key: [-0.125, -3.5] for key in keys})
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        ledger._db.execute("pragma wal_checkpoint(truncate)")
        assert path.stat().st_size < 20_000 * (60 + len(scores))
    assert set(modes) == {"ledger", "ledger-wal", "ledger-shm"} and set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_log_of_writes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbllm.engine.ledger.LARGE_LOG", 400_000)
    path, largest = tmp_path / "ledger", 0
    writers = [Ledger(path) for _ in range(4)]
    for writer in writers:  # as when others always write before it is all moved
        writer._db.execute("pragma wal_autocheckpoint = 0")
    for n in range(400):
        writers[n % 4].commit("q", {f"{n}-{m}": "x" * 1000 for m in range(10)})
        largest = max(largest, Path(f"{path}-wal").stat().st_size)
    for writer in writers:
        writer._db.close()
    assert largest < 600_000


def test_rows_that_cannot_be_answered_are_on_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.commit_failed("q", {"a": "the model wrote nothing"})
        assert ledger.failed("q", ["a", "b"]) == {"a": "the model wrote nothing"}
        assert ledger.failed("other", ["a"]) == {} == ledger.known("q", ["a"])
        assert ledger.purge() == 0
        assert ledger.failed("q", ["a"]) == {}

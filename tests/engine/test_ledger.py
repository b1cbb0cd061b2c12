"""The ledger: what was committed is there, for this process and for others."""

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from nbllm.engine.ledger import Ledger, ledger_path


def test_answers_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.sqlite"
    answers = {"a": [-1.5, -0.25], "b": "ein Text, 一个", "c": ""}
    with Ledger(path) as ledger:
        ledger.commit("q", answers)
    with Ledger(path) as ledger:
        assert ledger.known("q", ["a", "b", "c", "d"]) == answers
        assert ledger.known("other", ["a"]) == {}
        assert ledger.any_known("q") and not ledger.any_known("other")


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


@pytest.mark.parametrize("kind", ["folder in the way", "not a database"])
def test_a_ledger_that_cannot_be_used_is_said_and_done_without(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ledger"
    if kind == "folder in the way":
        path.mkdir()
    else:
        path.write_bytes(b"this is no database, " * 100)
    with pytest.warns(UserWarning, match=r"not saved.*NBLLM_LEDGER"):
        ledger = Ledger(path)
    ledger.commit("q", {"a": 1})
    assert ledger.known("q", ["a"]) == {"a": 1}
    assert ledger.path is None


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
        with pytest.warns(UserWarning, match=r"takes no more \(.*malformed"):
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
        assert not ledger.any_known("old") and ledger.record("old-run") is None
        assert ledger.last_report("old-run") is None and ledger.last_report("new-run")
        assert len(ledger.known("both", map(str, range(200)))) == 200
        assert ledger.record("both-run") is None and ledger.record("both-again") is not None
        assert ledger.any_known("new") and ledger.any_known("killed")

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

"""`nbllm.ledger`: the ledger as users reach it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbllm
from nbllm.errors import ArgumentError, LedgerError


def test_what_is_filed_is_found_counted_and_purged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBLLM_LEDGER", str(tmp_path / "mine.sqlite"))
    assert nbllm.ledger.path() == tmp_path / "mine.sqlite"
    assert nbllm.ledger.size() == 0 == nbllm.ledger.purge() and nbllm.ledger.contents() == []
    assert not nbllm.ledger.path().exists()
    with nbllm.ledger.Ledger(nbllm.ledger.path()) as ledger:
        ledger.open_run("old", {"verb": "embed", "question": "q"})
        ledger.commit("q", {"a": 1, "b": 2})
        with ledger._db:
            ledger._db.execute("update runs set started = started - 2 * 86400")
        ledger.open_run("new", {"verb": "sentiment", "question": "r"})
        ledger.commit("r", {"a": 1})
    assert nbllm.ledger.size() > 0
    told = [(each.verb, each.runs, each.answers) for each in nbllm.ledger.contents()]
    assert told == [("embed", 1, 2), ("sentiment", 1, 1)]
    assert nbllm.ledger.purge(older_than_days=3) == 0
    assert nbllm.ledger.purge(older_than_days=1) == 2
    assert nbllm.ledger.purge() == 1 and nbllm.ledger.contents() == []


def test_a_file_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLM_LEDGER", str(tmp_path / "notes.txt"))
    nbllm.ledger.path().write_text("not a database")
    for call in (nbllm.ledger.size, nbllm.ledger.contents, nbllm.ledger.purge):
        with pytest.raises(LedgerError, match="not a database"):
            call()
    assert nbllm.ledger.path().read_text() == "not a database"


def test_it_is_loaded_when_it_is_used_and_without_torch() -> None:
    code = (
        "import nbllm, sys; assert 'nbllm.ledger' not in sys.modules; nbllm.ledger.path();"
        "assert not {'torch', 'pandas', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("days", [-1, 0, float("nan"), True, "x"])
def test_an_age_that_is_none_deletes_nothing(days: Any) -> None:
    with pytest.raises(ArgumentError, match="older_than_days"):
        nbllm.ledger.purge(older_than_days=days)

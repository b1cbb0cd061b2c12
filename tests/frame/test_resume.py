"""`kill -9` at any moment of a run: what was committed stays, and is not computed again.

NBLLM_KILLS is how often; 20 unless it is set.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbllm
from nbllm.engine.ledger import OFFSET
from nbllm.engine.ledger_schema import row_hash
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.errors import ModelError
from nbllm.models.model import Model

ROWS = 500
KILLS = int(os.environ.get("NBLLM_KILLS", "20"))

# Loads the model once and forks a run for each kill: a process of its own would load for seconds
# what then runs for one. A run writes down which rows it has computed, a batch a line.
KILLER = """
import json, os, random, re, signal, sys, time, warnings
import torch
torch.set_num_threads(1)  # threads do not survive a fork
import nbllm
from nbllm.engine.scoring import LabelScorer
from tests.frame.test_resume import reviews

folder, log, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
score = LabelScorer.score

def noted(self, prompts):
    scores = score(self, prompts)
    rows = [int(n) for p in prompts for n in re.findall(r"Visit (\\d+)", p.text)]
    with open(log, "a") as file:
        file.write(json.dumps({"kill": kill, "rows": rows}) + "\\n")
    return scores

LabelScorer.score = noted
model = nbllm.load(folder, quantize="none", dtype="fp32")
moments = random.Random(0)
kill = -1
for _ in range(2):  # the first takes longer: it imports
    started = time.monotonic()
    reviews().llm.sentiment("review", model=model, ledger=False)
    whole = time.monotonic() - started
for kill in range(kills):
    child = os.fork()
    if child == 0:
        reviews().llm.sentiment("review", model=model)
        os._exit(0)
    # Some die before their first batch, some in the middle of a commit, some finish.
    time.sleep(moments.uniform(0, whole))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
    if sys.stdin.readline() == "":
        break
"""


def reviews() -> pd.DataFrame:
    words = ["warm", "cold", "kind", "slow", "quiet", "good", "terrible", "old"]
    texts = [
        f"Visit {i}: the soup was {words[i % 8]}, the room {words[i // 8 % 8]} "
        + "and so on " * (i % 5)
        for i in range(ROWS)
    ]
    return pd.DataFrame({"review": texts})


def answers_in(ledger: Path) -> dict[str, list[float]]:
    """By key, the offset left out."""
    if not ledger.exists():
        return {}
    with sqlite3.connect(ledger, timeout=30) as database:
        try:
            found = database.execute(
                "select hex(key), answer from answers where key != ?", [row_hash(OFFSET)]
            )
        except sqlite3.OperationalError:  # it was killed before it made the tables
            return {}
        return {key: json.loads(answer) for key, answer in found}


def computed_in(log: Path) -> Iterator[tuple[int, list[int]]]:
    """Which kill ended the run that computed a batch, and the batch's rows."""
    for line in log.read_text().splitlines() if log.exists() else []:
        batch = json.loads(line)
        if batch["kill"] >= 0 and batch["rows"]:
            yield batch["kill"], batch["rows"]


@pytest.mark.long
def test_killed_runs_go_on_from_their_last_batch(
    tiny_folder: Callable[[str], Path],
    ledger_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, log = tiny_folder("causal"), tmp_path / "log"
    model = nbllm.load(folder, quantize="none", dtype="fp32")
    undisturbed = reviews().llm.sentiment("review", model=model)
    expected = answers_in(ledger_path)
    assert len(expected) == ROWS
    ledger = tmp_path / "killed.sqlite"
    before: set[str] = set()
    in_the_middle = 0
    with subprocess.Popen(
        [sys.executable, "-c", KILLER, str(folder), str(log), str(KILLS)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NBLLM_LEDGER": str(ledger)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        for kill in range(KILLS):
            assert child.stdout.readline() == "killed\n"
            kept = answers_in(ledger)
            assert before <= set(kept), "what was committed is there"
            for key, answer in kept.items():
                np.testing.assert_allclose(answer, expected[key], rtol=1e-4, atol=1e-4)
            batches = [rows for number, rows in computed_in(log) if number == kill]
            computed = [row for rows in batches for row in rows]
            assert len(computed) == len(set(computed))
            lost = len(computed) - (len(kept) - len(before))
            assert 0 <= lost <= max(map(len, batches), default=0), "no more than one batch"
            in_the_middle += len(before) < len(kept) < ROWS
            before = set(kept)
            if len(kept) == ROWS:  # the next begins anew
                for file in tmp_path.glob("killed.sqlite*"):
                    file.unlink()
                before = set()
            child.stdin.write("on\n")
            child.stdin.flush()
        child.stdin.close()
        assert child.wait(60) == 0
    assert in_the_middle >= KILLS // 10, "kills hit runs at work"
    print(f"{in_the_middle} of {KILLS} kills hit a run at work")
    monkeypatch.setenv("NBLLM_LEDGER", str(ledger))
    resumed = reviews().llm.sentiment("review", model=model)
    report = resumed.llm.report()
    assert (report.known, report.computed) == (len(before), ROWS - len(before))
    assert list(resumed["review_sentiment"]) == list(undisturbed["review_sentiment"])


@pytest.mark.long
def test_a_thousand_poisoned_rows_fail_alone(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nbllm.load(tiny_folder("causal"), quantize="none", dtype="fp32")
    rows, bad = 5000, set(np.random.default_rng(0).permutation(5000)[:1000].tolist())
    frame = pd.DataFrame({"review": [f"Visit {n}: the soup was cold." for n in range(rows)]})
    clean = frame.llm.sentiment("review", model=model, ledger=False)
    score = LabelScorer.score
    sizes: list[int] = []

    def poisoned(self, prompts):
        numbers = [int(n) for p in prompts for n in re.findall(r"Visit (\d+)", p.text)]
        sizes.append(len(numbers))
        if not bad.isdisjoint(numbers):
            raise ValueError("poison")
        return score(self, prompts)

    monkeypatch.setattr(LabelScorer, "score", poisoned)
    with pytest.warns(UserWarning, match=r"1,000 of 5,000 rows have no answer"):
        answered = frame.llm.sentiment("review", model=model)
    failed = answered["review_sentiment_error"].notna()
    assert set(answered.index[failed]) == bad
    assert set(answered["review_sentiment_error"][failed]) == {"ValueError: poison"}
    columns = ["review_sentiment", "review_sentiment_score"]
    fine = answered.loc[~failed, columns]
    assert list(fine["review_sentiment"]) == list(clean.loc[~failed, "review_sentiment"])
    np.testing.assert_allclose(
        fine["review_sentiment_score"], clean.loc[~failed, "review_sentiment_score"], atol=1e-5
    )
    whole = max(sizes)
    batches = -(-rows // whole)
    assert len([n for n in sizes if n]) - batches <= 2 * len(bad) * np.log2(whole)
    monkeypatch.undo()
    again = frame.llm.sentiment("review", model=model, ledger=True)
    assert list(again["review_sentiment"]) == list(clean["review_sentiment"])


def test_a_row_that_can_never_be_answered_is_asked_once(
    tiny_llama: Model, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, asked = LabelScorer.__call__, []

    def poisoned(self: LabelScorer, prompts: Sequence[Prompt]) -> list[Any]:
        visits = [int(n) for prompt in prompts for n in re.findall(r"Visit (\d+)", prompt.text)]
        asked.append(visits)
        if visits and 3 in visits:
            raise RuntimeError("it may pass")
        lasting = {2: ModelError("never finite")}
        answers = score(self, prompts)
        return [lasting.get(n, answers[i]) for i, n in enumerate(visits)] or answers

    monkeypatch.setattr(LabelScorer, "__call__", poisoned)
    frame = reviews().head(6)
    for again in (False, True):
        asked.clear()
        with pytest.warns(UserWarning, match="2 of 6 rows have no answer"):
            answered = frame.llm.sentiment("review", model=tiny_llama)
        errors = answered["review_sentiment_error"].dropna()
        assert errors.to_dict() == {2: "never finite", 3: "RuntimeError: it may pass"}
        assert answered.llm.report().failed == 2
        computed = {n for visits in asked for n in visits}
        assert computed == ({3} if again else set(range(6)))

"""`kill -9` in the middle of a run: what was committed is not computed again."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import nbllm

ROWS = 500

CHILD = """
import sys, time
import nbllm
from nbllm.engine.scoring import LabelScorer
from tests.frame.test_resume import reviews

score = LabelScorer.score
def slowly(self, prompts):
    time.sleep(0.05)
    return score(self, prompts)
LabelScorer.score = slowly
model = nbllm.load(sys.argv[1], quantize="none", dtype="fp32")
reviews().llm.sentiment("review", model=model)
"""


def reviews() -> pd.DataFrame:
    words = ["warm", "cold", "kind", "slow", "quiet", "good", "terrible", "old"]
    texts = [
        f"Visit {i}: the soup was {words[i % 8]}, the room {words[i // 8 % 8]} "
        + "and so on " * (i % 5)
        for i in range(ROWS)
    ]
    return pd.DataFrame({"review": texts})


def answers_in(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    try:
        with sqlite3.connect(ledger, timeout=30) as database:
            return int(database.execute("select count(*) from answers").fetchone()[0])
    except sqlite3.OperationalError:  # the child has not made the tables yet
        return 0


def test_a_killed_run_resumes(tiny_folder: Callable[[str], Path], ledger_path: Path) -> None:
    folder = tiny_folder("causal")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NBLLM_LEDGER": str(ledger_path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while answers_in(ledger_path) < ROWS // 4:
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = answers_in(ledger_path) - 1  # one is the offset
    assert ROWS // 4 <= kept < ROWS

    model = nbllm.load(folder, quantize="none", dtype="fp32")
    resumed = reviews().llm.sentiment("review", model=model)
    report = resumed.llm.report()
    assert (report.known, report.computed) == (kept, ROWS - kept)
    undisturbed = reviews().llm.sentiment("review", model=model, ledger=False)
    assert list(resumed["review_sentiment"]) == list(undisturbed["review_sentiment"])

"""Runs that are stopped, and runs beside the notebook: nothing that was answered is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.engine import locks
from nbllm.engine.batching import TokenBudget
from nbllm.engine.ledger import Ledger
from nbllm.engine.locks import FORWARD_LOCK, TOKENIZER_LOCK, named_work
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.errors import FrameError, LabelError
from nbllm.frame.running import background
from nbllm.frame.tasks.label import CalibratedPromptTask, _BatchInvariantTask
from nbllm.models import in_memory
from nbllm.models.model import Model
from tests.asking import sentiment
from tests.frame.stops import Score, interrupted_after

ROWS = 40


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Reviews in batches of a few rows."""
    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(64))
    return pd.DataFrame({"review": [f"The soup of day {n} was warm." for n in range(ROWS)]})


def test_an_interrupt_returns_what_was_answered_and_the_next_run_goes_on(
    frame: pd.DataFrame, tiny_llama: Model, ledger_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    with monkeypatch.context() as patch:
        interrupted_after(3, KeyboardInterrupt(), patch)
        with pytest.warns(UserWarning, match=r"interrupted with \d+ texts unanswered.*ask again"):
            partial = frame.llm.sentiment("review", model=tiny_llama)
    done = partial["review_sentiment"].notna()
    report = partial.llm.report()
    assert 0 < done.sum() < ROWS
    assert (report.stopped, report.computed, report.left) == (True, done.sum(), ROWS - done.sum())
    assert partial["review_sentiment_error"].isna().all()
    assert (partial["review_sentiment_run"].notna() == done).all()
    assert f"{report.left} left" in str(report)

    rest = frame.llm.sentiment("review", model=tiny_llama)
    assert rest.llm.report().known == done.sum()
    assert rest.llm.report().computed == ROWS - done.sum()
    assert list(rest["review_sentiment"]) == list(whole["review_sentiment"])


def test_beside_the_notebook_the_answers_are_the_same(
    frame: pd.DataFrame, tiny_llama: Model
) -> None:
    whole = frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    run = frame.llm.sentiment("review", model=tiny_llama, ledger=False, background=True)
    beside = frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    pd.testing.assert_series_equal(run.result(60)["review_sentiment"], whole["review_sentiment"])
    pd.testing.assert_series_equal(beside["review_sentiment"], whole["review_sentiment"])
    assert run.done and run.report.answered == ROWS
    assert str(run).startswith(f"sentiment: done, {ROWS} of {ROWS} texts, ")


@pytest.mark.filterwarnings("ignore:.*inplace")
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_rows_may_be_sorted_dropped_and_added_meanwhile(
    frame: pd.DataFrame, tiny_llama: Model, library: str
) -> None:
    whole = frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    given = frame.copy() if library == "pandas" else pl.from_pandas(frame)
    with FORWARD_LOCK:  # so that it has not begun
        run = given.llm.sentiment("review", model=tiny_llama, ledger=False, background=True)
        if isinstance(given, pl.DataFrame):
            given.extend(given.reverse())
        else:
            given.sort_values("review", ascending=False, inplace=True)
            given.drop(index=[0, 1], inplace=True)
    answered = run.result(60)
    assert list(answered["review"]) == list(whole["review"])
    assert list(answered["review_sentiment"]) == list(whole["review_sentiment"])


def test_a_cancel_stops_after_the_batch(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, cancelled = threading.Event(), threading.Event()
    score: Score = _BatchInvariantTask.__call__
    calls = []

    def waiting(self: _BatchInvariantTask, prompts: Sequence[Prompt]) -> Sequence:
        calls.append(len(prompts))
        if len(calls) == 2:
            second.set()
            assert cancelled.wait(30)
        return score(self, prompts)

    monkeypatch.setattr(_BatchInvariantTask, "__call__", waiting)
    run = frame.llm.sentiment("review", model=tiny_llama, ledger=False, background=True)
    assert second.wait(30)
    assert "running" in str(run) and not run.done
    with pytest.raises(FrameError, match=r"not done after 0.01 s"):
        run.result(0.01)
    run.cancel()
    assert "stopping after this batch" in str(run)
    cancelled.set()
    answered = run.result(30)
    assert answered["review_sentiment"].notna().sum() == sum(calls) and len(calls) == 2
    assert str(run).startswith("sentiment: cancelled")


def test_a_cancel_stops_calibration_after_its_batch(
    frame: pd.DataFrame, tiny_llama: Model, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cancelled = threading.Event(), threading.Event()
    score = LabelScorer.__call__
    calls = []

    def waiting(self: LabelScorer, prompts: Sequence[Prompt]) -> Sequence:
        calls.append(len(prompts))
        first.set()
        assert cancelled.wait(30)
        return score(self, prompts)

    monkeypatch.setattr(LabelScorer, "__call__", waiting)
    run = frame.llm.sentiment("review", model=tiny_llama, background=True)
    assert first.wait(30)
    assert str(run) == f"sentiment: running, 0 of {ROWS} texts"
    run.cancel()
    cancelled.set()
    answered = run.result(30)
    assert len(calls) == 1
    assert answered["review_sentiment"].isna().all()
    assert (run.report.computed, str(run)) == (0, f"sentiment: cancelled, 0 of {ROWS} texts")
    monkeypatch.setattr(LabelScorer, "__call__", score)
    found = frame.llm.sentiment("review", model=tiny_llama)
    assert found["review_sentiment"].notna().all()
    # What explains a row of a file that is read again has the offset of the run that answered.
    run_id = found["review_sentiment_run"].iloc[0]
    with Ledger(ledger_path) as ledger:
        assert ledger.record(run_id)["offset"] == found.attrs["nbllm_runs"][run_id]["offset"]


def test_calibration_lets_others_have_their_turn_between_its_batches(
    frame: pd.DataFrame, tiny_llama: Model
) -> None:
    asked = sentiment(tiny_llama).bind(tiny_llama, tiny_llama.context_length)
    free = []

    def another_run() -> None:
        with FORWARD_LOCK:
            free.append(True)

    def step() -> None:
        beside = threading.Thread(target=another_run)
        beside.start()
        beside.join(10)

    asked.calibrate(None, step)
    assert len(free) > 2


def test_an_interrupt_while_calibrating_ends_all_steps_of_a_reply(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = []

    def interrupted(self: CalibratedPromptTask, *_: object) -> None:
        verbs.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(CalibratedPromptTask, "calibrate", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        answered = frame.llm.reply("review", ["Soup."], intents=["a", "b"], model=tiny_llama)
    assert len(verbs) == 1
    assert answered["review_reply"].isna().all()


def test_what_fails_beside_the_notebook_is_raised_with_the_result(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise LabelError("no such thing")

    monkeypatch.setattr(CalibratedPromptTask, "calibrate", failing)
    run = frame.llm.sentiment("review", model=tiny_llama, background=True)
    with pytest.raises(LabelError, match="no such thing"):
        run.result(60)
    assert str(run) == f"sentiment: failed, 0 of {ROWS} texts"


def test_what_is_wrong_with_the_call_is_raised_at_once(
    frame: pd.DataFrame, tiny_llama: Model
) -> None:
    with pytest.raises(LabelError, match="review_classify_score"):
        frame.llm.classify(
            "review", ["score", "other"], model=tiny_llama, probabilities=True, background=True
        )


@pytest.mark.parametrize("verb", ["sentiment", "summarize", "prompt", "reply"])
def test_a_cell_that_starts_a_run_waits_for_no_pass(
    frame: pd.DataFrame, tiny_llama: Model, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the explanation of a row, say; the run waits beside the notebook, and says what for."""
    monkeypatch.setattr(locks, "_LONG", 0.0)
    options = {"prompt": {"into": "told"}, "reply": {"sources": ["Soup."], "intents": ["a", "b"]}}
    subject = "{review}" if verb == "prompt" else "review"
    holding, started = threading.Event(), threading.Event()

    def hold() -> None:
        with named_work("an explanation of a row"), FORWARD_LOCK:
            holding.set()
            assert started.wait(30)

    beside = threading.Thread(target=hold)
    beside.start()
    assert holding.wait(10)
    ask = getattr(frame.head(3).llm, verb)
    run = ask(subject, model=tiny_llama, ledger=False, background=True, **options.get(verb, {}))
    until = time.monotonic() + 20
    while (
        step := run._monitor.step
    ) is None or step.doing != "waiting for an explanation of a row":
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "waiting for an explanation of a row" in str(run)
    started.set()
    assert len(run.result(60)) == 3
    beside.join()


def test_a_forked_process_is_not_held_up_by_a_run_that_is_not_in_it(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pool of processes or subprocess in another library forks one."""
    computing, go_on = threading.Event(), threading.Event()
    score = LabelScorer.__call__

    def slow(scorer: LabelScorer, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        with TOKENIZER_LOCK, in_memory._lock:
            computing.set()
            go_on.wait(30)
        return score(scorer, prompts)

    monkeypatch.setattr(LabelScorer, "__call__", slow)
    run = frame.llm.sentiment("review", model=tiny_llama, ledger=False, background=True)
    assert computing.wait(30)
    child = os.fork()
    if not child:
        with FORWARD_LOCK, TOKENIZER_LOCK, in_memory._lock:
            background._end_all()  # nothing of it is at work here
        with suppress(FrameError):
            run.result()
            os._exit(2)
        os._exit(3 if run.done or "in another process" not in str(run) else 0)
    try:
        ended = _waited_for(child)
    finally:
        go_on.set()
    assert ended == 0
    assert run.result(60)["review_sentiment"].notna().all()


def _waited_for(process: int, seconds: float = 10.0) -> int | None:
    """The exit status of a process; None, and an end to it, where it hangs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


LEAVING = """
import atexit
atexit.register(lambda: print(run))  # what is registered first comes last
import pandas as pd
import nbllm
from nbllm.engine.batching import TokenBudget
from tests.conftest import tiny_model

TokenBudget.of = lambda *_, **__: TokenBudget(64)
frame = pd.DataFrame({"review": [f"The soup of day {n} was warm." for n in range(9_000)]})
run = frame.llm.sentiment("review", model=tiny_model("causal"), ledger=False, background=True)
while run.report is None or not run.report.computed:
    pass
print("leaving")
"""


@pytest.mark.long
def test_leaving_python_ends_what_is_at_work() -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVING],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
    )
    leaving, state = left.stdout.splitlines()[-2:]
    assert leaving == "leaving" and state.startswith("sentiment: cancelled")
    assert (left.returncode, "terminate" in left.stderr) == (0, False), left.stderr

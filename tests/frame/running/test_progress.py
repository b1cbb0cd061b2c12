"""What a run tells while it works: how far it is, how long it will take, and what it found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbllm  # noqa: F401  registers df.llm
import nbllm.frame.running.eta as forecast
import nbllm.frame.running.progress as progress
from nbllm.activity.jobs import cancel, jobs
from nbllm.display.progress_bar import ProgressBar
from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt
from nbllm.frame.running.eta import EtaEstimator
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.tasks.label import CalibratedPromptTask, _BatchInvariantTask
from nbllm.models.model import Model

ROWS = 40

# Batches as they were measured with the default model on one core: rows, tokens a row, seconds.
SST2 = [
    *((24, 48, 3.29), (34, 41, 2.76), (39, 36, 2.48), (42, 33, 2.73), (48, 30, 2.54)),
    *((52, 27, 2.46), (56, 24, 2.45), (66, 20, 2.61), (80, 16, 2.58), (59, 11, 1.47)),
]
IMDB = [
    *((1, 1693, 9.83), (1, 1178, 3.32), (1, 1139, 3.1), (1, 1060, 2.63), (1, 982, 2.49)),
    *((1, 958, 2.44), (1, 878, 2.22), (1, 875, 2.22), (1, 821, 1.72), (2, 647, 4.58)),
    *((2, 576, 2.74), (3, 504, 2.85), (3, 451, 2.86), (3, 406, 2.29), (4, 361, 2.51)),
    *((4, 349, 3.22), (4, 329, 3.8), (5, 277, 2.84), (5, 258, 2.34), (6, 242, 2.73)),
    *((6, 227, 3.02), (6, 212, 2.4), (7, 199, 3.04), (7, 185, 2.57), (8, 165, 2.49)),
    *((9, 146, 2.4), (7, 82, 1.53)),
]
PROMPTS = [(35, 41, 12.42), (41, 29, 13.92), (46, 21, 13.48), (28, 13, 9.02)]
SUMMARIES = [(2, 1926, 5.7), (12, 1057, 14.7), (17, 676, 13.1), (28, 393, 12.4), (21, 213, 6.4)]


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Reviews in batches of a few rows."""
    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(64))
    return pd.DataFrame({"review": [f"The soup of day {n} was warm." for n in range(ROWS)]})


class Shown:
    """A display that remembers what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float | None]] = []
        self.monitor: RunMonitor | None = None
        self.ended = 0

    def show(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        step = monitor.step
        assert step is not None
        self.seen.append((monitor.state, step.report.answered, step.seconds_left))

    def open(self, monitor: RunMonitor) -> bool:
        return False

    def end(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.ended += 1


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Shown]]:
    """The displays of the runs of a test, told often."""
    made: list[Shown] = []

    def make() -> Shown:
        made.append(Shown())
        return made[-1]

    monkeypatch.setattr(progress, "_factories", [make])
    monkeypatch.setattr(progress, "_PAUSE", 0.01)
    yield made


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Let each batch of rows take some time; the rows of each, as they come."""
    score = _BatchInvariantTask.__call__
    calls: list[int] = []

    def slow(self: _BatchInvariantTask, prompts: Sequence[Prompt]) -> Sequence[Any]:
        calls.append(len(prompts))
        time.sleep(seconds)
        return score(self, prompts)

    monkeypatch.setattr(_BatchInvariantTask, "__call__", slow)
    return calls


# --- how long it will take ---


@pytest.mark.parametrize(
    ("batches", "written"),
    [(SST2, 0), (IMDB, 0), (SUMMARIES, 56), (PROMPTS, 64)],
    ids=["sst2", "imdb", "summaries", "prompts"],
)
def test_after_a_tenth_the_end_is_foretold(
    batches: list[tuple[int, int, float]],
    written: int,
    monkeypatch: pytest.MonkeyPatch,
    smollm2: Model,
) -> None:
    """With the lengths and times of real runs, whose rows come the longest first."""
    now = [0.0]
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])

    class Measured:
        """A task on the default model whose prompts have the lengths that were measured."""

        prefix_tokens = 300
        label_tokens = 0

        def encode(self, texts: Sequence[tuple[str]], *, truncate: bool) -> list[Prompt]:
            return [Prompt((0,) * len(text), text, (), ()) for (text,) in texts]

    class Task:
        decodes = written > 0

        def answer_tokens(self, model: Model) -> int:
            return written or 1

    texts = [("x" * tokens,) for rows, tokens, _ in batches for _ in range(rows)]
    left = EtaEstimator.for_run(texts, Measured(), Task(), smollm2)  # type: ignore[arg-type]
    assert left.seconds_left is None and left.share == 0
    whole = sum(seconds for *_, seconds in batches)
    foretold = []
    for done, (rows, _, seconds) in enumerate(batches):
        now[0] += seconds
        left.advance(rows)
        if sum(rows for rows, *_ in batches[: done + 1]) >= len(texts) / 10:
            assert left.seconds_left is not None
            foretold.append((now[0] + left.seconds_left) / whole - 1)
    assert max(map(abs, foretold)) <= 0.15
    assert left.share == 1 and left.seconds_left == 0
    if batches is not PROMPTS:
        # Rows a second, as a bar would have it, are not to be believed at that point.
        rows, _, seconds = (sum(column) for column in zip(*batches, strict=True))
        first = batches[0]
        assert abs(first[2] / first[0] * rows / seconds - 1) > 0.15


def test_while_a_batch_is_at_work_the_bar_goes_on_and_never_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    left = EtaEstimator([10.0] * 8, rows=lambda _: 2, reading=lambda rows, tokens: rows * tokens)
    shares = []
    for _ in range(4):
        for _ in range(20):
            now[0] += 0.1
            shares.append(left.share)
        left.advance(2)
        shares.append(left.share)
    assert shares == sorted(shares) and len(set(shares)) > 40
    assert shares[20::21] == [0.25, 0.5, 0.75, 1.0]
    assert max(shares[:-1]) < 1


@pytest.mark.parametrize("written", [64, 20])
def test_of_texts_that_are_written_the_time_left_follows_their_tokens(
    written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four batches of 60 s, of answers that end where they may or before: no time stands still."""
    now = [0.0]
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    left = EtaEstimator(
        [200.0] * 4,
        rows=lambda _: 1,
        reading=lambda rows, tokens: rows * tokens,
        writing=lambda rows, tokens: 50.0,
        max_new_tokens=64,
    )
    told, shares = [], [left.share]
    for batch in range(4):
        now[0] += 60 * 200 / (200 + written * 50)
        for _ in range(written):
            now[0] += 60 * 50 / (200 + written * 50)
            left.add_token()
            assert left.seconds_left is not None  # from the first token on
            told.append((batch, now[0], left.seconds_left))
            shares.append(left.share)
        left.advance(1)
    assert shares == sorted(shares) and len(set(shares)) > 3 * written
    assert left.share == 1 and left.seconds_left == 0
    # What is taken to be written is known from the first batch on, or what may be.
    known = [(at, promised) for batch, at, promised in told if batch or written == 64]
    assert max(abs(at + promised - 240) for at, promised in known) < (1 if written == 64 else 10)


def test_a_batch_that_takes_longer_than_thought_leaves_some_time_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    left = EtaEstimator([10.0] * 4, rows=lambda _: 2, reading=lambda rows, tokens: rows * tokens)
    now[0] += 10
    left.advance(2)
    promised = []
    for _ in range(60):
        now[0] += 1
        promised.append(left.seconds_left)
    assert promised == sorted(promised, reverse=True) and len(set(promised)) == 60


def test_one_figure_is_shown_by_bar_widget_panel_and_status(
    tiny_llama: Model, shown: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a text is written, and rows differ in what they take."""
    from nbllm.frame.running.progress_bar import Bar
    from nbllm.widgets.run.view import state_of

    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(700))
    bars = Bar()
    frame = pd.DataFrame({"text": ["A long story of a warm soup. " * 12] + ["Soup."] * 3})
    frame["text"] += [f" {n}" for n in range(4)]
    seen: list[tuple[Any, ...]] = []

    class Compared(Shown):
        def show(self, monitor: RunMonitor) -> None:
            step, job = monitor.step, monitor._job
            if step is None or job is None or step.eta is None:
                return
            share, left = step.share, step.seconds_left
            with monkeypatch.context() as fixed:  # at one moment
                fixed.setattr(progress.Step, "share", share)
                fixed.setattr(progress.Step, "seconds_left", left)
                job._written = 0.0
                progress._update(job, step)
                bars.show(monitor)
                state = state_of(monitor)["step"]
            record = next(job for job in jobs() if job.id == step.job)
            bar = bars._bars[-1]
            seen.append((share, state["share"], record.share))
            assert share == state["share"] == record.share
            assert left == state["seconds_left"] == record.seconds_left == bar.seconds_left
            assert bar.n == step.percent == int(share * 100 + 1e-9)

    wrote = EtaEstimator.add_token

    def slow(self: EtaEstimator) -> None:
        time.sleep(0.02)
        wrote(self)

    monkeypatch.setattr(EtaEstimator, "add_token", slow)
    monkeypatch.setattr(progress, "_factories", [Compared])
    frame.llm.prompt("{text}", into="told", model=tiny_llama, max_new_tokens=8, ledger=False)
    assert len({share for share, *_ in seen}) > 3


def test_what_is_left_is_told_no_finer_than_it_is_known() -> None:
    told = {0.0: 0, 0.2: 1, 3.4: 4, 17.6: 20, 58: 60, 137: 140, 1234: 1260, 7300: 7200}
    assert {seconds: progress._rounded(seconds) for seconds in told} == told


def test_rows_that_cannot_be_asked_take_no_time() -> None:
    left = EtaEstimator([9.0] * 4, rows=lambda _: 2, reading=lambda rows, tokens: rows * tokens)
    left.advance(2, computed=False)
    assert left.share == 0.5 and left.seconds_left is None


# --- what is told ---


def test_a_run_is_told_as_it_goes_and_sums_up_right(
    frame: pd.DataFrame, tiny_llama: Model, shown: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.05)
    rows = pd.concat([frame, frame.iloc[:3], pd.DataFrame({"review": [None]})], ignore_index=True)
    answered = rows.llm.sentiment("review", model=tiny_llama)
    [display] = shown
    assert display.ended == 1 and display.monitor is not None and display.monitor.step is not None
    counts = [count for _, count, _ in display.seen]
    assert counts == sorted(counts) and len(set(counts)) > 3
    step = display.monitor.step
    # Rows, not texts: each duplicate counts.
    assert step.labels == answered["review_sentiment"].value_counts().to_dict()
    assert sum(step.labels.values()) == ROWS + 3
    assert (step.state, step.share, step.seconds_left) == ("done", 1.0, None)
    assert 0 < len(step.slowest) <= 5
    assert all(seconds > 0.01 for _, seconds in step.slowest)
    assert 0 < step.share_of_limit < 1


def test_answers_that_were_known_are_counted_and_alone_show_nothing(
    frame: pd.DataFrame, tiny_llama: Model, shown: list[Shown]
) -> None:
    frame.head(10).llm.sentiment("review", model=tiny_llama)
    frame.llm.sentiment("review", model=tiny_llama)
    whole = frame.llm.sentiment("review", model=tiny_llama)
    assert len(shown) == 2
    assert len([job for job in jobs() if job.rows in (10, ROWS)]) >= 2
    step = shown[1].monitor.step
    assert step.report.known == 10
    assert step.labels == whole["review_sentiment"].value_counts().to_dict()


def test_failed_rows_are_told_by_their_index_and_reason(
    frame: pd.DataFrame, tiny_llama: Model, shown: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    score = _BatchInvariantTask.__call__

    def some(self: _BatchInvariantTask, prompts: Sequence[Prompt]) -> Sequence[Any]:
        if any("day 7 " in prompt.text for prompt in prompts):
            raise ValueError("<b>cold</b>")
        return score(self, prompts)

    monkeypatch.setattr(_BatchInvariantTask, "__call__", some)
    mixed = pd.DataFrame({"review": [*frame["review"], 3]}, index=[f"r{n}" for n in range(41)])
    with pytest.warns(UserWarning, match="2 of 41 rows have no answer"):
        mixed.llm.sentiment("review", model=tiny_llama)
    assert dict(shown[0].monitor.step.failed) == {
        "r7": "ValueError: <b>cold</b>",
        "r40": "not a text but a value of type int: 3",
    }


def test_what_is_told_stays_small(tiny_llama: Model, shown: list[Shown]) -> None:
    long = "a" * 3000
    many = pd.DataFrame({"text": [f"{long} {n}" for n in range(30)]})
    with pytest.warns(UserWarning, match="no answer"):
        many.llm.sentiment("text", model=tiny_llama, ledger=False)
    assert len(shown[0].monitor.step.failed) == 20
    assert all(len(error) <= 200 for _, error in shown[0].monitor.step.failed)


def test_several_labels_are_each_counted(tiny_llama: Model, shown: list[Shown]) -> None:
    frame = pd.DataFrame({"text": ["warm soup", "cold soup", "warm staff"]})
    answered = frame.llm.classify("text", ["soup", "staff"], multi=True, model=tiny_llama)
    counted = pd.Series(answered["text_classify"].map(pd.io.json.ujson_loads).sum()).value_counts()
    assert shown[0].monitor.step.labels == counted.to_dict()


def test_what_was_written_last_is_told(tiny_llama: Model, shown: list[Shown]) -> None:
    frame = pd.DataFrame({"text": ["The soup was warm.", "The staff were kind."]})
    answered = frame.llm.prompt("{text}", into="told", model=tiny_llama, max_new_tokens=4)
    latest = dict(shown[0].monitor.step.latest)
    assert latest == {str(row): text for row, text in answered["told"].items()}


# --- jobs and cancel ---


def test_a_run_is_a_job_until_it_ends(
    frame: pd.DataFrame, tiny_llama: Model, shown: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(monkeypatch, 0.1)
    run = frame.llm.sentiment("review", model=tiny_llama, ledger=False, background=True)
    while not (found := [job for job in jobs() if job.state == "running" and job.answered]):
        assert not run.done
        time.sleep(0.01)
    assert (found[0].verb, found[0].output) == ("sentiment", "review_sentiment")
    assert (found[0].rows, found[0].texts, found[0].model) == (ROWS, ROWS, "tiny-causal")
    run.result(60)
    [ended] = [job for job in jobs() if job.id == found[0].id]
    assert (ended.state, ended.answered, ended.error) == ("done", ROWS, "")


def test_another_process_cancels_within_a_batch_and_the_ledger_keeps_what_was_done(
    frame: pd.DataFrame, tiny_llama: Model, shown: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    score, calls = _BatchInvariantTask.__call__, []

    def asked_to_stop(self: _BatchInvariantTask, prompts: Sequence[Prompt]) -> Sequence[Any]:
        calls.append(len(prompts))
        if len(calls) == 2:
            cancel(next(job for job in jobs() if job.state == "running").id)
        return score(self, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(_BatchInvariantTask, "__call__", asked_to_stop)
        with pytest.warns(UserWarning, match=r"cancelled with \d+ texts unanswered.*ask again"):
            partial = frame.llm.sentiment("review", model=tiny_llama)
    done = partial["review_sentiment"].notna()
    assert len(calls) == 2 and done.sum() == sum(calls)
    assert shown[0].monitor.state == "cancelled" and partial.llm.report().stopped
    assert jobs()[0].state == "cancelled"
    again = frame.llm.sentiment("review", model=tiny_llama).llm.report()
    assert (again.known, again.computed) == (done.sum(), ROWS - done.sum())


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("no disk"), "failed")]
)
def test_a_job_says_how_it_ended(
    frame: pd.DataFrame,
    tiny_llama: Model,
    shown: list[Shown],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    state: str,
) -> None:
    def raised(*_: Any) -> None:
        raise error

    monkeypatch.setattr(CalibratedPromptTask, "calibrate", raised)
    with pytest.raises(RuntimeError) if state == "failed" else pytest.warns(UserWarning, match=""):
        frame.llm.sentiment("review", model=tiny_llama)
    assert shown[0].monitor.state == jobs()[0].state == state
    assert jobs()[0].error == ("RuntimeError: no disk" if state == "failed" else "")


def test_the_steps_of_a_reply_are_one_display(tiny_llama: Model, shown: list[Shown]) -> None:
    frame = pd.DataFrame({"message": ["Where is my order?", "I want my money back."]})
    frame.llm.reply(
        "message", ["An order takes a day, and money a week."], intents=["a", "b"], model=tiny_llama
    )
    [display] = shown
    assert display.ended == 1
    assert [step.report.output for step in display.monitor.steps] == [
        "message_reply_intent",
        "message_reply_sentiment",
        "message_reply_urgency",
        "message_reply",
    ]


def test_a_display_that_fails_stops_nothing(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Shown):
        def show(self, monitor: RunMonitor) -> None:
            raise ValueError("no screen")

        end = show

    monkeypatch.setattr(progress, "_factories", [Broken])
    monkeypatch.setattr(progress, "_PAUSE", 0.01)
    answered = frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    assert answered["review_sentiment"].notna().all()


# --- in a terminal ---


def test_in_a_terminal_it_is_a_bar_with_its_own_forecast(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(progress, "_PAUSE", 0.02)
    monkeypatch.setattr(ProgressBar, "_is_terminal", lambda _: True)
    slowed(monkeypatch, 0.05)
    frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    lines = capsys.readouterr().err.split("\r")
    assert any(f"| 0/{ROWS} [" in line and "getting ready" in line for line in lines)
    assert len(lines) > 5
    assert "sentiment: 100%|" in lines[-1] and f"| {ROWS}/{ROWS} [" in lines[-1]
    assert lines[-1].endswith("\n")


def test_in_a_log_it_is_its_first_and_its_last_line(
    frame: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(progress, "_PAUSE", 0.02)
    slowed(monkeypatch, 0.05)
    frame.llm.sentiment("review", model=tiny_llama, ledger=False)
    first, last = capsys.readouterr().err.splitlines()
    assert "getting ready" in first
    assert "sentiment: 100%|" in last and f"| {ROWS}/{ROWS} [" in last


def test_telling_costs_little() -> None:
    """What a telling takes of a core, four times a second, is well below a hundredth."""
    from nbllm.frame.running.report import RunReport
    from nbllm.widgets.run.view import state_of

    monitor = RunMonitor("sentiment", "mood")
    step = progress.Step(RunReport("id", "sentiment", "mood", {"name": "m"}))
    step.labels.update({f"label {n}": n for n in range(500)})
    step.failed = [("row", "error " * 30)] * 20
    monitor.steps.append(step)
    before = threading.active_count()
    started = time.thread_time()
    for _ in range(50):
        state = state_of(monitor)
    assert (time.thread_time() - started) / 50 < 0.0025
    assert len(str(state)) < 8_000
    assert threading.active_count() <= before + 1
    assert np.isfinite(step.seconds)

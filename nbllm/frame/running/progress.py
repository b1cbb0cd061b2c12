"""What a verb tells while it works, who shows it, and how it is asked to stop.

A call of a verb has one `RunMonitor`, and a `Step` for each run in it: some verbs ask several
questions of a row, and a long text is summarized in pieces first. The run writes into its step; a
thread updates the displays a few times a second, so that they move during a long batch.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, floor
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nbllm.activity.jobs import Job
from nbllm.engine.locks import FORWARD_LOCK, named_work
from nbllm.errors import NbllmError

if TYPE_CHECKING:
    from types import TracebackType

    from nbllm.engine.runner import BatchResult
    from nbllm.frame.running.eta import Forecast
    from nbllm.frame.running.report import RunReport
    from nbllm.models.flops import TokenCounts

__all__ = ["Display", "RunMonitor", "State", "Step", "monitoring", "show_with"]

State = Literal["running", "done", "failed", "cancelled", "interrupted"]

_PAUSE = 0.33  # seconds between two tellings
_KEPT = {"failed": 20, "slowest": 5, "latest": 3}  # rows that are told of
_LONGEST = 200  # characters of an answer or error that is told

_log = logging.getLogger("nbllm")


@dataclass
class Step:
    """One run, as it goes."""

    report: RunReport
    state: State = "running"
    error: str = ""
    note: str = "getting ready"  # what it does before the first row
    thread: int = field(default_factory=threading.get_ident)  # that works on it
    job: str | None = None  # its id
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    read: TokenCounts | None = None  # so far
    operations: Callable[[TokenCounts], float] | None = (
        None  # of what was read; None where not counted
    )
    forecast: Forecast | None = None  # from the first row on
    labels: Counter[str] = field(default_factory=Counter)  # rows a label
    failed: list[tuple[str, str]] = field(default_factory=list)  # row and reason
    slowest: list[tuple[str, float]] = field(default_factory=list)  # row and its seconds
    latest: list[tuple[str, str]] = field(default_factory=list)  # row and what was written

    @property
    def waiting_for(self) -> str:
        """What it waits for; empty while it waits for nothing."""
        holder = FORWARD_LOCK.blocked_by(self.thread) if self.state == "running" else None
        return "" if holder is None else f"waiting for {holder}"

    @property
    def doing(self) -> str:
        """What it does instead of answering rows; empty while it answers them."""
        return self.waiting_for or self.note

    @property
    def seconds(self) -> float:
        """Of wall clock, so far or until it ended."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def share(self) -> float:
        """How much of the work is done, from 0 to 1: the one figure that all displays show."""
        share = self.report.answered / max(1, self.report.texts)
        if self.forecast is not None and self.state == "running":
            known = self.report.known / max(1, self.report.texts)
            share = known + (1 - known) * self.forecast.share
        return floor(share * 10_000) / 10_000

    @property
    def percent(self) -> int:
        """The share as a whole number; 100 only when all is done."""
        return min(floor(self.share * 100 + 1e-9), 99 if self.state == "running" else 100)

    @property
    def seconds_left(self) -> float | None:
        """Until its end; None while that cannot be told."""
        if self.forecast is None or self.state != "running":
            return None
        left = self.forecast.seconds_left
        return None if left is None else _as_known(left)

    @property
    def share_of_limit(self) -> float | None:
        """Of the operations that the device can do, those that the run's texts take."""
        rate, seconds = self.report.matrix_rate, self.report.seconds
        if self.operations is None or self.read is None or not rate or not seconds:
            return None
        return self.operations(self.read) / seconds / rate

    def begin_answers(self, forecast: Forecast) -> None:
        """The model is ready, and rows are asked from now on."""
        self.forecast = forecast
        self.note = ""

    def add_token(self) -> None:
        """Each row of the batch at work has one token more."""
        if self.forecast is not None:
            self.forecast.add_token()

    def end_batch(self, rows: Sequence[Any], done: BatchResult) -> None:
        """Tell how long a batch took.

        Args:
            rows: the labels of some of its rows.
            done: what it brought.
        """
        count = len(done.answers) + len(done.errors)
        assert self.forecast is not None
        seconds = self.forecast.advance(count, computed=done.forwards > 0)
        if done.forwards:
            timed = [(str(row), seconds / max(1, count)) for row in rows]
            ranked = sorted(self.slowest + timed, key=lambda row: -row[1])
            self.slowest = ranked[: _KEPT["slowest"]]

    def add_failed(self, row: Any, error: str) -> None:
        """Tell of a row without an answer, unless many were told of."""
        if len(self.failed) < _KEPT["failed"]:
            self.failed.append((str(row), error[:_LONGEST]))

    def add_written(self, written: Mapping[Any, str]) -> None:
        """Tell what was written last, by row."""
        some = list(written.items())[-_KEPT["latest"] :]
        self.latest = [(str(row), text[:_LONGEST]) for row, text in some]


class Display(Protocol):
    """Shows a monitor to the user. What it raises is logged, and stops nothing."""

    def show(self, monitor: RunMonitor) -> None:
        """Called a few times a second while there is something to see, always by one thread."""

    def open(self, monitor: RunMonitor) -> bool:
        """Show it where the user asks for it, too; whether it could."""
        ...

    def end(self, monitor: RunMonitor) -> None:
        """Show how it ended. Nothing is shown after that."""


class RunMonitor:
    """One call of a verb: seen on screen and in the list of jobs, and asked to stop.

    Args:
        verb: what it does.
        output: the column of its answers.
        in_background: whether it works beside the notebook, and nobody waits for it.

    Example:
        >>> with RunMonitor("sentiment", "review_sentiment") as monitor:  # doctest: +SKIP
        ...     answer_frame(frame, task, model, columns, output="r", monitor=monitor)
    """

    def __init__(self, verb: str, output: str, *, in_background: bool = False) -> None:
        self.verb = verb
        self.output = output
        self.in_background = in_background
        self.steps: list[Step] = []
        self.error: str = ""
        self.ended: bool = False
        self.display: Display | None = None
        self._job: Job | None = None
        self._stop = threading.Event()
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    @property
    def step(self) -> Step | None:
        """The run that is at work, or was last."""
        return self.steps[-1] if self.steps else None

    @property
    def report(self) -> RunReport | None:
        """Of that run."""
        return None if self.step is None else self.step.report

    @property
    def state(self) -> State:
        """How far it is, or how it ended."""
        if self.error:
            return "failed"
        if not self.ended:
            return "running"
        states: list[State] = [s.state for s in self.steps if s.state != "done"]
        return states[0] if states else "done"

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop, here or by another process; looked at once a batch."""
        if not self._stop.is_set() and self._job is not None and self._job.cancelled:
            self._stop.set()
        return self._stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether one of its runs was stopped before its end."""
        return any(step.state in ("cancelled", "interrupted") for step in self.steps)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, and has not yet."""
        return self._stop.is_set() and not self.ended

    def cancel(self) -> None:
        """Stop after the batch that is being computed."""
        self._stop.set()

    @contextmanager
    def track(self, step: Step) -> Iterator[None]:
        """While a run is at work: it is shown, and is a job that others can cancel."""
        report = step.report
        self._job = Job.begin(
            verb=report.verb,
            output=report.output,
            model=report.model["name"],
            rows=report.rows,
            texts=report.texts,
        )
        step.job = self._job.id
        self.steps.append(step)
        self._start_updates()
        try:
            with named_work(f"{report.verb} → {report.output}"):
                yield
            if step.state == "running":
                step.state = "done"
        except BaseException as error:
            step.state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            step.error = f"{type(error).__name__}: {error}" if step.state == "failed" else ""
            raise
        finally:
            step.ended = time.monotonic()
            job, self._job = self._job, None
            _update(job, step)
            job.end(step.state if step.state != "running" else "failed", step.error)

    def open(self) -> bool:
        """Show it here, whether it has begun or has ended; whether it could be."""
        with self._lock:
            if self.display is None:
                self.display = _display()
            return bool(_try(self.display.open, self))

    def __enter__(self) -> RunMonitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if error is not None and not isinstance(error, KeyboardInterrupt):
            self.error = f"{kind.__name__ if kind else 'Error'}: {error}"
        self.ended = True
        with self._lock:
            if self.display is None and self.steps:
                self.display = _display()
            if self.display is not None:
                _try(self.display.end, self)

    def _start_updates(self) -> None:
        if self._thread is None:
            # Output finds its cell by the context, and a thread begins with an empty one.
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run,
                args=(self._update_displays,),
                name=f"nbllm {self.verb} told",
                daemon=True,
            )
            self._thread.start()

    def _update_displays(self) -> None:
        while not self._over.wait(_PAUSE):
            step, job = self.step, self._job
            if step is not None and job is not None:
                _update(job, step)
            with self._lock:
                if self.display is None:
                    self.display = _display()
                _try(self.display.show, self)


@contextmanager
def monitoring(monitor: RunMonitor | None, verb: str, output: str) -> Iterator[RunMonitor]:
    """The monitor that is there, which whoever made it ends, or one for as long as this lasts."""
    if monitor is not None:
        yield monitor
        return
    with RunMonitor(verb, output) as own:
        yield own


_others: list[Callable[[], Display | None]] = []


def show_with(display: Callable[[], Display | None]) -> None:
    """Ask this for the display of a monitor from now on; it gives None where it cannot show one.

    The floors above have displays that this one knows nothing of.
    """
    if display not in _others:
        _others.append(display)


def _display() -> Display:
    for make in reversed(_others):
        try:
            display = make()
        except (ImportError, NbllmError) as error:
            _log.debug("no widget shows the run: %s", error)
            continue
        if display is not None:
            return display
    from nbllm.frame.running.progress_bar import Bar

    return Bar()


def _as_known(seconds: float) -> float:
    """A length of time to come, no finer than it is known."""
    if seconds < 4:
        return float(ceil(seconds))
    unit = 5 if seconds < 55 else 10 if seconds < 600 else 60 if seconds < 3600 else 300
    return float(unit * round(seconds / unit))


def _update(job: Job, step: Step) -> None:
    report = step.report
    job.update(
        answered=report.known + report.computed,
        known=report.known,
        failed=report.failed,
        share=step.share,
        rows_per_second=report.rows_per_second,
        seconds_left=step.seconds_left,
    )


def _try(act: Callable[[RunMonitor], bool | None], monitor: RunMonitor) -> bool | None:
    """Act, whatever comes of it: what is shown is worth less than what is computed."""
    try:
        return act(monitor)
    except Exception:
        _log.debug("a run could not be shown", exc_info=True)
        return None

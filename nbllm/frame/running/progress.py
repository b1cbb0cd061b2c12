"""The progress of a verb's call: its state, its displays and its cancellation.

A call has one `RunMonitor`, and one `Step` per run: some verbs run several questions per row, and
long texts are first summarized in pieces. A run writes into its step. A thread updates the display
a few times per second, so that it also moves during a long batch.
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
    from nbllm.frame.running.eta import EtaEstimator
    from nbllm.frame.running.report import RunReport
    from nbllm.models.flops import TokenCounts

__all__ = ["Display", "RunMonitor", "State", "Step", "monitoring", "register_display"]

State = Literal["running", "done", "failed", "cancelled", "interrupted"]

_PAUSE = 0.33  # seconds between two updates of the display
_MAX_ROWS = {"failed": 20, "slowest": 5, "latest": 3}  # rows that a step keeps for display
_MAX_CHARACTERS = 200  # of an answer or error

_log = logging.getLogger("nbllm")


@dataclass
class Step:
    """The progress of one run."""

    report: RunReport
    state: State = "running"
    error: str = ""
    note: str = "getting ready"  # the activity before the first batch
    thread: int = field(default_factory=threading.get_ident)  # the thread of the run
    job: str | None = None  # the id of its job
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    tokens_read: TokenCounts | None = None  # so far
    operations: Callable[[TokenCounts], float] | None = None  # FLOPs of tokens; None if not counted
    eta: EtaEstimator | None = None  # from the first batch on
    labels: Counter[str] = field(default_factory=Counter)  # rows per label
    failed: list[tuple[str, str]] = field(default_factory=list)  # row label and error
    slowest: list[tuple[str, float]] = field(default_factory=list)  # row label and seconds
    latest: list[tuple[str, str]] = field(default_factory=list)  # row label and generated text

    @property
    def waiting_for(self) -> str:
        """The reason why the run waits, such as another run; empty if it does not wait."""
        holder = FORWARD_LOCK.blocked_by(self.thread) if self.state == "running" else None
        return "" if holder is None else f"waiting for {holder}"

    @property
    def doing(self) -> str:
        """The current activity other than computing answers; empty while it computes them."""
        return self.waiting_for or self.note

    @property
    def seconds(self) -> float:
        """The seconds of wall clock until now or the end."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def share(self) -> float:
        """The part of the work that is done, from 0 to 1, as all displays show it."""
        share = self.report.answered / max(1, self.report.texts)
        if self.eta is not None and self.state == "running":
            known = self.report.known / max(1, self.report.texts)
            share = known + (1 - known) * self.eta.share
        return floor(share * 10_000) / 10_000

    @property
    def percent(self) -> int:
        """The share in whole per cent; below 100 while the run goes on."""
        return min(floor(self.share * 100 + 1e-9), 99 if self.state == "running" else 100)

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds until the end, rounded; None while unknown."""
        if self.eta is None or self.state != "running":
            return None
        left = self.eta.seconds_left
        return None if left is None else _rounded(left)

    @property
    def share_of_limit(self) -> float | None:
        """The run's matrix operations per second, relative to the device's maximum."""
        rate, seconds = self.report.matrix_rate, self.report.seconds
        if self.operations is None or self.tokens_read is None or not rate or not seconds:
            return None
        return self.operations(self.tokens_read) / seconds / rate

    def begin_answers(self, eta: EtaEstimator) -> None:
        """Mark the start of the first batch.

        Args:
            eta: The estimator of the remaining time.
        """
        self.eta = eta
        self.note = ""

    def add_token(self) -> None:
        """Count one more generated token for each row of the current batch."""
        if self.eta is not None:
            self.eta.add_token()

    def end_batch(self, rows: Sequence[Any], done: BatchResult) -> None:
        """Mark the end of a batch.

        Args:
            rows: The index labels of its longest rows.
            done: The result of the batch.
        """
        count = len(done.answers) + len(done.errors)
        assert self.eta is not None
        seconds = self.eta.advance(count, computed=done.forwards > 0)
        if done.forwards:
            timed = [(str(row), seconds / max(1, count)) for row in rows]
            ranked = sorted(self.slowest + timed, key=lambda row: -row[1])
            self.slowest = ranked[: _MAX_ROWS["slowest"]]

    def add_failed(self, row: Any, error: str) -> None:
        """Add a failed row, up to a maximal number.

        Args:
            row: The index label of the row.
            error: The error.
        """
        if len(self.failed) < _MAX_ROWS["failed"]:
            self.failed.append((str(row), error[:_MAX_CHARACTERS]))

    def add_written(self, written: Mapping[Any, str]) -> None:
        """Set the latest generated texts.

        Args:
            written: The texts by index label.
        """
        latest = list(written.items())[-_MAX_ROWS["latest"] :]
        self.latest = [(str(row), text[:_MAX_CHARACTERS]) for row, text in latest]


class Display(Protocol):
    """Shows the progress of a monitor. Its exceptions are logged, and do not stop the run."""

    def show(self, monitor: RunMonitor) -> None:
        """Show the current state; called a few times per second, always by the same thread."""

    def open(self, monitor: RunMonitor) -> bool:
        """Show the progress in the current cell too, and return whether that was possible."""
        ...

    def end(self, monitor: RunMonitor) -> None:
        """Show the final state."""


class RunMonitor:
    """Monitors one call of a verb: displays it, lists it as a job, and can cancel it.

    Args:
        verb: The name of the verb.
        output: The column of its answers.
        in_background: Whether it runs in a background thread.

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
        """The current or last step; None before the first."""
        return self.steps[-1] if self.steps else None

    @property
    def report(self) -> RunReport | None:
        """The report of that step; None before the first."""
        return None if self.step is None else self.step.report

    @property
    def state(self) -> State:
        """The state of the call: running, or how it ended."""
        if self.error:
            return "failed"
        if not self.ended:
            return "running"
        states: list[State] = [s.state for s in self.steps if s.state != "done"]
        return states[0] if states else "done"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, here or by another process; a run reads it once per batch."""
        if not self._stop.is_set() and self._job is not None and self._job.cancelled:
            self._stop.set()
        return self._stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether one of its runs was stopped before its end, by a cancel or an interrupt."""
        return any(step.state in ("cancelled", "interrupted") for step in self.steps)

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled, but has not stopped yet."""
        return self._stop.is_set() and not self.ended

    def cancel(self) -> None:
        """Stop after the current batch."""
        self._stop.set()

    @contextmanager
    def track(self, step: Step) -> Iterator[None]:
        """Display a run while the context lasts, and list it as a job that others can cancel.

        Args:
            step: The progress of the run.
        """
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
        """Show the call in the current cell, and return whether that was possible."""
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
            # IPython finds the output cell by the context, and a new thread has an empty one.
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run,
                args=(self._update_displays,),
                name=f"nbllm {self.verb} progress",
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
    """Yield the given monitor, or a new one that ends with the context.

    Args:
        monitor: The monitor of the caller, which ends it; None creates one.
        verb: The name of the verb.
        output: The column of its answers.
    """
    if monitor is not None:
        yield monitor
        return
    with RunMonitor(verb, output) as own:
        yield own


_factories: list[Callable[[], Display | None]] = []


def register_display(display: Callable[[], Display | None]) -> None:
    """Register a display to use instead of the progress bar.

    Args:
        display: Returns a new display; None where it cannot show one, such as in a terminal.
    """
    if display not in _factories:
        _factories.append(display)


def _display() -> Display:
    for make in reversed(_factories):
        try:
            display = make()
        except (ImportError, NbllmError) as error:
            _log.debug("no widget shows the run: %s", error)
            continue
        if display is not None:
            return display
    from nbllm.frame.running.progress_bar import Bar

    return Bar()


def _rounded(seconds: float) -> float:
    """Return a remaining time, rounded to the precision of its estimate."""
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


def _try(method: Callable[[RunMonitor], bool | None], monitor: RunMonitor) -> bool | None:
    """Call a method of a display, and log its exception: a failed display must not stop a run."""
    try:
        return method(monitor)
    except Exception:
        _log.debug("a run could not be shown", exc_info=True)
        return None

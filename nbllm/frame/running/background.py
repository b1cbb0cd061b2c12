"""Runs a verb in a background thread, with progress, cancellation and result."""

from __future__ import annotations

import atexit
import contextvars
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from nbllm.errors import FrameError
from nbllm.escaping import say, visible
from nbllm.frame.running.progress import RunMonitor
from nbllm.wording import counted, rate

if TYPE_CHECKING:
    from nbllm.frame.running.report import RunReport

__all__ = ["Run", "start"]


F = TypeVar("F")  # the type of the frame

_QUIET_SECONDS = 2.0  # at exit, before a message says which run Python waits for


class Work(Protocol):
    """Computes the result of a verb and reports progress to a monitor."""

    def __call__(self, *, monitor: RunMonitor) -> Any: ...


def start(verb: str, output: str, work: Work, *, background: bool) -> Any:
    """Return the result of the work, or a `Run` that computes it in the background.

    Args:
        verb: The name of the verb, for display.
        output: The column of its answers.
        work: The work to do.
        background: Whether to return a `Run` at once.
    """
    if background:
        return Run(verb, output, work)
    with RunMonitor(verb, output) as monitor:
        return work(monitor=monitor)


class Run(Generic[F]):
    """A run in the background, as `background=True` returns it.

    A notebook shows its progress while it runs, and its summary when it is done.

    Args:
        verb: The name of the verb, for display.
        output: The column of its answers.
        work: The work to do.

    Example:
        >>> run = df.llm.sentiment("review", background=True)  # doctest: +SKIP
        >>> run  # doctest: +SKIP
        sentiment: 1,200 of 10,000 rows, 85.0 rows/s
        >>> answered = run.result()  # doctest: +SKIP
    """

    def __init__(self, verb: str, output: str, work: Work) -> None:
        self.verb = verb
        self._monitor = RunMonitor(verb, output, in_background=True)
        self._frame: Any = None
        self._error: BaseException | None = None
        self._process = os.getpid()
        # IPython finds the output cell by the context, and a new thread has an empty one.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work, work), name=f"nbllm {verb}", daemon=True
        )
        _active_runs.add(self)
        self._thread.start()

    @property
    def report(self) -> RunReport | None:
        """The report of the current step so far; None before the first step."""
        report = self._monitor.report
        return None if report is None else replace(report)

    @property
    def done(self) -> bool:
        """Whether the run has ended, also by an error; always False in a forked process."""
        return self._is_own and not self._thread.is_alive()

    @property
    def _is_own(self) -> bool:
        """Whether this process started the run: a forked process has none of its threads."""
        return os.getpid() == self._process

    def cancel(self) -> None:
        """Stop after the current batch; `result` then returns the answers so far."""
        self._monitor.cancel()

    def result(self, timeout: float | None = None) -> F:
        """Wait for the run and return the answered frame.

        Args:
            timeout: The seconds to wait at most; None waits until the run ends.

        Raises:
            FrameError: The run is not done in time, and continues; or another process started it.
            NbllmError: The verb raised this error.
        """
        if not self._is_own:
            raise FrameError(
                f"{self}: process {self._process} started it, and has the answers. Ask there; what "
                "it has answered is in the ledger, unless that was off."
            )
        self._thread.join(timeout)
        if not self.done:
            raise FrameError(f"{self}: not done after {timeout:g} s. Wait longer, or cancel() it.")
        if self._error is not None:
            raise self._error
        frame: F = self._frame
        return frame

    def _work(self, work: Work) -> None:
        try:
            with self._monitor as monitor:
                self._frame = work(monitor=monitor)
        except BaseException as error:  # `result` raises it
            self._error = error
        finally:
            _active_runs.discard(self)

    def __str__(self) -> str:
        state = "failed" if self._error else "done" if self.done else "running"
        if not self._is_own:
            state = "in another process"
        if self.done and self._monitor.stopped:
            state = "cancelled"
        elif self._monitor.stopping:
            state = "stopping after this batch"
        report = self.report
        if report is None:
            return visible(f"{self.verb}: {state}")
        speed = rate(report.rows_per_second, "rows") if report.computed else ""
        counts = f"{report.answered:,} of {counted(report.texts, 'text')}"
        step = self._monitor.step
        waiting_for = "" if step is None else step.waiting_for
        return visible(
            ", ".join(filter(None, [f"{self.verb}: {state}", counts, speed, waiting_for]))
        )

    __repr__ = __str__

    def _ipython_display_(self) -> None:
        if not self._monitor.open():
            say(self)


_active_runs: WeakSet[Run[Any]] = WeakSet()


@atexit.register
def _end_all() -> None:
    """Stop all runs before Python exits, which destroys the libraries that they compute with."""
    runs = list(_active_runs)
    for run in runs:
        run.cancel()
    for run in runs:
        run._thread.join(_QUIET_SECONDS)
        if not run.done:
            say(f"nbllm: {run.verb} ends with its batch; Ctrl-C leaves at once.", error=True)
            run._thread.join()


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_active_runs.clear)

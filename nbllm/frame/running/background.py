"""A verb that runs beside the notebook: its progress, its cancel, its result."""

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

_PATIENCE = 2.0  # seconds before a word is said of what is waited for


class Work(Protocol):
    """Does what a verb does, and tells a monitor of it."""

    def __call__(self, *, monitor: RunMonitor) -> Any: ...


def start(verb: str, output: str, work: Work, *, background: bool) -> Any:
    """Do it and return what it makes, or return a `Run` that does it beside the notebook.

    Args:
        verb: what it does, for display.
        output: the column of its answers.
    """
    if background:
        return Run(verb, output, work)
    with RunMonitor(verb, output) as monitor:
        return work(monitor=monitor)


class Run(Generic[F]):
    """A run in the background, as `background=True` returns it.

    Shown in a notebook, it is its progress while it works, and its summary when it is done.

    Args:
        verb: what it does, for display.
        output: the column of its answers.
        work: does it.

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
        # A thread begins with an empty context, and output finds its cell by the context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work, work), name=f"nbllm {verb}", daemon=True
        )
        _at_work.add(self)
        self._thread.start()

    @property
    def report(self) -> RunReport | None:
        """What was done so far, by the step that is at work; None before it begins."""
        report = self._monitor.report
        return None if report is None else replace(report)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way; of another process that is not known."""
        return self._is_here and not self._thread.is_alive()

    @property
    def _is_here(self) -> bool:
        """Whether this process started it: one forked from it has none of its threads."""
        return os.getpid() == self._process

    def cancel(self) -> None:
        """Stop after the batch that is being computed; `result` then has what was answered."""
        self._monitor.cancel()

    def result(self, timeout: float | None = None) -> F:
        """The answered frame, when it is there.

        Args:
            timeout: seconds to wait for it; None waits as long as it takes.

        Raises:
            FrameError: it is not done in time, and goes on; or another process started it.
            NbllmError: whatever the verb raised.
        """
        if not self._is_here:
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
        except BaseException as error:  # raised where the result is asked for
            self._error = error
        finally:
            _at_work.discard(self)

    def __str__(self) -> str:
        state = "failed" if self._error else "done" if self.done else "running"
        if not self._is_here:
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


_at_work: WeakSet[Run[Any]] = WeakSet()


@atexit.register
def _end_all() -> None:
    """Stop what is at work when Python ends, which tears down what a run computes with."""
    runs = list(_at_work)
    for run in runs:
        run.cancel()
    for run in runs:
        run._thread.join(_PATIENCE)
        if not run.done:
            say(f"nbllm: {run.verb} ends with its batch; Ctrl-C leaves at once.", error=True)
            run._thread.join()


if hasattr(os, "register_at_fork"):  # a process that was forked has none of its threads
    os.register_at_fork(after_in_child=_at_work.clear)

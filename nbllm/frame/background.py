"""A verb that runs beside the notebook: its progress, its cancel, its result."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from nbllm.errors import FrameError

if TYPE_CHECKING:
    from nbllm.frame.report import RunReport

__all__ = ["Run"]


class Run:
    """A run in the background, as `background=True` returns it.

    Args:
        verb: what it does, for display.
        work: does it; it is handed what `answer_frame` takes as `go_on`.

    Example:
        >>> run = df.llm.sentiment("review", background=True)  # doctest: +SKIP
        >>> run  # doctest: +SKIP
        sentiment: 1,200 of 10,000 rows, 85.0 rows/s
        >>> answered = run.result()  # doctest: +SKIP
    """

    def __init__(self, verb: str, work: Callable[[Callable[[RunReport], bool]], Any]) -> None:
        self.verb = verb
        self._report: RunReport | None = None
        self._cancelled = threading.Event()
        self._frame: Any = None
        self._error: BaseException | None = None
        # A thread begins with an empty context, and output finds its cell by the context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work, work), name=f"nbllm {verb}", daemon=True
        )
        self._thread.start()

    @property
    def report(self) -> RunReport | None:
        """What was done so far; None before it begins."""
        return self._report

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop after the batch that is being computed; `result` then has what was answered."""
        self._cancelled.set()

    def result(self, timeout: float | None = None) -> Any:
        """The answered frame, when it is there.

        Args:
            timeout: seconds to wait for it; None waits as long as it takes.

        Raises:
            FrameError: it is not done in time. It goes on.
            NbllmError: whatever the verb raised.
        """
        self._thread.join(timeout)
        if not self.done:
            raise FrameError(f"{self}: not done after {timeout:g} s. Wait longer, or cancel() it.")
        if self._error is not None:
            raise self._error
        return self._frame

    def _work(self, work: Callable[[Callable[[RunReport], bool]], Any]) -> None:
        try:
            self._frame = work(self._go_on)
        except BaseException as error:  # raised where the result is asked for
            self._error = error

    def _go_on(self, report: RunReport) -> bool:
        self._report = replace(report)
        return not self._cancelled.is_set()

    def __str__(self) -> str:
        state = "failed" if self._error else "done" if self.done else "running"
        if self._cancelled.is_set():
            state = "cancelled" if self.done else "stopping after this batch"
        if self._report is None:
            return f"{self.verb}: {state}"
        speed = f"{self._report.rows_per_second:,.1f} rows/s" if self._report.computed else ""
        counts = f"{self._report.answered:,} of {self._report.texts:,} texts"
        return ", ".join(filter(None, [f"{self.verb}: {state}", counts, speed]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<code>{escape(str(self))}</code>"

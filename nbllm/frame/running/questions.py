"""Several questions about the same texts, one after the other, until one is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbllm.frame.columns import Rows
from nbllm.frame.running.execute import ExecutionOptions, Question, execute
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.run import warn_of_a_stop

__all__ = ["Questions"]


class Questions:
    """Asks questions and keeps what was answered, by the number of the text.

    Args:
        labels: those of the rows.
        stopped: whether the call was stopped before the first question.
    """

    def __init__(
        self,
        labels: Callable[[], Sequence[Any]],
        execution: ExecutionOptions,
        monitor: RunMonitor,
        *,
        stopped: bool,
    ) -> None:
        self.labels = labels
        self.execution = execution
        self.monitor = monitor
        self.stopped: bool = stopped
        self.records: list[dict[str, Any]] = []
        self.answers: dict[str, dict[int, Any]] = {}  # by the suffix of their column
        self._errors: dict[str, dict[int, str]] = {}  # by the suffix of the question

    def ask(
        self, suffix: str, question: Question, rows: Rows, number: Mapping[int, int] | None = None
    ) -> None:
        """Ask one more question, unless an earlier one was stopped.

        Args:
            suffix: of the column of its answers.
            rows: the texts that it is about.
            number: from the number of a text there to that of the text that it is answered for.
        """
        if self.stopped:
            return
        found = execute(question, rows, self.labels, self.execution, self.monitor)
        self.records.append(found.record)
        if found.report.stopped and not self.monitor.in_background:
            warn_of_a_stop(found.report, found.state)
        self.stopped = self.monitor.stopped
        place = number or {n: n for n in range(len(rows.texts))}
        outputs = zip(question.task.outputs, found.decoded(question.task), strict=True)
        for output, values in outputs:
            self.answers[suffix + output.suffix] = {place[n]: v for n, v in values.items()}
        self._errors[suffix] = {place[n]: error for n, error in found.errors.items()}

    def error(self, text: int) -> str | None:
        """Return the error of the first question that failed for a text."""
        return next((by[text] for by in self._errors.values() if text in by), None)

    def was_asked(self, suffix: str, text: int) -> bool:
        """Return whether a question has an answer to a text, or its error."""
        return text in self.answers.get(suffix, ()) or text in self._errors.get(suffix, ())

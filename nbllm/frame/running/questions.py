"""Runs several questions about the same texts, one after another, until one is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbllm.frame.columns import Rows
from nbllm.frame.running.execute import ExecutionOptions, Question, execute
from nbllm.frame.running.progress import RunMonitor
from nbllm.frame.running.run import warn_if_stopped

__all__ = ["Questions"]


class Questions:
    """Runs questions and keeps their answers, by text index.

    Args:
        labels: Returns the index labels of the rows.
        execution: The options of the runs.
        monitor: The monitor that displays and cancels the runs.
        stopped: Whether the call was cancelled before the first question.
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
        self.answers: dict[str, dict[int, Any]] = {}  # by suffix of the column
        self._errors: dict[str, dict[int, str]] = {}  # by suffix of the question

    def run(
        self, suffix: str, question: Question, rows: Rows, number: Mapping[int, int] | None = None
    ) -> None:
        """Run one more question, unless an earlier one was stopped.

        Args:
            suffix: The suffix of the column of its answers.
            question: The question.
            rows: The texts of the question.
            number: The index under which the answer to each of `rows.texts` is kept; by default
                its own index.
        """
        if self.stopped:
            return
        answers = execute(question, rows, self.labels, self.execution, self.monitor)
        self.records.append(answers.record)
        warn_if_stopped(answers, self.monitor)
        self.stopped = self.monitor.stopped
        index = number or {n: n for n in range(len(rows.texts))}
        outputs = zip(question.task.outputs, answers.decoded(question.task), strict=True)
        for output, values in outputs:
            self.answers[suffix + output.suffix] = {index[n]: v for n, v in values.items()}
        self._errors[suffix] = {index[n]: error for n, error in answers.errors.items()}

    def error(self, text: int) -> str | None:
        """Return the error of the first question that failed for a text, by its index."""
        return next((errors[text] for errors in self._errors.values() if text in errors), None)

    def has_result(self, suffix: str, text: int) -> bool:
        """Return whether a question has an answer or an error for a text, by its index."""
        return text in self.answers.get(suffix, ()) or text in self._errors.get(suffix, ())

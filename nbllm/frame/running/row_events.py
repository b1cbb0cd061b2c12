"""Publishes the results of a run's batches to its progress step, by row label."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbllm.engine.runner import BatchResult
    from nbllm.frame.columns import Rows
    from nbllm.frame.running.progress import Step
    from nbllm.frame.tasks.base import Task

__all__ = ["RowEvents"]

_MAX_ROWS = 5  # per batch and list


class RowEvents:
    """Reports answers and errors to a progress step, by the index labels of their rows.

    Args:
        step: The step.
        task: The task of the run.
        labels: Returns the index labels of the rows; called when the first is needed.
        rows: The texts of the run.
    """

    def __init__(
        self, step: Step, task: Task, labels: Callable[[], Sequence[Any]], rows: Rows
    ) -> None:
        self.step = step
        self.task = task
        self._make_labels = labels
        self.rows = rows
        for row, error in rows.errors.items():
            step.add_failed(self._labels[row], error)

    def report_known(
        self,
        answers: Mapping[int, Any],
        errors: Mapping[int, str],
        offset: Sequence[float] | None,
    ) -> None:
        """Report the answers and errors from the ledger.

        Args:
            answers: The answers by text index.
            errors: The errors by text index.
            offset: The calibration offset.
        """
        self._count(answers, offset)
        for text, error in errors.items():
            self.step.add_failed(self._row(text), error)

    def report_batch(self, done: BatchResult, offset: Sequence[float] | None) -> None:
        """Report the results of a batch.

        Args:
            done: The results by text index.
            offset: The calibration offset.
        """
        self._count(done.answers, offset)
        for text, error in done.errors.items():
            self.step.add_failed(self._row(text), error)
        texts = [*done.answers, *done.errors]
        longest = sorted(texts, key=lambda text: -sum(map(len, self.rows.texts[text])))
        self.step.end_batch([self._row(text) for text in longest[:_MAX_ROWS]], done)
        if self.task.decodes:
            written = list(done.answers.items())[-_MAX_ROWS:]
            self.step.add_written({self._row(text): str(answer) for text, answer in written})

    def _count(self, answers: Mapping[int, Any], offset: Sequence[float] | None) -> None:
        """Count the rows per label, if the answers are labels."""
        if not answers or not (hasattr(self.task, "labels") or hasattr(self.task, "opinions")):
            return
        values = self.task.decode(list(answers.values()), offset)[0]
        for text, value in zip(answers, values, strict=True):
            for label in _labels_in(value):
                self.step.labels[label] += self._rows_of[text]

    def _row(self, text: int) -> Any:
        return self._labels[self._first_rows[text]]

    @cached_property
    def _labels(self) -> Sequence[Any]:
        return self._make_labels()

    @cached_property
    def _first_rows(self) -> dict[int, int]:
        return self.rows.first_rows()

    @cached_property
    def _rows_of(self) -> Counter[int | None]:
        """The number of rows per text."""
        return Counter(self.rows.text_indices)


def _labels_in(value: Any) -> Iterator[str]:
    """Yield the label that a value is, or the labels in its JSON list or object."""
    try:
        parsed = json.loads(value) if value[:1] in ("[", "{") else value
    except (TypeError, ValueError):
        parsed = value
    if isinstance(parsed, list):
        yield from map(str, parsed)
    elif isinstance(parsed, dict):
        yield from (f"{name}: {label}" for name, label in parsed.items())
    elif value is not None:
        yield str(value)

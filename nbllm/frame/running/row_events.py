"""What each batch of a run brought, put into the step that others look at."""

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

MOST = 5  # rows of a batch that are told of


class RowEvents:
    """Tells of texts by the labels of their rows.

    Args:
        labels: those of the rows, made when the first is told of.
        rows: their texts.
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
        """Tell of answers and errors that were there before, by text."""
        self._count(answers, offset)
        for text, error in errors.items():
            self.step.add_failed(self._row(text), error)

    def report_batch(self, done: BatchResult, offset: Sequence[float] | None) -> None:
        """Tell of a batch, by text."""
        self._count(done.answers, offset)
        for text, error in done.errors.items():
            self.step.add_failed(self._row(text), error)
        texts = [*done.answers, *done.errors]
        longest = sorted(texts, key=lambda text: -sum(map(len, self.rows.texts[text])))
        self.step.end_batch([self._row(text) for text in longest[:MOST]], done)
        if self.task.decodes:
            written = list(done.answers.items())[-MOST:]
            self.step.add_written({self._row(text): str(answer) for text, answer in written})

    def _count(self, answers: Mapping[int, Any], offset: Sequence[float] | None) -> None:
        """Add the rows of each label, where answers are labels."""
        if not answers or not (hasattr(self.task, "labels") or hasattr(self.task, "opinions")):
            return
        values = self.task.decode(list(answers.values()), offset)[0]
        for text, value in zip(answers, values, strict=True):
            for label in _labels_in(value):
                self.step.labels[label] += self._rows_of[text]

    def _row(self, text: int) -> Any:
        return self._labels[self._first[text]]

    @cached_property
    def _labels(self) -> Sequence[Any]:
        return self._make_labels()

    @cached_property
    def _first(self) -> dict[int, int]:
        """The first row of each text."""
        places = reversed(list(enumerate(self.rows.position)))
        return {text: row for row, text in places if text is not None}

    @cached_property
    def _rows_of(self) -> Counter[int | None]:
        """How many rows have each text."""
        return Counter(self.rows.position)


def _labels_in(value: Any) -> Iterator[str]:
    """The label that an answer is, or those in the JSON of several."""
    try:
        several = json.loads(value) if value[:1] in ("[", "{") else value
    except (TypeError, ValueError):
        several = value
    if isinstance(several, list):
        yield from map(str, several)
    elif isinstance(several, dict):
        yield from (f"{name}: {label}" for name, label in several.items())
    elif value is not None:
        yield str(value)

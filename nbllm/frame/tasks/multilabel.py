"""Tasks whose answer is any number of labels: yes or no to each, independently."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.prompt import Prompt, Template
from nbllm.engine.scoring import probabilities
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask
from nbllm.frame.tasks.bound_prompt import BoundPromptTask
from nbllm.frame.tasks.label import LabelTask, are_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

__all__ = ["MultiLabelHeadTask", "MultiLabelTask"]


@dataclass(frozen=True)
class _MultiLabel:
    verb: str
    labels: tuple[str, ...]

    decodes = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The labels as JSON, which pandas, polars and Parquet all hold, and each one's chance."""
        chances = (Output("probability", f"_{label}", nw.Float64) for label in self.labels)
        return (Output("value", "", nw.String), *chances)

    def _columns(self, chances: NDArray[np.float64]) -> list[list[Any]]:
        """Of the probability of each label, shape (rows, labels)."""
        chosen = [
            [label for label, chance in zip(self.labels, row, strict=True) if chance >= 0.5]
            for row in chances
        ]
        return [[json.dumps(row, ensure_ascii=False) for row in chosen], *chances.T.tolist()]


@dataclass(frozen=True)
class MultiLabelTask(_MultiLabel):
    """Ask a causal model about each label in turn; an answer is two log-likelihoods a label."""

    questions: tuple[LabelTask, ...]  # one a label, whose first label is yes

    @property
    def offset_length(self) -> int:
        """As `Task.offset_length`."""
        return 2 * len(self.labels)

    @property
    def template(self) -> Template:
        """The prompt about the first label."""
        return self.questions[0].template

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        asked = repr([[question.template, question.parameters()] for question in self.questions])
        return {"labels": self.labels, "several": sha256(asked.encode()).hexdigest()}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return max(question.answer_tokens(model) for question in self.questions)

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        """As `Task.bind`."""
        return _BinaryQuestions([question.bind(model, limit) for question in self.questions], limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`."""
        count = len(self.labels)
        return (
            isinstance(value, list)
            and len(value) == count
            and all(are_numbers(one, 2) for one in value)
        )

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`."""
        count = len(self.labels)
        scores = np.array(answers, dtype=float).reshape(-1, 2)
        shift = np.array(offset or [0.0] * 2 * count).reshape(-1, 2)
        chance = [probabilities(row, shift)[:, 0] for row in scores.reshape(-1, count, 2)]
        return self._columns(np.array(chance).reshape(-1, count))


class _BinaryQuestions(BoundPromptTask):
    """Rows to the question about each label; what tells the questions apart lies in the prefix."""

    def __init__(self, bound: Sequence[BoundPromptTask], limit: int) -> None:
        # The longest question says what fits.
        longest = max(bound, key=lambda one: one.template.own_length)
        super().__init__(longest.template, longest.engine, limit)
        self.bound = bound

    @property
    def label_tokens(self) -> int:
        return max(one.label_tokens for one in self.bound)

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float]:
        count = len(self.bound)
        offsets = [None] * count if known is None else np.split(np.array(known), count)
        return [
            value
            for one, offset in zip(self.bound, offsets, strict=True)
            for value in one.calibrate(None if offset is None else offset.tolist(), step) or ()
        ]

    def __call__(self, prompts: Sequence[Prompt]) -> list[Any]:
        rows = zip(*(one(self._behind(one, prompts)) for one in self.bound), strict=True)
        return [
            next((answer for answer in row if isinstance(answer, Exception)), list(row))
            for row in rows
        ]

    def _behind(self, bound: BoundPromptTask, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The same rows behind another question."""
        own, shared = len(self.template.prefix_ids), bound.prefix_tokens
        return [
            replace(p, ids=bound.template.prefix_ids + p.ids[own:], prefix_length=shared)
            for p in prompts
        ]


@dataclass(frozen=True)
class MultiLabelHeadTask(_MultiLabel):
    """Read each label off a classifier that was trained to give several a text."""

    heads: tuple[int, ...]  # where in the classifier's own labels each is

    offset_length = 0

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        return {"labels": self.labels, "heads": self.heads, "several": True}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        """As `Task.bind`."""
        from nbllm.engine.encoding import HeadScorer

        return BoundEncoderTask(HeadScorer(model), limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the scores of all labels of the classifier."""
        return are_scores(value, self.heads)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`."""
        logp = np.array([[row[head] for head in self.heads] for row in answers], dtype=float)
        return self._columns(np.exp(logp.reshape(-1, len(self.heads))))

"""Tasks that choose any number of labels: an independent yes or no to each."""

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
from nbllm.frame.tasks.bound_encoder import BoundEncoderTask, PromptlessTask
from nbllm.frame.tasks.bound_prompt import BoundPromptTask
from nbllm.frame.tasks.label import LabelTask, are_head_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

__all__ = ["MultiLabelHeadTask", "MultiLabelTask"]


@dataclass(frozen=True)
class _MultiLabel:
    """Base class of tasks that choose any number of labels."""

    verb: str
    labels: tuple[str, ...]

    decodes = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The labels as JSON, a type that pandas, polars and Parquet share; each probability."""
        chances = (Output("probability", f"_{label}", nw.Float64) for label in self.labels)
        return (Output("value", "", nw.String), *chances)

    def _columns(self, chances: NDArray[np.float64]) -> list[list[Any]]:
        """Return the values of `outputs` from probabilities of shape (rows, labels)."""
        chosen = [
            [label for label, chance in zip(self.labels, row, strict=True) if chance >= 0.5]
            for row in chances
        ]
        return [[json.dumps(row, ensure_ascii=False) for row in chosen], *chances.T.tolist()]


@dataclass(frozen=True)
class MultiLabelTask(_MultiLabel):
    """Query a causal model about each label in turn.

    An answer is a pair of log-likelihoods for each label.
    """

    questions: tuple[LabelTask, ...]  # one for each label; the first label of each means yes

    @property
    def offset_length(self) -> int:
        return 2 * len(self.labels)

    @property
    def template(self) -> Template:
        """The prompt for the first label."""
        return self.questions[0].template

    def parameters(self) -> dict[str, Any]:
        questions = repr([[task.template, task.parameters()] for task in self.questions])
        return {"labels": self.labels, "several": sha256(questions.encode()).hexdigest()}

    def answer_tokens(self, model: Model) -> int:
        return max(question.answer_tokens(model) for question in self.questions)

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        return _BinaryQuestions([question.bind(model, limit) for question in self.questions], limit)

    def is_answer(self, value: Any) -> bool:
        is_list = isinstance(value, list) and len(value) == len(self.labels)
        return is_list and all(are_numbers(pair, 2) for pair in value)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        count = len(self.labels)
        scores = np.array(answers, dtype=float).reshape(-1, 2)
        shift = np.array(offset or [0.0] * 2 * count).reshape(-1, 2)
        chance = [probabilities(row, shift)[:, 0] for row in scores.reshape(-1, count, 2)]
        return self._columns(np.array(chance).reshape(-1, count))


class _BinaryQuestions(BoundPromptTask):
    """One question for each label. The prompts of a row differ only in their prefix."""

    def __init__(self, questions: Sequence[BoundPromptTask], limit: int) -> None:
        # A row that fits behind the longest question fits behind all.
        longest = max(questions, key=lambda question: question.template.own_length)
        super().__init__(longest.template, longest.engine, limit)
        self.questions = questions

    @property
    def label_tokens(self) -> int:
        return max(question.label_tokens for question in self.questions)

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float]:
        count = len(self.questions)
        offsets = [None] * count if known is None else np.split(np.array(known), count)
        return [
            value
            for question, offset in zip(self.questions, offsets, strict=True)
            for value in question.calibrate(None if offset is None else offset.tolist(), step) or ()
        ]

    def __call__(self, prompts: Sequence[Prompt]) -> list[Any]:
        answers = (question(self._with_prefix(question, prompts)) for question in self.questions)
        return [
            next((answer for answer in row if isinstance(answer, Exception)), list(row))
            for row in zip(*answers, strict=True)
        ]

    def _with_prefix(self, question: BoundPromptTask, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the same rows with the prefix of another question."""
        start, prefix = len(self.template.prefix_ids), question.template.prefix_ids
        return [
            replace(p, ids=prefix + p.ids[start:], prefix_length=question.prefix_tokens)
            for p in prompts
        ]


@dataclass(frozen=True)
class MultiLabelHeadTask(PromptlessTask, _MultiLabel):
    """Choose labels from the output of a trained multi-label classifier."""

    heads: tuple[int, ...]  # index of each label in the classifier's output

    def parameters(self) -> dict[str, Any]:
        return {"labels": self.labels, "heads": self.heads, "several": True}

    def bind(self, model: Model, limit: int) -> BoundEncoderTask:
        from nbllm.engine.encoding import HeadScorer

        return BoundEncoderTask(HeadScorer(model), limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the scores of all labels of the classifier."""
        return are_head_scores(value, self.heads)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        logp = np.array([[row[head] for head in self.heads] for row in answers], dtype=float)
        return self._columns(np.exp(logp.reshape(-1, len(self.heads))))

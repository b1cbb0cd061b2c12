"""Tasks whose answer is whether a statement holds: what the text makes of its likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.prompt import Template, answer_ids
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.tasks.base import are_numbers
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compiled
from nbllm.frame.tasks.label import CalibratedPromptTask, Choice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

__all__ = ["PredicateTask", "log_mean"]

# The share of texts of which a statement is taken to hold before they are read.
_PRIOR = 0.2


@dataclass(frozen=True)
class PredicateTask(Choice):
    """Say yes where a text makes a statement more likely to follow than texts on average do.

    By Bayes' rule P(yes | text) / P(yes) is taken to be P(statement | text) / P(statement), whose
    denominator is the mean over the calibration texts. A small model tells so what it cannot
    tell when it is asked for yes or no. An answer is the log-likelihood of the statement.
    """

    template: Template
    statement: str  # as it would continue the prompt
    calibration: tuple[str, ...]  # texts on many subjects
    threshold: float  # of the probability, from which the answer is yes

    offset_length = 1

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`; the threshold decides no likelihood."""
        texts = sha256("\0".join(self.calibration).encode()).hexdigest()
        return {"labels": self.labels, "statement": self.statement, "calibration": texts}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return len(self._tokens(model))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        """As `Task.bind`."""
        template = compiled(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, [self._tokens(model)])
        return CalibratedPromptTask(template, scorer, limit, self.calibration, offset=log_mean)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`."""
        return are_numbers(value, 1)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`; the score is the probability of yes."""
        scores = np.array(answers, dtype=float).reshape(-1)
        odds = scores - (offset or (0.0,))[0] + log(_PRIOR / (1 - _PRIOR))
        yes = np.exp(-np.logaddexp(0.0, -odds))
        named = np.where(yes >= self.threshold, *self.labels).tolist()
        return [named, yes.tolist(), yes.tolist(), (1 - yes).tolist()]

    def _tokens(self, model: Model) -> list[int]:
        return answer_ids(model.tokenizer, [self.statement])[0]


def log_mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the mean likelihood, shape (1,), of logarithms of shape (texts, 1)."""
    mean: NDArray[np.float64] = np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))
    return mean

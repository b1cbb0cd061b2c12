"""Tasks that decide whether a statement holds, by its likelihood after the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.prompt import Template, answer_ids
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.tasks.base import are_numbers
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template
from nbllm.frame.tasks.label import CalibratedPromptTask, Choice, calibration_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.models.model import Model

__all__ = ["PredicateTask", "log_mean"]

_PRIOR = 0.2  # prior probability that a statement holds for a text


@dataclass(frozen=True)
class PredicateTask(Choice):
    """Answer yes where a statement is more likely after a text than after the average text.

    By Bayes' rule, P(yes | text) / P(yes) is taken to be P(statement | text) / P(statement), whose
    denominator is the mean over the calibration texts. Small models decide better this way than
    when prompted for yes or no. An answer is the log-likelihood of the statement.
    """

    template: Template
    statement: str  # a continuation of the prompt
    calibration: tuple[str, ...]  # texts on many subjects
    threshold: float  # minimum probability for yes

    offset_length = 1

    def parameters(self) -> dict[str, Any]:
        # The threshold is left out, so that ledger answers are reused with another one.
        return {
            "labels": self.labels,
            "statement": self.statement,
            "calibration": calibration_digest(self.calibration),
        }

    def answer_tokens(self, model: Model) -> int:
        return len(self._tokens(model))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, [self._tokens(model)])
        return CalibratedPromptTask(template, scorer, limit, self.calibration, offset=log_mean)

    def is_answer(self, value: Any) -> bool:
        return are_numbers(value, 1)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`. The score is the probability of yes."""
        scores = np.array(answers, dtype=float).reshape(-1)
        odds = scores - (offset or (0.0,))[0] + log(_PRIOR / (1 - _PRIOR))
        yes = np.exp(-np.logaddexp(0.0, -odds))
        chosen = np.where(yes >= self.threshold, *self.labels).tolist()
        return [chosen, yes.tolist(), yes.tolist(), (1 - yes).tolist()]

    def _tokens(self, model: Model) -> list[int]:
        return answer_ids(model.tokenizer, [self.statement])[0]


def log_mean(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log of the mean likelihood over texts, shape (statements,).

    Args:
        scores: Log-likelihoods, shape (texts, statements).
    """
    mean: NDArray[np.float64] = np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))
    return mean

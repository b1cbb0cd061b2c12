"""Tasks that answer with the opinion a text expresses on each of several aspects, if any.

Each text takes one forward pass: the statements on all aspects and opinions form one token trie.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.prompt import Template, answer_ids
from nbllm.engine.scoring import LabelScorer, probabilities
from nbllm.errors import LabelError
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template
from nbllm.frame.tasks.label import CalibratedPromptTask, calibration_digest, is_prefix_free
from nbllm.frame.tasks.predicate import log_mean

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["AspectTask"]

_PRIOR = 0.4  # prior probability that a text mentions an aspect

_NOT_MENTIONED = "none"  # suffix of the column with the probability of no mention


@dataclass(frozen=True)
class AspectTask:
    """Choose for each aspect the statement that a text makes most likely, or none.

    Bayes' rule as in `PredicateTask`: P(statement | text) / P(statement), whose denominator is
    the mean over the calibration texts, so that an aspect whose name is likely in any text gains
    nothing by it. An answer is the log-likelihood of each statement.
    """

    verb: str
    template: Template
    aspects: tuple[str, ...]
    opinions: tuple[str, ...]  # the labels, such as positive and negative
    statements: tuple[str, ...]  # continuations of the prompt, ordered by aspect, then opinion
    calibration: tuple[str, ...]  # texts on many subjects

    decodes = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The opinions as JSON, a type that pandas, polars and Parquet share; then each aspect."""
        columns = [Output("value", "", nw.String)]
        for aspect in self.aspects:
            columns.append(Output("field", f"_{aspect}", nw.String))
            columns.append(Output("score", f"_{aspect}_score", nw.Float64))
            columns += [
                Output("probability", f"_{aspect}_{label}", nw.Float64)
                for label in (*self.opinions, _NOT_MENTIONED)
            ]
        return tuple(columns)

    def parameters(self) -> dict[str, Any]:
        return {
            "aspects": self.aspects,
            "statements": self.statements,
            "calibration": calibration_digest(self.calibration),
        }

    def answer_tokens(self, model: Model) -> int:
        return max(map(len, self._tokens(model)))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, self._tokens(model))
        return CalibratedPromptTask(template, scorer, limit, self.calibration, offset=log_mean)

    @property
    def offset_length(self) -> int:
        return len(self.statements)

    def is_answer(self, value: Any) -> bool:
        return are_numbers(value, len(self.statements))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`. An aspect that a text does not mention is null, and not in the JSON.

        The score is the probability of the chosen opinion, or of no mention.
        """
        shape = (-1, len(self.aspects), len(self.opinions))
        scores = np.array(answers, dtype=float).reshape(shape)
        shift = np.array(offset or [0.0] * len(self.statements)).reshape(shape)
        prior = log(_PRIOR / len(self.opinions) / (1 - _PRIOR))
        found: list[dict[str, str]] = [{} for _ in answers]
        columns: list[list[Any]] = []
        for n, aspect in enumerate(self.aspects):
            odds = scores[:, n] - shift[:, n] + prior
            chance = probabilities(np.pad(odds, ((0, 0), (0, 1))), np.zeros(1))
            chosen = [(*self.opinions, None)[best] for best in chance.argmax(axis=1)]
            for row, label in zip(found, chosen, strict=True):
                if label is not None:
                    row[aspect] = label
            columns += [chosen, chance.max(axis=1).tolist(), *chance.T.tolist()]
        return [[json.dumps(row, ensure_ascii=False) for row in found], *columns]

    def _tokens(self, model: Model) -> list[list[int]]:
        ids = answer_ids(model.tokenizer, self.statements)
        if not is_prefix_free(ids):
            raise LabelError(
                f"{model.name} cannot tell some of the aspects {', '.join(self.aspects)} apart. "
                "Give them names that differ in more than case or accents."
            )
        return ids

"""Tasks whose answer is what a text makes of each of some aspects, or that it does not speak of it.

One forward pass a text: a statement for each aspect and opinion lies in one trie of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import log
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.prompt import Template, answer_ids
from nbllm.engine.scoring import LabelScorer, probabilities
from nbllm.errors import LabelError
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compiled
from nbllm.frame.tasks.label import CalibratedPromptTask
from nbllm.frame.tasks.predicate import log_mean

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["AspectTask"]

# The share of texts that is taken to speak of an aspect before they are read.
_PRIOR = 0.4

_SILENT = "none"  # names the column of the probability that a text does not speak of an aspect


@dataclass(frozen=True)
class AspectTask:
    """Say of each aspect which statement about it a text makes likely, or that it makes none so.

    Bayes' rule as in `PredicateTask`: P(statement | text) / P(statement), whose denominator is
    the mean over the calibration texts, so that an aspect that is named often, whatever the
    text, gains nothing by it. An answer is the log-likelihood of each statement, by aspect.
    """

    verb: str
    template: Template
    aspects: tuple[str, ...]
    opinions: tuple[str, ...]  # the labels, such as positive and negative
    statements: tuple[str, ...]  # as they would continue the prompt; for each aspect, by opinion
    calibration: tuple[str, ...]  # texts on many subjects

    decodes = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The opinions as JSON, which pandas, polars and Parquet all hold, and each aspect's."""
        each = []
        for aspect in self.aspects:
            each.append(Output("field", f"_{aspect}", nw.String))
            each.append(Output("score", f"_{aspect}_score", nw.Float64))
            each += [
                Output("probability", f"_{aspect}_{label}", nw.Float64)
                for label in (*self.opinions, _SILENT)
            ]
        return (Output("value", "", nw.String), *each)

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        texts = sha256("\0".join(self.calibration).encode()).hexdigest()
        return {"aspects": self.aspects, "statements": self.statements, "calibration": texts}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return max(map(len, self._tokens(model)))

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        """As `Task.bind`."""
        template = compiled(self.template, model, limit)
        scorer = LabelScorer(model, template.prefix_ids, self._tokens(model))
        return CalibratedPromptTask(template, scorer, limit, self.calibration, offset=log_mean)

    @property
    def offset_length(self) -> int:
        """As `Task.offset_length`."""
        return len(self.statements)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`."""
        return are_numbers(value, len(self.statements))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`; an aspect that a text does not speak of is null, and not in the JSON.

        Its score is the probability of that.
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
            named = [(*self.opinions, None)[best] for best in chance.argmax(axis=1)]
            for row, label in zip(found, named, strict=True):
                if label is not None:
                    row[aspect] = label
            columns += [named, chance.max(axis=1).tolist(), *chance.T.tolist()]
        return [[json.dumps(row, ensure_ascii=False) for row in found], *columns]

    def _tokens(self, model: Model) -> list[list[int]]:
        ids = answer_ids(model.tokenizer, self.statements)
        if any(a is not b and b[: len(a)] == a for a in ids for b in ids):
            raise LabelError(
                f"{model.name} cannot tell some of the aspects {', '.join(self.aspects)} apart. "
                "Give them names that differ in more than case or accents."
            )
        return ids

"""Tasks that answer from a text with a generated answer and its position in that text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import Template
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_prompt import compile_template
from nbllm.frame.tasks.bound_span import BoundSpanTask
from nbllm.frame.tasks.label import calibration_digest
from nbllm.frame.tasks.support import CALIBRATION, Support, is_kept

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["SPAN_OUTPUTS", "SpanTask", "span_columns"]

SPAN_OUTPUTS = (
    Output("value", "", nw.String),
    Output("score", "_score", nw.Float64),
    Output("field", "_start", nw.Int64),
    Output("field", "_end", nw.Int64),
)


@dataclass(frozen=True)
class SpanTask:
    """Generate an answer from a text, or report that the text holds none.

    An answer of the bound task holds the generated words, their start and end in the text (null
    where they do not occur in it), and the numbers of `Support`; null where the model wrote the
    refusal. Its score is the probability that the words are right, see `Support`.
    """

    verb: str
    template: Template  # its first field is the text
    # The same with a field for the question, where `template` has one question for all rows.
    # Calibration asks questions of its own.
    question_template: Template
    max_new_tokens: int
    refusal: str  # written by the model where the text holds no answer
    stop: str  # the string that ends an answer
    threshold: float | None = None  # minimum score; None keeps what the text rather holds than not

    decodes = True
    offset_length = 2

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The answer, its score, and its character offsets in the text."""
        return SPAN_OUTPUTS

    def parameters(self) -> dict[str, Any]:
        # The threshold is left out, so that ledger answers are reused with another one.
        return {
            "max_new_tokens": self.max_new_tokens,
            "refusal": self.refusal,
            "stop": self.stop,
            "calibration": calibration_digest([text + q for text, qs in CALIBRATION for q in qs]),
        }

    def answer_tokens(self, model: Model) -> int:
        return self.max_new_tokens

    def bind(self, model: Model, limit: int) -> BoundSpanTask:
        template = compile_template(self.template, model, limit)
        generator = TextGenerator(
            model, template.prefix_ids, max_new_tokens=self.max_new_tokens, stop=self.stop
        )
        return BoundSpanTask(
            template,
            compile_template(self.question_template, model, limit),
            generator,
            CandidateScorer(model, template.prefix_ids),
            limit,
            refusal=self.refusal,
            stop=self.stop,
            threshold=self.threshold,
        )

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: words, start and end, and the numbers of their support."""
        if not isinstance(value, list) or len(value) != 4:
            return False
        words, start, end, support = value
        located = are_numbers([start, end], 2) and type(start) is int and type(end) is int
        valid_span = (start is None and end is None) or located
        return (
            isinstance(words, str) and valid_span and (support is None or are_numbers(support, 4))
        )

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        fitted = offset or [0.0] * self.offset_length
        supports = [None if numbers is None else Support(*numbers) for *_, numbers in answers]
        scores = [0.0 if support is None else support.score(fitted) for support in supports]
        kept = [
            support is not None and is_kept(support, fitted, self.threshold) for support in supports
        ]
        return span_columns([answer[:3] for answer in answers], scores, kept)


def span_columns(
    spans: Sequence[Sequence[Any]], scores: Sequence[float], has_answer: Sequence[bool]
) -> list[list[Any]]:
    """Return the columns of `SPAN_OUTPUTS`.

    Args:
        spans: The answer, start and end of each row.
        scores: The score of each row.
        has_answer: Whether each row has an answer. Without one, all but the score is None.
    """
    rows = [span if ok else [None] * 3 for span, ok in zip(spans, has_answer, strict=True)]
    answers, starts, ends = ([row[n] for row in rows] for n in range(3))
    return [answers, list(scores), starts, ends]

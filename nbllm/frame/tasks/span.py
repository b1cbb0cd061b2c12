"""Tasks that answer from a text with a generated answer and its position in that text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Prompt, Template, answer_ids
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["SPAN_OUTPUTS", "SpanTask", "locate", "span_columns"]

# A letter or digit of a script that separates words, unlike Chinese and Japanese.
_WORD_CHARACTER = r"[^\W_\u2e80-\u9fff]"

SPAN_OUTPUTS = (
    Output("value", "", nw.String),
    Output("score", "_score", nw.Float64),
    Output("field", "_start", nw.Int64),
    Output("field", "_end", nw.Int64),
)


@dataclass(frozen=True)
class SpanTask:
    """Generate an answer from a text, or report that the text holds none.

    The score is the probability that the model does not write the refusal.
    """

    verb: str
    template: Template
    max_new_tokens: int
    refusal: str  # written by the model where the text holds no answer
    text_field: int  # index of the text among the fields of the template
    threshold: float = 0.0  # minimum score of an answer
    stop: str | None = None  # the string that ends an answer

    decodes = True
    offset_length = 0

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
        }

    def answer_tokens(self, model: Model) -> int:
        return self.max_new_tokens

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        generator = TextGenerator(
            model, template.prefix_ids, max_new_tokens=self.max_new_tokens, stop=self.stop
        )
        refusal = answer_ids(model.tokenizer, [f" {self.refusal}"])
        scorer = LabelScorer(model, template.prefix_ids, refusal)
        return _BoundSpanTask(template, generator, scorer, limit, self.text_field)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: text, log-likelihood of the refusal, start, end."""
        if not isinstance(value, list) or len(value) != 4:
            return False
        answer, refusal, *span = value
        located = are_numbers(span, 2) and all(isinstance(offset, int) for offset in span)
        valid_span = span == [None, None] or located
        return isinstance(answer, str) and are_numbers([refusal], 1) and valid_span

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        scores = [-expm1(min(0.0, refusal)) for _, refusal, _, _ in answers]
        has_answer = [
            score >= self.threshold and answer.strip(" .").lower() != self.refusal
            for score, (answer, *_) in zip(scores, answers, strict=True)
        ]
        spans = [(answer, start, end) for answer, _, start, end in answers]
        return span_columns(spans, scores, has_answer)


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


@dataclass(frozen=True)
class _SourcePrompt(Prompt):
    source: str = ""  # the row's text, before tokenization


class _BoundSpanTask(BoundPromptTask):
    """Generates the answers and scores the refusal."""

    def __init__(
        self,
        template: CompiledTemplate,
        generator: TextGenerator,
        scorer: LabelScorer,
        limit: int,
        text_field: int,
    ) -> None:
        super().__init__(template, generator, limit)
        self.generator = generator
        self.scorer = scorer
        self.text_field = text_field

    @property
    def label_tokens(self) -> int:
        return self.scorer.label_tokens

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        return [
            _SourcePrompt(**vars(prompt), source=row[self.text_field])
            if isinstance(prompt, Prompt)
            else prompt
            for prompt, row in zip(super().encode(texts, truncate=truncate), texts, strict=True)
        ]

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers: list[Any] = []
        for prompt, answer, refusal in zip(
            prompts, self.generator(prompts), self.scorer(prompts), strict=True
        ):
            assert isinstance(prompt, _SourcePrompt)
            if isinstance(answer, Exception):
                answers.append(answer)
            elif isinstance(refusal, Exception):
                answers.append(refusal)
            else:
                span = locate(answer, prompt.source) or (None, None)
                answers.append([answer, refusal[0], *span])
        return answers


def locate(answer: str, text: str) -> tuple[int, int] | None:
    """Return the character offsets of an answer's first occurrence in a text, or None.

    Only whole words match. Case is ignored where no match has the same case. Any whitespace
    matches any other.

    Args:
        answer: The words to find.
        text: The text that is searched.

    Example:
        >>> locate("art", "The party sold art."), locate("cat", "The party sold art.")
        ((15, 18), None)
    """
    words = answer.split()
    if not words:
        return None
    pattern = (
        rf"(?<!{_WORD_CHARACTER})" * bool(re.match(_WORD_CHARACTER, words[0]))
        + r"\s+".join(map(re.escape, words))
        + rf"(?!{_WORD_CHARACTER})" * bool(re.match(_WORD_CHARACTER, words[-1][-1]))
    )
    found = re.search(pattern, text) or re.search(pattern, text, re.IGNORECASE)
    return found.span() if found else None

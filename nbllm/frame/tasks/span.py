"""Tasks whose answer is read from a text: what the model writes, and where that stands."""

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
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compiled

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["SPAN_OUTPUTS", "SpanTask", "locate"]

# A letter or digit of a script that parts its words; Chinese and Japanese do not.
_OF_A_WORD = r"[^\W_\u2e80-\u9fff]"


SPAN_OUTPUTS = (
    Output("value", "", nw.String),
    Output("score", "_score", nw.Float64),
    Output("field", "_start", nw.Int64),
    Output("field", "_end", nw.Int64),
)


@dataclass(frozen=True)
class SpanTask:
    """Answer from a text, or say that it holds no answer."""

    verb: str
    template: Template
    max_new_tokens: int
    refusal: str  # what the model writes where the text holds no answer
    text_field: int  # which field of the template is the text
    threshold: float = 0.0  # of the score, below which there is no answer
    stop: str | None = None  # a string that ends an answer

    decodes = True
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The answer, its score, and where it stands in the text."""
        return SPAN_OUTPUTS

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        # Not the threshold: answers on file are read anew with another one.
        return {
            "max_new_tokens": self.max_new_tokens,
            "refusal": self.refusal,
            "stop": self.stop,
        }

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return self.max_new_tokens

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        """As `Task.bind`."""
        template = compiled(self.template, model, limit)
        generator = TextGenerator(
            model, template.prefix_ids, max_new_tokens=self.max_new_tokens, stop=self.stop
        )
        refusal = answer_ids(model.tokenizer, [f" {self.refusal}"])
        scorer = LabelScorer(model, template.prefix_ids, refusal)
        return _Reader(template, generator, scorer, limit, self.text_field)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: what was written, how likely none is, and where it stands."""
        if not isinstance(value, list) or len(value) != 4:
            return False
        written, refused, *place = value
        there = place == [None, None] or (are_numbers(place, 2) and _are_whole(place))
        return isinstance(written, str) and are_numbers([refused], 1) and there

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`: the answer, the probability that there is one, and where it is."""
        scores = [-expm1(min(0.0, refused)) for _, refused, _, _ in answers]
        given = [
            score >= self.threshold and written.strip(" .").lower() != self.refusal
            for score, (written, *_) in zip(scores, answers, strict=True)
        ]

        def where(part: int) -> list[Any]:
            return [answer[part] if ok else None for answer, ok in zip(answers, given, strict=True)]

        return [where(0), scores, where(2), where(3)]


def _are_whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in values)


@dataclass(frozen=True)
class _Reading(Prompt):
    source: str = ""  # the row's text as the frame has it


class _Reader(BoundPromptTask):
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
            _Reading(**vars(prompt), source=row[self.text_field])
            if isinstance(prompt, Prompt)
            else prompt
            for prompt, row in zip(super().encode(texts, truncate=truncate), texts, strict=True)
        ]

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers: list[Any] = []
        for prompt, written, refused in zip(
            prompts, self.generator(prompts), self.scorer(prompts), strict=True
        ):
            assert isinstance(prompt, _Reading)
            if isinstance(written, Exception):
                answers.append(written)
            elif isinstance(refused, Exception):
                answers.append(refused)
            else:
                place = locate(written, prompt.source) or (None, None)
                answers.append([written, refused[0], *place])
        return answers


def locate(answer: str, text: str) -> tuple[int, int] | None:
    """Where an answer first stands in a text, as character offsets; None where it does not.

    As whole words; in whatever case, if not as it is written; line breaks are as good as spaces.

    Example:
        >>> locate("art", "The party sold art."), locate("cat", "The party sold art.")
        ((15, 18), None)
    """
    words = answer.split()
    if not words:
        return None
    pattern = (
        rf"(?<!{_OF_A_WORD})" * bool(re.match(_OF_A_WORD, words[0]))
        + r"\s+".join(map(re.escape, words))
        + rf"(?!{_OF_A_WORD})" * bool(re.match(_OF_A_WORD, words[-1][-1]))
    )
    found = re.search(pattern, text) or re.search(pattern, text, re.IGNORECASE)
    return found.span() if found else None

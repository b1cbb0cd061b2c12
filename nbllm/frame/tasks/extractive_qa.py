"""Tasks whose answer a model was trained to point at in a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Prompt
from nbllm.engine.spans import Pieces, SpanExtractor
from nbllm.frame.tasks.base import are_numbers
from nbllm.frame.tasks.span import SPAN_OUTPUTS
from nbllm.models.flops import TokenCounts

if TYPE_CHECKING:
    from nbllm.engine.prompt import Template
    from nbllm.frame.tasks.base import Output
    from nbllm.models.model import Model

__all__ = ["ExtractiveQATask"]


@dataclass(frozen=True)
class ExtractiveQATask:
    """Point at the answer in a text, or say that it holds none.

    The score is the probability of the best answer where there is that one or none: both come of
    the same softmax, so that it is the logistic function of the difference of their logits.
    """

    verb: str
    question: str | None  # the same for all rows; else it stands behind the text in each
    threshold: float  # of the score, below which there is no answer; 0.5 is the rule of SQuAD 2.0

    decodes = False
    offset_length = 0

    @property
    def template(self) -> Template:
        """None: the model reads the text as it is."""
        return ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """As those of `SpanTask`."""
        return SPAN_OUTPUTS

    def parameters(self) -> dict[str, Any]:
        """As `Task.parameters`."""
        # Not the threshold: answers on file are read anew with another one.
        return {"question": self.question}

    def answer_tokens(self, model: Model) -> int:
        """As `Task.answer_tokens`."""
        return 0

    def bind(self, model: Model, limit: int) -> _BoundExtractiveQA:
        """As `Task.bind`."""
        return _BoundExtractiveQA(SpanExtractor(model), self.question)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the words, where they stand, and by how much they are likelier."""
        if not isinstance(value, list) or len(value) != 4:
            return False
        words, start, end, margin = value
        whole = isinstance(start, int) and isinstance(end, int)
        return isinstance(words, str) and whole and are_numbers([start, end, margin], 3)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        """As `Task.decode`: the answer, the probability that there is one, and where it is."""
        scores = [_logistic(margin) for _, _, _, margin in answers]
        given = [
            answer[:3] if score >= self.threshold else [None] * 3
            for answer, score in zip(answers, scores, strict=True)
        ]
        said, starts, ends = ([answer[n] for answer in given] for n in range(3))
        return [said, scores, starts, ends]


class _BoundExtractiveQA:
    """Rows of a text, or of a text and a question, to a `SpanExtractor`."""

    prefix_tokens = 0
    label_tokens = 0
    setup_tokens = TokenCounts()

    def __init__(self, extractor: SpanExtractor, question: str | None) -> None:
        self.extractor = extractor
        self.question = question

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        if self.question is not None:
            return self.extractor.encode([(self.question, text) for (text,) in texts])
        return self.extractor.encode([(asks, text) for text, asks in texts])

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        return known

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers: list[Any] = []
        for prompt, found in zip(prompts, self.extractor(prompts), strict=True):
            if isinstance(found, Exception):
                answers.append(found)
            else:
                assert isinstance(prompt, Pieces)
                words = prompt.source[found.start : found.end]
                answers.append([words, found.start, found.end, found.margin])
        return answers


def _logistic(margin: float) -> float:
    """Without overflow, however large."""
    return 1 / (1 + exp(-margin)) if margin >= 0 else exp(margin) / (1 + exp(margin))

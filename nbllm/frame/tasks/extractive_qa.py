"""Tasks for models that are trained to extract an answer's span from a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Prompt
from nbllm.engine.spans import Pieces, SpanExtractor
from nbllm.frame.tasks.base import are_numbers, logistic
from nbllm.frame.tasks.bound_encoder import BoundPromptlessTask, PromptlessTask
from nbllm.frame.tasks.span import SPAN_OUTPUTS, span_columns

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Output
    from nbllm.models.model import Model

__all__ = ["ExtractiveQATask"]


@dataclass(frozen=True)
class ExtractiveQATask(PromptlessTask):
    """Extract the answer to a question from a text, or report that the text holds none.

    The score is the probability of the best span against no answer. Both are outputs of the same
    softmax, so it is the logistic function of the difference of their logits.
    """

    verb: str
    question: str | None  # the question for all rows; None where each row has its own
    threshold: float  # minimum score of an answer; 0.5 is the rule of SQuAD 2.0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The same columns as `SpanTask`."""
        return SPAN_OUTPUTS

    def parameters(self) -> dict[str, Any]:
        # The threshold is left out, so that ledger answers are reused with another one.
        return {"question": self.question}

    def bind(self, model: Model, limit: int) -> _BoundExtractiveQA:
        return _BoundExtractiveQA(SpanExtractor(model), self.question)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: words, start, end, and margin over no answer."""
        if not isinstance(value, list) or len(value) != 4:
            return False
        words, start, end, margin = value
        whole = isinstance(start, int) and isinstance(end, int)
        return isinstance(words, str) and whole and are_numbers([start, end, margin], 3)

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        scores = [logistic(margin) for _, _, _, margin in answers]
        has_answer = [score >= self.threshold for score in scores]
        return span_columns([answer[:3] for answer in answers], scores, has_answer)


class _BoundExtractiveQA(BoundPromptlessTask):
    """A `SpanExtractor` whose rows are a text, or a text and its question."""

    def __init__(self, extractor: SpanExtractor, question: str | None) -> None:
        self.extractor = extractor
        self.question = question

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        if self.question is not None:
            return self.extractor.encode([(self.question, text) for (text,) in texts])
        return self.extractor.encode([(question, text) for text, question in texts])

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

"""Similarity: how alike two texts are in meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.similarities import of_scores
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.vector import SimilarityTask

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Similarity"]


@dataclass(frozen=True)
class Options:
    """What the texts are compared with."""

    other: str | None = option(
        "a column with what to compare them with, row by row.", None, positional=True
    )
    to: str | None = option("one text to compare all with, instead of `other`.", None)


class Similarity(Verb[Options]):
    """Say how alike two texts are in meaning: the cosine of their vectors, at most 1.

    Raises:
        ColumnError: a column is missing or not text, or a new one is in the way.
        FrameError: neither `other` nor `to`, or both.
        ModelError: no sentence encoder is loaded.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.similarity("question", "answer")  # doctest: +SKIP
        >>> df.llm.similarity("message", to="I want my money back.")  # doctest: +SKIP
    """

    name = "similarity"
    options = Options
    kind: ClassVar[Kind] = "encoder"

    def columns(self, subject: str, options: Options) -> dict[str, str]:
        if (options.other is None) == (options.to is None):
            raise FrameError(
                "similarity compares a column with another column, row by row, or with one text. "
                "Pass the name of the column, or the text as to=, and not both."
            )
        return {TEXT: subject} if options.other is None else {TEXT: subject, "other": options.other}

    def task(self, model: Model, subject: str, options: Options) -> SimilarityTask:
        require(model, self.name, "encoder")
        return SimilarityTask(verb=self.name, to=options.to)

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        judged.refuse_metrics()
        return of_scores(judged.data, judged.records[0], judged.common())


VERB = Similarity()

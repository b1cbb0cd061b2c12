"""The verb `similarity`: compares the meaning of two texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.similarities import evaluate_scores
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
    """The options of `Similarity`."""

    other: str | None = option(
        "The column of the texts to compare with, row by row.", None, positional=True
    )
    to: str | None = option("One text to compare all rows with, instead of `other`.", None)


class Similarity(Verb[Options]):
    """Compute how similar two texts are in meaning: the cosine of their vectors, at most 1.

    Raises:
        ColumnError: A column is missing or not text, or a new column would overwrite one.
        FrameError: Neither or both of `other` and `to` are given.
        ModelError: No sentence encoder is loaded.
        UnsupportedModelError: The model is of another kind.

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

    def can_read(self, record: Mapping[str, Any]) -> bool:
        parameters, columns = record["parameters"], record["columns"]
        if "to" not in parameters or TEXT not in columns:
            return False
        return bool(parameters["to"]) or "other" in columns

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_scores(request)


VERB = Similarity()

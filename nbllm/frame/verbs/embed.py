"""Embedding: the meaning of a text as a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nbllm.frame.calls.verb import Verb
from nbllm.frame.columns import Rows
from nbllm.frame.evaluation.vectors import of_vectors
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.execute import ExecutionOptions, Question, execute
from nbllm.frame.running.run import warn_of_a_stop, warn_of_failures
from nbllm.frame.tasks.vector import VectorTask, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["VERB", "Embed", "Options", "Vectors", "embed_rows", "embedding_task"]


@dataclass(frozen=True)
class Options:
    """Nothing beside the text decides its vector."""


class Embed(Verb[Options]):
    """Turn each text into a vector of its meaning, by a sentence encoder.

    The column holds one float32 array a row in pandas and a list of Float32 in polars;
    `numpy.stack` makes a matrix of those of rows with a text.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        ModelError: no sentence encoder is loaded.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> embedded = df.llm.embed("review", model="minilm")  # doctest: +SKIP
        >>> np.stack(embedded["review_embed"].dropna())  # doctest: +SKIP
    """

    name = "embed"
    options = Options
    kind: ClassVar[Kind] = "encoder"

    def task(self, model: Model, subject: str, options: Options) -> VectorTask:
        return embedding_task(model)

    def evaluate(self, judged: EvaluationRequest) -> Evaluation:
        judged.refuse_metrics()
        return of_vectors(judged.common())


VERB = Embed()


def embedding_task(model: Model) -> VectorTask:
    """Return the task of embedding texts."""
    require(model, Embed.name, "encoder")
    return VectorTask(verb=Embed.name)


class Vectors:
    """The vectors of rows, and the record of the run that made them.

    Args:
        cells: by the number of a text.
        record: None where nothing was asked.
    """

    def __init__(self, rows: Rows, cells: dict[int, Any], record: dict[str, Any] | None) -> None:
        self.rows: int = len(rows.position)
        self.record = record
        present = [(row, i) for row, i in enumerate(rows.position) if i is not None and i in cells]
        # Of a row in `unit`.
        self.place: dict[int, int] = {row: n for n, (row, _) in enumerate(present)}
        self._present = np.array([row for row, _ in present], dtype=int)
        self.unit: NDArray[np.float32] = unit_vectors([cells[i] for _, i in present])

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of each row with a vector of length 1; -inf where the row has none."""
        scores = np.full(self.rows, -np.inf)
        if self.place:
            scores[self._present] = np.clip(self.unit @ vector, -1.0, 1.0)
        return scores


def embed_rows(
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    column: str,
    encoder: Model,
    *,
    output: str,
    execution: ExecutionOptions,
    monitor: RunMonitor,
) -> Vectors:
    """Return the vectors of texts, filed under the column of a verb's answers.

    Stopped, it has those that were embedded until then, and warns.

    Args:
        labels: those of the rows.
    """
    question = Question(embedding_task(encoder), encoder, {TEXT: column}, output)
    answers = execute(question, rows, labels, execution, monitor)
    if failed := answers.failed_rows(rows):
        error = next(iter(answers.report.errors))
        warn_of_failures(labels(), Embed.name, failed, error, column=None)
    if answers.report.stopped and not monitor.in_background:
        warn_of_a_stop(answers.report, answers.state)
    [cells] = answers.decoded(question.task)
    return Vectors(rows, cells, answers.record if answers.values or answers.errors else None)

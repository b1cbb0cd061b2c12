"""The verb `embed`, and embeddings for verbs that rank rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nbllm.frame.calls.models import choose_encoder
from nbllm.frame.calls.verb import Call, Verb
from nbllm.frame.columns import Rows
from nbllm.frame.evaluation.vectors import evaluate_vectors
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.estimate import RunEstimate, estimate_run
from nbllm.frame.running.execute import ExecutionOptions, Question, execute
from nbllm.frame.running.run import warn_unanswered
from nbllm.frame.tasks.vector import VectorTask, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = [
    "VERB",
    "Embed",
    "Options",
    "Vectors",
    "embed_rows",
    "embedding_task",
    "estimate_embedding",
]


@dataclass(frozen=True)
class Options:
    """`Embed` has no options."""


class Embed(Verb[Options]):
    """Compute the embedding vector of each text with a sentence encoder.

    The new column holds one float32 array per row in pandas, and a list of Float32 in polars.
    `numpy.stack` joins the vectors that are not null to a matrix.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        ModelError: No sentence encoder is loaded.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> embedded = df.llm.embed("review", model="minilm")  # doctest: +SKIP
        >>> np.stack(embedded["review_embed"].dropna())  # doctest: +SKIP
    """

    name = "embed"
    options = Options
    kind: ClassVar[Kind] = "encoder"

    def task(self, model: Model, subject: str, options: Options) -> VectorTask:
        return embedding_task(model)

    def can_read(self, record: Mapping[str, Any]) -> bool:
        return list(record["columns"]) == [TEXT]

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_vectors(request)


VERB = Embed()


def embedding_task(model: Model) -> VectorTask:
    """Return the task that computes the vector of a text."""
    require(model, Embed.name, "encoder")
    return VectorTask(verb=Embed.name)


class Vectors:
    """The vectors of rows, and the record of the run that computed them.

    Args:
        rows: The texts of the rows.
        cells: The vectors, by the index of the text in `rows.texts`.
        record: The record of the run; None if there was none.
    """

    def __init__(self, rows: Rows, cells: dict[int, Any], record: dict[str, Any] | None) -> None:
        self.rows: int = len(rows.text_indices)
        self.record = record
        present = [
            (row, i) for row, i in enumerate(rows.text_indices) if i is not None and i in cells
        ]
        # The position of a row's vector in `unit`.
        self.place: dict[int, int] = {row: n for n, (row, _) in enumerate(present)}
        self._present = np.array([row for row, _ in present], dtype=int)
        self.unit: NDArray[np.float32] = unit_vectors([cells[i] for _, i in present])

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the cosine of each row with a unit vector, shape (rows,); -inf without a vector.

        Args:
            vector: A vector of length 1, shape (dimensions,).
        """
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
    """Return the vectors of texts; if the run is stopped, of those computed until then.

    Args:
        rows: The texts of the rows.
        labels: Returns the labels of the rows.
        column: The column of the texts.
        encoder: The sentence encoder.
        output: The column of the verb's answers, for the record.
        execution: The options of the run.
        monitor: Reports the progress, and whether to stop.
    """
    question = Question(embedding_task(encoder), encoder, {TEXT: column}, output)
    answers = execute(question, rows, labels, execution, monitor)
    warn_unanswered(rows, labels, answers, monitor)
    [cells] = answers.decoded(question.task)
    return Vectors(rows, cells, answers.record if answers.values or answers.errors else None)


def estimate_embedding(verb: str, frame: Any, call: Call[Any]) -> RunEstimate:
    """Return the estimate for embedding the rows; queries and cosines take little and are left out.

    Args:
        verb: The name of the verb.
        frame: The frame of the call.
        call: The call.
    """
    encoder = choose_encoder(call.settings.model, verb)
    question = Question(embedding_task(encoder), encoder, {TEXT: call.subject}, "")
    estimate = estimate_run(frame, question, truncate=call.settings.truncate)
    return replace(estimate, verb=verb)

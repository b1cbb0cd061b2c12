"""Evaluation of vectors by labels: whether texts with the same label have similar vectors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import Evaluation, mean_estimate
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.tasks.vector import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = ["VectorEvaluation", "evaluate_vectors", "neighbour_labels"]

_NEIGHBOURS = (1, 5)
_CHUNK = 1024  # rows whose cosines with all other rows are in memory at a time


@dataclass(frozen=True, eq=False, repr=False)
class VectorEvaluation(Evaluation):
    """Evaluation of vectors by the labels of nearest neighbours, as `df.llm.evaluate` returns it.

    A row is right if most of its nearest other rows by cosine have its label. The intervals are
    those of 2,000 seeded bootstrap resamples of rows; the neighbours are not recomputed.
    """

    @cached_property
    def neighbours(self) -> dict[int, list[str]]:
        """By the number of neighbours, the majority label of each row's neighbours."""
        counts = [count for count in _NEIGHBOURS if count < self.count]
        return neighbour_labels(self.answers, self.right, counts)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        right = np.array(self.right)
        baseline = max(Counter(self.right).values()) / self.count
        return tuple(
            Measure(
                "label of the nearest" if count == 1 else f"label of the {count} nearest",
                mean_estimate((np.array(labels) == right).astype(float)),
                baseline,
            )
            for count, labels in self.neighbours.items()
        )


def evaluate_vectors(request: EvaluationRequest) -> VectorEvaluation:
    """Return the evaluation of a frame's vectors by a column of labels.

    Args:
        request: The vectors and the column of labels.

    Raises:
        ColumnError: There is no such column.
        FrameError: No row has both, no two rows have the same label, or metrics were passed.
    """
    request.refuse_metrics()
    common = request.common()
    counts = Counter(common["right"])
    if max(counts.values()) < 2:
        raise FrameError(
            f"no two rows have the same value in {common['truth']!r}, so no neighbour can be "
            "right. Vectors are evaluated against labels, such as what a text is about."
        )
    return VectorEvaluation(**common, baseline=f"always {max(counts, key=lambda x: counts[x])!r}")


def neighbour_labels(
    vectors: list[Any], labels: list[str], counts: list[int]
) -> dict[int, list[str]]:
    """Return the majority label of each row's nearest other rows, by the number of neighbours.

    Of equally frequent labels, the label of the nearest row wins.

    Args:
        vectors: The vector of each row, all of the same length.
        labels: The label of each row.
        counts: The numbers of neighbours, each less than the number of rows.
    """
    unit = unit_vectors(vectors)
    found: dict[int, list[str]] = {count: [] for count in counts}
    for start in range(0, len(unit), _CHUNK):
        cosines = unit[start : start + _CHUNK] @ unit.T
        itself = np.arange(len(cosines))
        cosines[itself, start + itself] = -np.inf
        order = _nearest(cosines, max(counts))
        for count in counts:
            votes = [Counter(labels[n] for n in row[:count]) for row in order]
            found[count] += [vote.most_common(1)[0][0] for vote in votes]
    return found


def _nearest(cosines: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the columns of the largest values of each row, largest first."""
    largest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(cosines, largest, axis=1), axis=1, kind="stable")
    return np.take_along_axis(largest, order, axis=1)

"""Vectors against labels: whether texts of one label lie near each other."""

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

__all__ = ["VectorEvaluation", "neighbour_labels", "of_vectors"]

_NEIGHBOURS = (1, 5)
_AT_ONCE = 1024  # rows whose cosines with all are held


@dataclass(frozen=True, eq=False, repr=False)
class VectorEvaluation(Evaluation):
    """Vectors against labels, by the nearest other texts. Made by `df.llm.evaluate`.

    A row is right where most of its nearest neighbours by cosine, itself left out, have its
    label. The interval is that of 2,000 bootstrap resamples of rows, seeded; vectors stay.
    """

    @cached_property
    def neighbours(self) -> dict[int, list[str]]:
        """By the number of neighbours that vote, the label that they give each row."""
        counts = [count for count in _NEIGHBOURS if count < self.count]
        return neighbour_labels(self.answers, self.right, counts)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        right = np.array(self.right)
        most = max(Counter(self.right).values()) / self.count
        return tuple(
            Measure(
                "label of the nearest" if count == 1 else f"label of the {count} nearest",
                mean_estimate((np.array(labels) == right).astype(float)),
                most,
            )
            for count, labels in self.neighbours.items()
        )


def of_vectors(common: dict[str, Any]) -> VectorEvaluation:
    """Return the vectors of a frame beside a column of labels.

    Args:
        common: the fields that all evaluations share.

    Raises:
        FrameError: fewer than two rows, or every row has a label of its own.
    """
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
    """Return the majority label of the nearest other rows, by the number of neighbours.

    A tie goes to the label that comes first among the nearest.

    Args:
        vectors: of each row, of one length.
        labels: of each row.
        counts: numbers of neighbours, each less than the number of rows.
    """
    unit = unit_vectors(vectors)
    found: dict[int, list[str]] = {count: [] for count in counts}
    for start in range(0, len(unit), _AT_ONCE):
        near = unit[start : start + _AT_ONCE] @ unit.T
        near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
        order = _nearest(near, max(counts))
        for count in counts:
            votes = [Counter(labels[n] for n in row[:count]) for row in order]
            found[count] += [vote.most_common(1)[0][0] for vote in votes]
    return found


def _nearest(near: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the columns of the largest values of each row, largest first."""
    some = np.argpartition(-near, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(near, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)

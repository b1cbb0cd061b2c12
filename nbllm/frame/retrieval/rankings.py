"""Scores of rows as rankings, and several rankings as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["best", "fuse"]

_FUSION = 60  # as Cormack et al. chose it


def fuse(rankings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Scores of several searches as one: the sum of 1 / (60 + rank).

    Args:
        rankings: the score of each row in each search; -inf where it was not found.
    """
    total = np.zeros_like(rankings[0])
    for scores in rankings:
        order = best(scores, len(scores))
        total[order] += 1 / (_FUSION + np.arange(1, len(order) + 1))
    return np.where(total > 0, total, -np.inf)


def best(scores: NDArray[np.float64], k: int) -> list[int]:
    """The rows of the k best scores, best first and the earlier row where they are equal.

    Example:
        >>> best(np.array([0.2, -np.inf, 0.7, 0.2]), 5)
        [2, 0, 3]
    """
    rows = np.flatnonzero(scores > -np.inf)
    if 0 < k < len(rows):
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")[:k]].tolist()
    return found

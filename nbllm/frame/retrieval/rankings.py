"""Ranking of rows by their scores, and fusion of several rankings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fuse", "top_rows"]

_FUSION = 60


def fuse(rankings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the reciprocal rank fusion of several searches: the sum of 1 / (60 + rank).

    Cormack et al. 2009, https://doi.org/10.1145/1571941.1572114.

    Args:
        rankings: The scores of each search, shape (rows,), -inf for rows that it did not find.

    Returns:
        The fused scores, shape (rows,), -inf for rows that no search found.
    """
    total = np.zeros_like(rankings[0])
    for scores in rankings:
        order = top_rows(scores, len(scores))
        total[order] += 1 / (_FUSION + np.arange(1, len(order) + 1))
    return np.where(total > 0, total, -np.inf)


def top_rows(scores: NDArray[np.float64], k: int) -> list[int]:
    """Return the rows with the k highest finite scores, best first; of equal ones the earlier.

    Args:
        scores: The score of each row, shape (rows,), -inf for rows that were not found.
        k: The number of rows.

    Example:
        >>> top_rows(np.array([0.2, -np.inf, 0.7, 0.2]), 5)
        [2, 0, 3]
    """
    rows = np.flatnonzero(scores > -np.inf)
    if 0 < k < len(rows):
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")[:k]].tolist()
    return found

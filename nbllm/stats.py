"""Estimates with confidence intervals: proportions, paired differences, label scores, means.

Functions that resample take a seed and are reproducible.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bin",
    "Estimate",
    "bootstrap",
    "bootstrap_counts",
    "calibration_error",
    "label_scores",
    "mcnemar",
    "paired_difference",
    "proportion",
    "reliability",
]

_RESAMPLES = 2000
_BINS = 10


class Estimate(NamedTuple):
    """A value and its confidence interval; NaN without data."""

    value: float
    low: float
    high: float


_UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def proportion(successes: int, total: int, confidence: float) -> Estimate:
    """Return a proportion with Wilson's score interval, which also holds near 0 and 1.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Args:
        successes: The number of successes.
        total: The number of trials; the estimate is NaN for 0.
        confidence: The level of the interval, between 0 and 1.

    Example:
        >>> value, low, high = proportion(9, 10, 0.95)
        >>> print(f"{value} [{low:.4f}, {high:.4f}]")
        0.9 [0.5958, 0.9821]
    """
    if total == 0:
        return _UNKNOWN
    from scipy.stats import binomtest

    low, high = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return Estimate(successes / total, float(low), float(high))


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float
) -> Estimate:
    """Return the difference of two proportions in the same rows, `second` minus `first`.

    Newcombe's method 10 for paired data combines the score intervals of both proportions and
    their correlation (Newcombe 1998, Statistics in Medicine 17, 2635–2650).

    Args:
        first: Whether each row is a success for the first, shape (rows,).
        second: Whether each row is a success for the second, shape (rows,).
        confidence: The level of the interval, between 0 and 1.
    """
    rows = len(first)
    if rows == 0:
        return _UNKNOWN
    a, a_low, a_high = proportion(int(first.sum()), rows, confidence)
    b, b_low, b_high = proportion(int(second.sum()), rows, confidence)
    phi = _correlation(first, second)
    below, above = (
        sqrt(max(0.0, x**2 - 2 * phi * x * y + y**2))
        for x, y in ((b - b_low, a_high - a), (b_high - b, a - a_low))
    )
    return Estimate(b - a, b - a - below, b - a + above)


def _correlation(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the phi coefficient, shrunk towards 0 by Newcombe's continuity correction."""
    rows = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    product = both * neither - int((first & ~second).sum()) * int((~first & second).sum())
    margins = prod(int(side.sum()) for side in (first, ~first, second, ~second))
    if margins == 0:
        return 0.0
    corrected = max(product - rows / 2, 0) if product > 0 else product
    return corrected / sqrt(margins)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the exact two-sided p value of McNemar's test of two equal proportions.

    McNemar 1947, https://doi.org/10.1007/BF02295996. Under the null hypothesis, each row with
    exactly one success is a success of either with probability 1/2.

    Args:
        first: Whether each row is a success for the first, shape (rows,).
        second: Whether each row is a success for the second, shape (rows,).
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differ = only_first + only_second
    if differ == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, differ).pvalue)


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], rows: int, confidence: float, seed: int
) -> Estimate:
    """Return a statistic of rows with its percentile bootstrap interval from 2,000 resamples.

    Efron 1979, https://doi.org/10.1214/aos/1176344552. Whole rows are resampled, so that a
    difference of two models stays paired.

    Args:
        statistic: Maps positions of rows, shape (rows,), to a number.
        rows: The number of rows; the estimate is NaN for 0.
        confidence: The level of the interval, between 0 and 1.
        seed: The seed of the resampling.
    """
    if rows == 0:
        return _UNKNOWN
    random = np.random.default_rng(seed)
    drawn = [statistic(random.integers(rows, size=rows)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(statistic(np.arange(rows)), float(low), float(high))


def bootstrap_counts(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    counts: NDArray[np.int64],
    confidence: float,
    seed: int,
) -> list[Estimate]:
    """Return statistics of a table of counts with the intervals of `bootstrap`.

    The table is resampled as a multinomial, at a cost that does not depend on the number of rows.

    Args:
        statistic: Maps a table of the same shape to numbers, shape (statistics,).
        counts: The number of rows in each cell of the table, of any shape.
        confidence: The level of the intervals, between 0 and 1.
        seed: The seed of the resampling.
    """
    values, total = statistic(counts), int(counts.sum())
    if total == 0:
        return [_UNKNOWN for _ in values]
    random = np.random.default_rng(seed)
    drawn = [
        statistic(random.multinomial(total, counts.ravel() / total).reshape(counts.shape))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Estimate(*map(float, found)) for found in zip(values, low, high, strict=True)]


def label_scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return accuracy, macro-F1, and the precision, recall and F1 of each label.

    They equal scikit-learn's with `zero_division=0`.

    Args:
        counts: The confusion matrix, by true label and answer, shape (labels, labels).

    Returns:
        Shape (2 + 3 · labels,): accuracy, macro-F1, all precisions, all recalls, all F1.
    """
    right, answered, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision = right / np.maximum(answered, 1)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(answered + true, 1)
    accuracy = right.sum() / max(int(counts.sum()), 1)
    return np.concatenate([[accuracy, f1.mean()], precision, recall, f1])


class Bin(NamedTuple):
    """Rows of similar confidence."""

    rows: int
    confidence: float  # their mean confidence
    right: float  # the share of rows that are right


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Bin]:
    """Return the accuracy in ten bins of confidence of equal width, without empty bins.

    Args:
        confidence: The probability of each answer, 0 to 1, shape (rows,).
        right: Whether each answer is right, shape (rows,).
    """
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    chosen = (place == n for n in range(_BINS))
    return [
        Bin(int(rows.sum()), float(confidence[rows].mean()), float(right[rows].mean()))
        for rows in chosen
        if rows.any()
    ]


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over bins.

    Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602. It is biased upwards by chance,
    the more so the fewer rows there are.

    Args:
        confidence: The probability of each answer, 0 to 1, shape (rows,).
        right: Whether each answer is right, shape (rows,).
    """
    bins = reliability(confidence, right)
    return sum(b.rows * abs(b.confidence - b.right) for b in bins) / max(len(right), 1)

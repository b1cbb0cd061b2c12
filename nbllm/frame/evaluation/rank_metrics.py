"""Metrics of the first k items of a ranking, and their expected values for a random ranking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import comb, log2
from typing import Any

__all__ = ["RANK_METRICS", "by_chance", "rank_metric"]

# Titles in a summary.
RANK_METRICS = {"hit": "hit rate@{k}", "recall": "recall@{k}", "mrr": "MRR@{k}", "ndcg": "nDCG@{k}"}


def rank_metric(metric: str, ranking: Sequence[Any], relevant: Collection[Any], k: int) -> float:
    """Return a metric of the first k items of one ranking, 0 to 1.

    "hit" is 1 if any of them is relevant, "recall" the share of the relevant items among them,
    "mrr" 1 / rank of the first relevant one, and "ndcg" the sum of 1 / log2(1 + rank) over the
    relevant ones, divided by the sum for the best ranking (Järvelin and Kekäläinen 2002,
    https://doi.org/10.1145/582415.582418).

    Args:
        metric: A key of `RANK_METRICS`.
        ranking: The items without repetition, best first.
        relevant: The relevant items, one or more.
        k: The number of items that count.

    Example:
        >>> [rank_metric(m, ["b", "a", "c"], {"a", "d"}, 2) for m in ("hit", "recall", "mrr")]
        [1.0, 0.5, 0.5]
    """
    return _METRICS[metric]([label in relevant for label in ranking[:k]], len(relevant), k)


def _hit(found: Sequence[bool], relevant: int, k: int) -> float:
    return float(any(found))


def _recall(found: Sequence[bool], relevant: int, k: int) -> float:
    return sum(found) / relevant


def _reciprocal(found: Sequence[bool], relevant: int, k: int) -> float:
    return next((1 / rank for rank, hit in enumerate(found, start=1) if hit), 0.0)


def _gain(found: Sequence[bool], relevant: int, k: int) -> float:
    gain = sum(_discount(rank) for rank, hit in enumerate(found, start=1) if hit)
    return gain / _best_gain(relevant, k)


def _discount(rank: int) -> float:
    return 1 / log2(1 + rank)


def _best_gain(relevant: int, k: int) -> float:
    return sum(map(_discount, range(1, min(relevant, k) + 1)))


_METRICS: dict[str, Callable[[Sequence[bool], int, int], float]] = {
    "hit": _hit,
    "recall": _recall,
    "mrr": _reciprocal,
    "ndcg": _gain,
}


def by_chance(metric: str, candidates: int, relevant: int, k: int) -> float:
    """Return the expected value of a metric for k items drawn at random.

    Args:
        metric: A key of `RANK_METRICS`.
        candidates: The number of items, relevant ones included.
        relevant: The number of relevant items.
        k: The number of items drawn.

    Example:
        >>> by_chance("hit", 4, 1, 2), by_chance("mrr", 4, 1, 2)
        (0.5, 0.375)
    """
    k, relevant = min(k, candidates), min(relevant, candidates)
    if not k or not relevant:
        return 0.0
    if metric == "recall":
        return k / candidates
    if metric == "ndcg":
        drawn = sum(map(_discount, range(1, k + 1))) * relevant / candidates
        return drawn / _best_gain(relevant, k)
    others = candidates - relevant
    # The probability that none of the first `rank` draws is relevant.
    none = [comb(others, rank) / comb(candidates, rank) for rank in range(k + 1)]
    if metric == "hit":
        return 1 - none[k]
    return sum((none[rank - 1] - none[rank]) / rank for rank in range(1, k + 1))

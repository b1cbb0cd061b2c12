"""Metrics of a ranking of items that are relevant or not, and their values at random.

Only the first k items of a ranking count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import comb, log2
from typing import Any

__all__ = ["RANK_METRICS", "by_chance", "rank_metric"]

# What each is called in a summary.
RANK_METRICS = {"hit": "hit rate@{k}", "recall": "recall@{k}", "mrr": "MRR@{k}", "ndcg": "nDCG@{k}"}


def rank_metric(metric: str, ranking: Sequence[Any], relevant: Collection[Any], k: int) -> float:
    """Return one of `RANK_METRICS` for one query, 0 to 1.

    "hit" is whether any of the first k is relevant, "recall" the share of what is relevant that
    is among them, "mrr" 1 / rank of the first that is, and "ndcg" the sum of 1 / log2(1 + rank)
    over those that are, divided by what the best ranking has (Järvelin and Kekäläinen 2002,
    https://doi.org/10.1145/582415.582418).

    Args:
        metric: a key of `RANK_METRICS`.
        ranking: items, best first, none of them twice.
        relevant: the relevant items, one or more.
        k: how many of the ranking count.

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
    """Return the expected value of a metric for k candidates drawn at random.

    Args:
        metric: a key of `RANK_METRICS`.
        candidates: how many items there are, the relevant ones included.
        relevant: how many of them are relevant.
        k: how many are drawn.

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
    # That the first `rank` draws have nothing relevant among them.
    none = [comb(others, rank) / comb(candidates, rank) for rank in range(k + 1)]
    if metric == "hit":
        return 1 - none[k]
    return sum((none[rank - 1] - none[rank]) / rank for rank in range(1, k + 1))

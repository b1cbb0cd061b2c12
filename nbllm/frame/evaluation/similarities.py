"""Similarity scores of pairs of texts against scores that people gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.text_metrics import words
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.stats import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreEvaluation", "of_scores", "word_overlap"]

_Correlation = Callable[["NDArray[np.float64]", "NDArray[np.float64]"], float]


@dataclass(frozen=True, eq=False, repr=False)
class ScoreEvaluation(Evaluation):
    """Scores against gold scores, by their correlation. Made by `df.llm.evaluate`.

    Correlations have the interval of 2,000 bootstrap resamples of rows, seeded. The baseline is the
    share of the words of both texts that both have.
    """

    given: NDArray[np.float64]  # shape (rows,)
    gold: NDArray[np.float64]
    plain: NDArray[np.float64] | None  # the baseline's score

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Spearman's correlation, of ranks, and Pearson's."""
        return tuple(
            Measure(
                name,
                bootstrap(partial(self._of, correlation), self.count, CONFIDENCE, SEED),
                None if self.plain is None else correlation(self.plain, self.gold),
            )
            for name, correlation in (("Spearman", _spearman), ("Pearson", _pearson))
        )

    def _of(self, correlation: _Correlation, rows: NDArray[np.intp]) -> float:
        return correlation(self.given[rows], self.gold[rows])


def of_scores(
    data: nw.DataFrame[Any], record: Mapping[str, Any], common: dict[str, Any]
) -> ScoreEvaluation:
    """Return the scores of pairs beside a column of numbers, on any scale.

    Args:
        data: the frame.
        record: of the run that gave the scores.
        common: the fields that all evaluations share.

    Raises:
        FrameError: a truth that is no number, or fewer than two rows.
    """
    try:
        gold = np.array([float(value) for value in common["right"]])
    except ValueError as error:
        raise FrameError(
            f"column {common['truth']!r} holds what is no number ({error}). Similarity is "
            "evaluated against scores; for yes or no, write 1 and 0."
        ) from error
    if len(gold) < 2:
        raise FrameError("one row has no correlation. Evaluate two or more.")
    return ScoreEvaluation(
        **common,
        baseline="the share of words that both texts have",
        given=np.array(common["answers"], dtype=float),
        gold=gold,
        plain=_overlaps(data, record, common["positions"]),
    )


def word_overlap(first: str, second: str) -> float:
    """Return the share of the words of either text that both have (Jaccard).

    Example:
        >>> word_overlap("A red car.", "a red bike")
        0.5
    """
    one, other = set(words(first)), set(words(second))
    return len(one & other) / len(one | other) if one | other else 0.0


def _overlaps(
    data: nw.DataFrame[Any], record: Mapping[str, Any], rows: list[int]
) -> NDArray[np.float64] | None:
    columns = record["columns"]
    if any(column not in data.columns for column in columns.values()):
        return None
    texts = data[columns[TEXT]].to_list()
    to = record["parameters"]["to"]
    others = data[columns["other"]].to_list() if to is None else [to] * len(texts)
    return np.array([word_overlap(str(texts[n]), str(others[n])) for n in rows])


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _is_constant(first, second) else float(pearsonr(first, second).statistic)


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _is_constant(first, second) else float(spearmanr(first, second).statistic)


def _is_constant(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Return whether either is constant, and so has no correlation."""
    return bool(first.min() == first.max() or second.min() == second.max())

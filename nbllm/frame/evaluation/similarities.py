"""Evaluation of the similarity scores of pairs of texts against human ratings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.text_metrics import words
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.stats import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = ["ScoreEvaluation", "evaluate_scores", "word_overlap"]

_Correlation = Callable[["NDArray[np.float64]", "NDArray[np.float64]"], float]


@dataclass(frozen=True, eq=False, repr=False)
class ScoreEvaluation(Evaluation):
    """Evaluation of scores by their correlation with gold scores, as `df.llm.evaluate` returns it.

    The intervals are those of 2,000 seeded bootstrap resamples of rows. The baseline is the word
    overlap of both texts.
    """

    scores: NDArray[np.float64]  # shape (rows,)
    gold: NDArray[np.float64]  # shape (rows,)
    baseline_scores: NDArray[np.float64] | None  # shape (rows,)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Spearman's rank correlation and Pearson's correlation."""
        baseline = self.baseline_scores
        return tuple(
            Measure(
                name,
                bootstrap(partial(self._resampled, correlation), self.count, CONFIDENCE, SEED),
                None if baseline is None else correlation(baseline, self.gold),
            )
            for name, correlation in (("Spearman", _spearman), ("Pearson", _pearson))
        )

    def _resampled(self, correlation: _Correlation, rows: NDArray[np.intp]) -> float:
        return correlation(self.scores[rows], self.gold[rows])


def evaluate_scores(request: EvaluationRequest) -> ScoreEvaluation:
    """Return the evaluation of similarity scores against a column of numbers on any scale.

    Args:
        request: The scores and the column of gold scores.

    Raises:
        ColumnError: There is no such column.
        FrameError: A gold score is not a number, fewer than two rows have both, or metrics were
            passed.
    """
    request.refuse_metrics()
    common = request.common()
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
        scores=np.array(common["answers"], dtype=float),
        gold=gold,
        baseline_scores=_overlaps(request, common["positions"]),
    )


def word_overlap(first: str, second: str) -> float:
    """Return the Jaccard index of the words of two texts, 0 to 1.

    Example:
        >>> word_overlap("A red car.", "a red bike")
        0.5
    """
    a, b = set(words(first)), set(words(second))
    return len(a & b) / len(a | b) if a | b else 0.0


def _overlaps(request: EvaluationRequest, rows: list[int]) -> NDArray[np.float64] | None:
    """Return the word overlap of each pair; None if the frame lacks the texts."""
    data, record = request.data, request.records[0]
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
    """Return whether either is constant, so that the correlation is undefined."""
    return bool(first.min() == first.max() or second.min() == second.max())

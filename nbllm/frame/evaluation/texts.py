"""Evaluation of texts: ROUGE, BLEU, chrF, exact match and token F1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import Evaluation, mean_estimate
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.text_metrics import METRICS, corpus_metric, row_metric
from nbllm.frame.prompts.arguments import as_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TextEvaluation", "evaluate_texts"]


@dataclass(frozen=True, eq=False, repr=False)
class TextEvaluation(Evaluation):
    """Evaluation of texts, as `df.llm.evaluate` returns it.

    Metrics per row have the interval of 2,000 seeded bootstrap resamples; BLEU and chrF, which are
    computed over all rows, have sacrebleu's.
    """

    metrics: tuple[str, ...]  # keys of `METRICS`
    baseline_texts: list[str] | None  # one per row

    @cached_property
    def by_row(self) -> dict[str, NDArray[np.float64]]:
        """By metric, except BLEU and chrF, the value of each row, 0 to 1, shape (rows,)."""
        metrics = {metric: row_metric(metric) for metric in self.metrics}
        return {
            metric: self._row_values(score, self.answers)
            for metric, score in metrics.items()
            if score is not None
        }

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        return tuple(self._measure(metric) for metric in self.metrics)

    def _measure(self, metric: str) -> Measure:
        score, texts, baseline = row_metric(metric), self.baseline_texts, None
        if score is not None:
            value = mean_estimate(self.by_row[metric])
            if texts is not None:
                baseline = float(self._row_values(score, texts).mean())
        else:
            value = corpus_metric(metric, self.answers, self.right, interval=True)
            if texts is not None:
                baseline = corpus_metric(metric, texts, self.right, interval=False).value
        return Measure(METRICS[metric], value, baseline)

    def _row_values(
        self, score: Callable[[str, str], float], texts: Sequence[str]
    ) -> NDArray[np.float64]:
        return np.array([score(a, b) for a, b in zip(texts, self.right, strict=True)])


def evaluate_texts(
    common: dict[str, Any], metrics: Any, texts: list[str] | None, baseline: str
) -> TextEvaluation:
    """Return the evaluation of a frame's texts against a column of right texts.

    Args:
        common: The attributes that all evaluations share.
        metrics: Keys of `METRICS`.
        texts: The baseline's text for each row; None without a baseline.
        baseline: The description of the baseline.

    Raises:
        FrameError: There is no such metric.
    """
    chosen = tuple(as_list(metrics, "metrics"))
    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise FrameError(f"there is no metric {unknown[0]!r}. Use {', '.join(METRICS)}.")
    return TextEvaluation(**common, baseline=baseline, metrics=chosen, baseline_texts=texts)

"""Texts against the right ones: ROUGE, BLEU, chrF, exact match and token F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.errors import FrameError
from nbllm.frame.evaluation.base import Evaluation, mean_estimate
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.text_metrics import METRICS, corpus_metric, row_metric
from nbllm.frame.prompts.arguments import listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TextEvaluation", "of_texts"]


@dataclass(frozen=True, eq=False, repr=False)
class TextEvaluation(Evaluation):
    """Texts against the truth. Made by `df.llm.evaluate`.

    Measures of a row have the interval of 2,000 bootstrap resamples, seeded; BLEU and chrF, which
    are of all rows together, that of sacrebleu.
    """

    metrics: tuple[str, ...]
    plain: list[str] | None  # the baseline's text for each row

    @cached_property
    def by_row(self) -> dict[str, NDArray[np.float64]]:
        """Each metric that a row has, 0 to 1, shape (rows,)."""
        return self._by_row(self.answers)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        plain = {} if self.plain is None else self._by_row(self.plain)
        found = []
        for metric in self.metrics:
            name = METRICS[metric]
            if metric in self.by_row:
                value = mean_estimate(self.by_row[metric])
                base = float(plain[metric].mean()) if plain else None
            else:
                value = corpus_metric(metric, self.answers, self.right, interval=True)
                base = (
                    None
                    if self.plain is None
                    else corpus_metric(metric, self.plain, self.right, interval=False).value
                )
            found.append(Measure(name, value, base))
        return tuple(found)

    def _by_row(self, answers: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        made = {metric: row_metric(metric) for metric in self.metrics}
        return {
            metric: np.array([one(a, b) for a, b in zip(answers, self.right, strict=True)])
            for metric, one in made.items()
            if one is not None
        }


def of_texts(
    common: dict[str, Any], metrics: Any, plain: list[str] | None, baseline: str
) -> TextEvaluation:
    """Return the texts of a frame beside a column of the right ones.

    Args:
        common: what all evaluations have.
        metrics: of `METRICS`.
        plain: the baseline's text for each row.
        baseline: what that is.

    Raises:
        FrameError: there is no such metric.
    """
    chosen = tuple(listed(metrics, "metrics"))
    unknown = [name for name in chosen if name not in METRICS]
    if unknown:
        raise FrameError(f"there is no metric {unknown[0]!r}. Use {', '.join(METRICS)}.")
    return TextEvaluation(**common, baseline=baseline, metrics=chosen, plain=plain)

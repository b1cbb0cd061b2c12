"""Evaluation of labels: accuracy, F1, the confusion matrix and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import LabelError
from nbllm.frame.evaluation import render
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.truth import refuse_unknown
from nbllm.stats import (
    Bin,
    bootstrap,
    bootstrap_counts,
    calibration_error,
    label_scores,
    proportion,
    reliability,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["LabelEvaluation", "evaluate_labels"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelEvaluation(Evaluation):
    """Evaluation of labels, as `df.llm.evaluate` returns it.

    Accuracy has Wilson's interval; all other measures have the interval of 2,000 seeded bootstrap
    resamples. The baseline gives every row the most frequent true label.
    """

    score: NDArray[np.float64] | None  # probability of each answer, shape (rows,)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels among the true values and the answers, in alphabetical order."""
        return tuple(sorted({*self.answers, *self.right}))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of rows by true label and answer, shape (labels, labels)."""
        return self._counts(self.answers)

    @property
    def confusion(self) -> Any:
        """The counts as a frame: one row per true label, one column per answer."""
        columns = {label: self.counts[:, n].tolist() for n, label in enumerate(self.labels)}
        return self._frame({"truth": list(self.labels), **columns})

    @property
    def bins(self) -> list[Bin]:
        """The reliability of the score; empty without a score."""
        return [] if self.score is None else reliability(self.score, self.hits)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each answer is right, shape (rows,)."""
        return np.array([a == b for a, b in zip(self.answers, self.right, strict=True)])

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        hits, score = self.hits, self.score
        most_frequent = max(self.labels, key=self.right.count)
        baseline = label_scores(self._counts([most_frequent] * len(self.right)))
        found = bootstrap_counts(label_scores, self.counts, CONFIDENCE, SEED)
        accuracy = proportion(int(hits.sum()), len(hits), CONFIDENCE)
        measures = [
            Measure("accuracy", accuracy, float(baseline[0])),
            Measure("macro-F1", found[1], float(baseline[1])),
        ]
        if score is not None:
            measures.append(
                Measure(
                    "calibration error",
                    bootstrap(
                        lambda rows: calibration_error(score[rows], hits[rows]),
                        len(hits),
                        CONFIDENCE,
                        SEED,
                    ),
                )
            )
        names = [(m, label) for m in ("precision", "recall", "F1") for label in self.labels]
        by_label = [
            Measure(name, value, float(base), label)
            for (name, label), value, base in zip(names, found[2:], baseline[2:], strict=True)
        ]
        order = [self.labels.index(m.label or "") for m in by_label]
        return (*measures, *(by_label[n] for n in np.argsort(order, kind="stable")))

    def rows(self, *, truth: str | None = None, answer: str | None = None) -> Any:
        """Return the rows of the frame with this true label, this answer, or both.

        Args:
            truth: The true label; None for any.
            answer: The answered label; None for any.

        Raises:
            LabelError: No row has the label.

        Example:
            >>> found.rows(truth="positive", answer="negative")  # doctest: +SKIP
        """
        for label in (truth, answer):
            if label is not None and label not in self.labels:
                raise LabelError(f"no row has {label!r}. There are {', '.join(self.labels)}.")
        triples = zip(self.positions, self.right, self.answers, strict=True)
        chosen = [
            position
            for position, right, answered in triples
            if truth in (None, right) and answer in (None, answered)
        ]
        return self._rows_at(chosen)

    def plot(self) -> Figure:
        """Return a chart of the confusion matrix, and of the reliability of the score if any."""
        return render.label_plot(self._display, self.labels, self.counts, self.bins)

    def _counts(self, answers: Sequence[str]) -> NDArray[np.int64]:
        index = {label: n for n, label in enumerate(self.labels)}
        counts = np.zeros((len(index), len(index)), dtype=np.int64)
        np.add.at(counts, ([index[a] for a in self.right], [index[a] for a in answers]), 1)
        return counts


def evaluate_labels(
    data: nw.DataFrame[Any], records: Sequence[Mapping[str, Any]], common: dict[str, Any]
) -> LabelEvaluation:
    """Return the evaluation of a frame's labels against a column of true labels.

    Args:
        data: The frame.
        records: The records of the runs that answered.
        common: The attributes that all evaluations share.

    Raises:
        LabelError: The truth has labels that the verb does not give.
    """
    output, right = common["output"], common["right"]
    known = {label for record in records for label in record["parameters"].get("labels", ())}
    refuse_unknown(right, sorted(known), f"column {common['truth']!r}", common["verb"])
    score = f"{output}_score"
    most_frequent = max(sorted(set(right)), key=right.count)
    return LabelEvaluation(
        **common,
        baseline=f"always {most_frequent!r}",
        score=data[score].to_numpy()[common["positions"]] if score in data.columns else None,
    )

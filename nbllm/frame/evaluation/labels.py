"""Labels against the right ones: accuracy, F1, the confusion matrix and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import FrameError, LabelError
from nbllm.frame.evaluation import render
from nbllm.frame.evaluation.base import CONFIDENCE, METRICS_ARE_OF_TEXTS, SEED, Evaluation
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

__all__ = ["LabelEvaluation", "of_labels"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelEvaluation(Evaluation):
    """Labels against the truth. Made by `df.llm.evaluate`.

    Accuracy has Wilson's interval, all else that of 2,000 bootstrap resamples, seeded. The baseline
    gives every row the most frequent true label.
    """

    score: NDArray[np.float64] | None  # probability of each answer, shape (rows,)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels that are true of a row or answered, in alphabetical order."""
        return tuple(sorted({*self.answers, *self.right}))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rows by true label and answer, shape (labels, labels)."""
        return self._counts(self.answers)

    @property
    def confusion(self) -> Any:
        """The counts as a frame: a row for each true label, a column for each answer."""
        columns = {label: self.counts[:, n].tolist() for n, label in enumerate(self.labels)}
        return self._frame({"truth": list(self.labels), **columns})

    @property
    def bins(self) -> list[Bin]:
        """The reliability of the score; empty where there is none."""
        return [] if self.score is None else reliability(self.score, self.hits)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each answer is right, shape (rows,)."""
        return np.array([a == b for a, b in zip(self.answers, self.right, strict=True)])

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        hits, score = self.hits, self.score
        most = max(self.labels, key=self.right.count)
        plain = label_scores(self._counts([most] * len(self.right)))
        found = bootstrap_counts(label_scores, self.counts, CONFIDENCE, SEED)
        accuracy = proportion(int(hits.sum()), len(hits), CONFIDENCE)
        measures = [
            Measure("accuracy", accuracy, float(plain[0])),
            Measure("macro-F1", found[1], float(plain[1])),
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
            for (name, label), value, base in zip(names, found[2:], plain[2:], strict=True)
        ]
        order = [self.labels.index(m.label or "") for m in by_label]
        return (*measures, *(by_label[n] for n in np.argsort(order, kind="stable")))

    def rows(self, *, truth: str | None = None, answer: str | None = None) -> Any:
        """Return the rows of the frame with this true label, or this answer, or both.

        Example:
            >>> found.rows(truth="positive", answer="negative")  # doctest: +SKIP
        """
        for label in (truth, answer):
            if label is not None and label not in self.labels:
                raise LabelError(f"no row has {label!r}. There are {', '.join(self.labels)}.")
        triples = zip(self.positions, self.right, self.answers, strict=True)
        chosen = [
            position
            for position, right, given in triples
            if truth in (None, right) and answer in (None, given)
        ]
        return self._taken(chosen)

    def plot(self) -> Figure:
        """Return a chart of the confusion matrix, and of the score's reliability if it has one."""
        return render.label_plot(self._shown, self.labels, self.counts, self.bins)

    def _counts(self, answers: Sequence[str]) -> NDArray[np.int64]:
        place = {label: n for n, label in enumerate(self.labels)}
        counts = np.zeros((len(place), len(place)), dtype=np.int64)
        np.add.at(counts, ([place[a] for a in self.right], [place[a] for a in answers]), 1)
        return counts


def of_labels(
    data: nw.DataFrame[Any],
    records: Sequence[Mapping[str, Any]],
    metrics: Sequence[str] | None,
    common: dict[str, Any],
) -> LabelEvaluation:
    """Return the labels of a frame beside a column of the right ones.

    Args:
        data: the frame.
        records: of the runs that answered.
        metrics: must be None, since labels have no choice of metrics.
        common: the fields that all evaluations share.

    Raises:
        FrameError: metrics are given.
        LabelError: the truth has labels that the verb does not give.
    """
    if metrics is not None:
        raise FrameError(METRICS_ARE_OF_TEXTS)
    output, right = common["output"], common["right"]
    known = {label for record in records for label in record["parameters"].get("labels", ())}
    refuse_unknown(right, sorted(known), f"column {common['truth']!r}", common["verb"])
    score = f"{output}_score"
    most = max(sorted(set(right)), key=right.count)
    return LabelEvaluation(
        **common,
        baseline=f"always {most!r}",
        score=data[score].to_numpy()[common["positions"]] if score in data.columns else None,
    )

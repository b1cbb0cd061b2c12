"""Evaluation of a filter: the rows that it selected against those that it should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import read_rows, row_key
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.evaluation.truth import right_answers
from nbllm.frame.tasks.base import check_ledger_entries
from nbllm.frame.tasks.predicate import PredicateTask
from nbllm.stats import bootstrap, bootstrap_counts, label_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = ["FilterEvaluation", "evaluate_filter"]

_TRUTH_VALUES = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False,
                 "1.0": True, "0.0": False}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class FilterEvaluation(Evaluation):
    """Evaluation of a filter, as `df.llm.evaluate` returns it.

    All intervals are those of 2,000 seeded bootstrap resamples of rows. The baseline selects all
    rows. Average precision, which is independent of the threshold, requires the score of every row
    in the ledger.
    """

    corpus: Any  # frame that was filtered
    scores: NDArray[np.float64] | None  # probability of yes, shape (rows,)

    @property
    def remark(self) -> str:
        """A footnote to the measures, or an empty string."""
        return (
            "Average precision needs the scores of what was left out, which the ledger has not."
            if self.scores is None
            else ""
        )

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        baseline = label_scores(self._counts([True] * self.count))
        counts = self._counts(self.answers)
        found = bootstrap_counts(label_scores, counts, CONFIDENCE, SEED)
        # label_scores gives each measure for no, then for yes.
        measures = [
            Measure(name, found[n], float(baseline[n]))
            for name, n in (("precision", 3), ("recall", 5), ("F1", 7))
        ]
        if self.scores is not None:
            measures.append(
                Measure(
                    "average precision",
                    bootstrap(self._average_precision, self.count, CONFIDENCE, SEED),
                    float(np.mean(self.right)),
                )
            )
        return tuple(measures)

    def rows(self, *, truth: bool, taken: bool) -> Any:
        """Return the rows of the filtered frame with this truth and this outcome.

        Args:
            truth: Whether the filter should have selected the row.
            taken: Whether it did.

        Example:
            >>> found.rows(truth=True, taken=False)  # doctest: +SKIP
        """
        triples = zip(self.positions, self.right, self.answers, strict=True)
        chosen = [row for row, *outcome in triples if outcome == [truth, taken]]
        return self._rows_at(chosen, self.corpus)

    def _counts(self, selected: Sequence[bool]) -> NDArray[np.int64]:
        counts = np.zeros((2, 2), dtype=np.int64)
        np.add.at(counts, (np.array(self.right, dtype=int), np.array(selected, dtype=int)), 1)
        return counts

    def _average_precision(self, rows: NDArray[np.intp]) -> float:
        from sklearn.metrics import average_precision_score

        assert self.scores is not None
        right = np.array(self.right)[rows]
        # Without a positive row scikit-learn returns 0 too, but warns.
        return float(average_precision_score(right, self.scores[rows])) if right.any() else 0.0


def evaluate_filter(request: EvaluationRequest) -> FilterEvaluation:
    """Return the evaluation of a filter on the frame that it was applied to.

    Rows are matched by their texts, since equal texts get equal answers.

    Args:
        request: The rows that the filter selected; `corpus`, the frame that was filtered; and the
            column of `corpus` that is true, yes or 1 for a row that should be selected.

    Raises:
        ColumnError: There is no such column.
        FrameError: `corpus` is missing, or no row has both a truth and an answer.
        LabelError: A true value is neither true nor false.
    """
    truth, corpus, record = request.truth, request.corpus, request.records[0]
    if corpus is None:
        raise FrameError(
            "a filter returns only what it took, and what it missed is elsewhere. Pass the frame "
            f"that was filtered: evaluate({truth!r}, corpus=df)."
        )
    [column] = record["columns"].values()
    right = [_parse(value, truth) for value in right_answers(corpus, truth)]
    rows = read_rows(corpus, [column])
    texts = [text for (text,) in rows.texts]
    selected = {text for (text,) in read_rows(request.frame, [column]).texts}
    scores = _scores(record, texts)
    answered = set(scores) | selected if scores else set(texts)
    row_texts = [None if i is None else texts[i] for i in rows.text_indices]
    answers = [text in selected if text in answered else None for text in row_texts]
    common = request.pair(answers, right)
    known = [scores.get(row_texts[n] or "") for n in common["positions"]]
    return FilterEvaluation(
        **common,
        baseline="taking all rows",
        corpus=corpus,
        scores=None if None in known else np.array(known),
    )


def _parse(value: str | None, column: str) -> bool | None:
    if value is None:
        return None
    found = _TRUTH_VALUES.get(value.strip().lower())
    if found is None:
        raise LabelError(
            f"column {column!r} holds {value!r:.80}, which is neither true nor false. Compare it "
            f"first, as in df[{column!r}] == {value!r:.40}."
        )
    return found


def _scores(record: Mapping[str, Any], texts: Sequence[str]) -> dict[str, float]:
    """Return the probability of yes for each text whose answer is in the ledger."""
    if not ledger_path().exists():
        return {}
    keys = {row_key((text,)): text for text in texts}
    with Ledger(ledger_path()) as ledger:
        known = ledger.known(record["question"], keys)
    task = PredicateTask(record["verb"], ("yes", "no"), (), "", (), threshold=0.0)
    check_ledger_entries(task, known, ledger_path())
    scores = task.decode(list(known.values()), record.get("offset"))[1]
    return {keys[key]: score for key, score in zip(known, scores, strict=True)}

"""The rows that a filter took and left, against those that it should have taken."""

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
from nbllm.frame.tasks.base import check_filed
from nbllm.frame.tasks.predicate import PredicateTask
from nbllm.stats import bootstrap, bootstrap_counts, label_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FilterEvaluation", "of_filter"]

# What a truth says, as text, of a row that should be taken.
_SAID = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False,
         "1.0": True, "0.0": False}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class FilterEvaluation(Evaluation):
    """The rows that a filter took, among all. Made by `df.llm.evaluate`.

    All with the interval of 2,000 bootstrap resamples of rows, seeded. The baseline takes all rows.
    Average precision is of the scores, whatever the threshold, where the ledger has them all.
    """

    corpus: Any  # the frame that was filtered
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
        plain = label_scores(self._counts([True] * self.count))
        counts = self._counts(self.answers)
        found = bootstrap_counts(label_scores, counts, CONFIDENCE, SEED)
        # Of each label in turn, the second being yes.
        measures = [
            Measure(name, found[place], float(plain[place]))
            for name, place in (("precision", 3), ("recall", 5), ("F1", 7))
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
            truth: whether a row should have been taken.
            taken: whether it was.

        Example:
            >>> found.rows(truth=True, taken=False)  # doctest: +SKIP
        """
        triples = zip(self.positions, self.right, self.answers, strict=True)
        chosen = [row for row, right, given in triples if right == truth and given == taken]
        return self._taken(chosen, self.corpus)

    def _counts(self, given: Sequence[bool]) -> NDArray[np.int64]:
        counts = np.zeros((2, 2), dtype=np.int64)
        np.add.at(counts, (np.array(self.right, dtype=int), np.array(given, dtype=int)), 1)
        return counts

    def _average_precision(self, rows: NDArray[np.intp]) -> float:
        from sklearn.metrics import average_precision_score

        assert self.scores is not None
        right = np.array(self.right)[rows]
        # scikit-learn warns where there is nothing to find, and gives 0 too.
        return float(average_precision_score(right, self.scores[rows])) if right.any() else 0.0


def of_filter(
    frame: Any, truth: str, output: str, records: Sequence[Mapping[str, Any]], corpus: Any
) -> FilterEvaluation:
    """Return what a filter took beside all rows that it was given.

    An answer belongs to a text, so rows are matched by their texts and need no index labels.

    Args:
        frame: what the filter returned.
        output: the column of its scores and runs.
        truth: the column of `corpus` that is true where a row should be taken; yes and no, or 1
            and 0 do as well.
        records: of the runs that answered.
        corpus: the frame that was filtered.

    Raises:
        ColumnError: no such column.
        FrameError: `corpus` is missing, or no row has both a truth and an answer.
        LabelError: a truth that is neither true nor false.
    """
    if corpus is None:
        raise FrameError(
            "a filter returns only what it took, and what it missed is elsewhere. Pass the frame "
            f"that was filtered: evaluate({truth!r}, corpus=df)."
        )
    [column] = records[0]["columns"].values()
    right = [_read(value, truth) for value in right_answers(corpus, truth)]
    rows = read_rows(corpus, [column])
    texts = [text for (text,) in rows.texts]
    taken = {text for (text,) in read_rows(frame, [column]).texts}
    scores = _scores(records[0], texts)
    answered = set(scores) | taken if scores else set(texts)
    judged = [n for n, value in enumerate(right) if value is not None]
    of = [None if i is None else texts[i] for i in rows.position]
    kept = [n for n in judged if of[n] in answered]
    if not kept:
        raise FrameError(f"no row has both an answer of the filter and a truth in {truth!r}.")
    known = all(of[n] in scores for n in kept)
    return FilterEvaluation(
        frame=frame,
        output=output,
        truth=truth,
        verb=records[0]["verb"],
        answers=[of[n] in taken for n in kept],
        right=[right[n] for n in kept],
        positions=kept,
        unanswered=len(judged) - len(kept),
        baseline="taking all rows",
        corpus=corpus,
        scores=np.array([scores[str(of[n])] for n in kept]) if known else None,
    )


def _read(value: str | None, column: str) -> bool | None:
    if value is None:
        return None
    found = _SAID.get(value.strip().lower())
    if found is None:
        raise LabelError(
            f"column {column!r} holds {value!r:.80}, which is neither true nor false. Compare it "
            f"first, as in df[{column!r}] == {value!r:.40}."
        )
    return found


def _scores(record: Mapping[str, Any], texts: Sequence[str]) -> dict[str, float]:
    """Return the probability of yes for each text that is in the ledger."""
    if not ledger_path().exists():
        return {}
    keys = {row_key((text,)): text for text in texts}
    with Ledger(ledger_path()) as ledger:
        known = ledger.known(record["question"], keys)
    reader = PredicateTask(record["verb"], ("yes", "no"), (), "", (), threshold=0.0)
    check_filed(reader, known, ledger_path())
    chances = reader.decode(list(known.values()), record.get("offset"))[1]
    return {keys[key]: chance for key, chance in zip(known, chances, strict=True)}

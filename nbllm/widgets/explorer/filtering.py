"""Filters, sorts and counts the rows of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbllm.errors import SelectionError
from nbllm.widgets.explorer.answers import Answers
from nbllm.widgets.explorer.query import Query
from nbllm.widgets.protocol.explorer import Confusion, Counts, LabelCounts, ScoreCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["chart_counts", "check_query", "matching_rows"]

_BINS = 20


def check_query(answers: Answers, query: Query) -> None:
    """Raise if a query names labels, columns or scores that the frame does not have.

    Args:
        answers: The answered frame.
        query: The query.

    Raises:
        SelectionError: The message lists the choices.
    """
    for name, selected, choices in (
        ("labels", query.labels, answers.labels),
        ("truths", query.truths, answers.true_labels),
    ):
        unknown = [label for label in selected if label not in choices]
        if unknown:
            raise SelectionError(
                f"{unknown[0]!r} is none of the {name} here: "
                f"{', '.join(choices) or 'there are none'}. Choose one of those."
            )
    if query.sort is not None and query.sort not in answers.columns:
        raise SelectionError(
            f"the frame has no column {query.sort!r} to sort by. It has: "
            f"{', '.join(answers.columns)}."
        )
    if query.score is not None:
        if answers.score is None:
            raise SelectionError("these answers have no score. Set score to None.")
        if not query.score[0] <= query.score[1]:
            raise SelectionError(f"the score range {query.score} ends before it begins.")
    if query.only == "wrong" and answers.truth is None:
        raise SelectionError(
            "which rows are wrong is not known. Name the right answers: "
            ".llm.explore(truth='label')."
        )


def matching_rows(answers: Answers, query: Query) -> NDArray[np.intp]:
    """Return the positions of the rows that match a query, in its order.

    Args:
        answers: The answered frame.
        query: The filter and the sort.
    """
    rows = np.flatnonzero(_all(answers, _masks(answers, query)))
    if query.sort is None:
        return rows[::-1] if query.descending else rows
    column = answers.columns[query.sort]
    ranks = column.ranks[rows]
    keys = np.where(
        column.missing[rows], np.iinfo(np.int64).max, -ranks if query.descending else ranks
    )
    return rows[np.argsort(keys, kind="stable")]


def chart_counts(answers: Answers, query: Query) -> Counts:
    """Return the data of the charts: counts of all rows and of the rows that match the query.

    Each chart ignores its own part of the query, so that another bar can be selected.

    Args:
        answers: The answered frame.
        query: The filter.
    """
    masks = _masks(answers, query)
    found = Counts()
    if answers.labels:
        rest = _all(answers, masks, without=("labels",))
        found["labels"] = LabelCounts(
            names=list(answers.labels),
            all=[*answers.label_counts().values()],
            shown=[*answers.label_counts(rest).values()],
        )
    score = answers.score
    known = np.isfinite(score.numbers) if score is not None else answers.no_rows
    if score is not None and known.any():
        edges = _edges(score.numbers[known])
        rest = _all(answers, masks, without=("score",)) & known
        found["scores"] = ScoreCounts(
            edges=edges.tolist(),
            all=np.histogram(score.numbers[known], edges)[0].tolist(),
            shown=np.histogram(score.numbers[rest], edges)[0].tolist(),
        )
    if answers.true_labels:
        rest = _all(answers, masks, without=("labels", "truths"))
        found["confusion"] = Confusion(
            truths=list(answers.true_labels),
            answers=list(answers.labels),
            counts=_confusion(answers, rest).tolist(),
        )
    return found


def _masks(answers: Answers, query: Query) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of matching rows for each part of a query."""
    masks: dict[str, NDArray[np.bool_]] = {}
    if query.text:
        found = [column.contains(query.text) for column in answers.texts]
        masks["text"] = np.logical_or.reduce(found) if found else answers.no_rows
    if query.labels:
        masks["labels"] = np.isin(
            answers.label_codes, [answers.labels.index(label) for label in query.labels]
        )
    if query.truths:
        masks["truths"] = np.isin(
            answers.truth_codes, [answers.true_labels.index(label) for label in query.truths]
        )
    score = answers.score
    if query.score is not None and score is not None:
        low, high = query.score
        with np.errstate(invalid="ignore"):
            masks["score"] = (score.numbers >= low) & (score.numbers <= high)
    if query.only == "corrected":
        masks["only"] = answers.no_rows
        masks["only"][list(answers.corrections)] = True
    elif query.only is not None:
        masks["only"] = getattr(answers, query.only)
    return masks


def _all(
    answers: Answers, masks: Mapping[str, NDArray[np.bool_]], without: Sequence[str] = ()
) -> NDArray[np.bool_]:
    kept = [mask for name, mask in masks.items() if name not in without]
    return np.logical_and.reduce(kept) if kept else ~answers.no_rows


def _edges(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of bins: from 0 to 1 for probabilities, else over the scores' range."""
    low, high = float(scores.min()), float(scores.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _confusion(answers: Answers, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    both = rows & (answers.truth_codes >= 0) & (answers.label_codes >= 0)
    shape = (len(answers.true_labels), len(answers.labels))
    cells = answers.truth_codes[both] * shape[1] + answers.label_codes[both]
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

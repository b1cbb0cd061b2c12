"""The rows that a verb answered, as the explorer needs them: roles, filters, order, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nbllm.errors import ProvenanceError, SelectionError
from nbllm.frame.columns import RowPositions, index_labels, is_missing, read_rows
from nbllm.frame.evaluation.truth import given_answers, refuse_unknown, right_answers
from nbllm.frame.new_columns import new_series
from nbllm.frame.running.provenance import find_record, run_ids
from nbllm.widgets.explorer.column import CUT, Column, readable
from nbllm.widgets.explorer.query import Query

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answers"]

_BINS = 20
_WHOLE = 20_000  # characters of the row in focus
_MOST_LABELS = 40  # more different answers than these are no labels
_MOST_COLUMNS = 40
_MOST_RUNS = 1000  # whose records are read, one after the other


class Answers:
    """A frame, what each of its columns is to the run that answered it, and its rows by query.

    Raises FrameError where the truth has not one value a row, and LabelError where it has labels
    that the run does not give.

        Answers(frame, "review_sentiment", truth="label").matching(Query(only="wrong"))
    """

    def __init__(self, frame: Any, output: str, truth: Any = None) -> None:
        read_rows(frame, [])  # refuses names that are there twice, or have several levels
        self.frame = frame
        self.output = output
        self.index: Sequence[Any] = index_labels(frame)
        self._data = nw.from_native(frame, eager_only=True)
        self.columns: dict[str, Column] = {
            column.name: column for column in map(Column, self._data.iter_columns())
        }
        self.records: list[dict[str, Any]] = _records(frame, output)
        self.truth: Column | None = None
        self._right: list[str | None] = []
        if truth is not None:
            self.truth, self._right = self._read_truth(truth)
        self.corrections: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._data)

    @cached_property
    def positions(self) -> RowPositions:
        """Of index labels."""
        return RowPositions(self.frame)

    @property
    def verb(self) -> str:
        """The verb that answered, "" where its run is not on record."""
        return str(self.records[0]["verb"]) if self.records else ""

    @cached_property
    def roles(self) -> dict[str, str]:
        """What each column is to the run, those of the run first; the frame's order otherwise.

        Of "text", "answer", "truth", "score", "error", "probability", "field", "run", "other".
        """
        texts = list(
            dict.fromkeys(name for record in self.records for name in record["columns"].values())
        )
        known = {name: "text" for name in texts}
        known[self.output] = "answer"
        if self.truth is not None and self.truth.name not in known:
            known[self.truth.name] = "truth"
        for part in ("score", "error"):
            known[f"{self.output}_{part}"] = part
        labels = self.choices
        for name in self.columns:
            if name.startswith(f"{self.output}_") and name not in known:
                part = name.removeprefix(f"{self.output}_")
                known[name] = (
                    "run" if part == "run" else "probability" if part in labels else "field"
                )
        rest = {name: "other" for name in self.columns if name not in known}
        runs = {name: role for name, role in known.items() if role == "run"}
        first = {name: role for name, role in known.items() if role != "run"}
        return {name: role for name, role in (first | rest | runs).items() if name in self.columns}

    @cached_property
    def score(self) -> Column | None:
        """The column of the scores; the answers, where these are numbers themselves."""
        answer = self.columns[self.output]
        return self.columns.get(f"{self.output}_score", answer if answer.is_number else None)

    @property
    def texts(self) -> list[Column]:
        """The columns that the run read, and what it wrote where that is no label."""
        wanted = {"text"} if self.labels else {"text", "answer"}
        return [self.columns[name] for name, role in self.roles.items() if role in wanted]

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The labels that the run chose one of for each row; none where it wrote a text."""
        asked = [record["parameters"] for record in self.records]
        if not asked or any("labels" not in one or "several" in one for one in asked):
            return ()
        return tuple(dict.fromkeys(label for one in asked for label in one["labels"]))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The choices; where their run is not on record, the few different answers."""
        if self.choices or self.records:
            return self.choices
        found = sorted(value for value in pc.unique(self._given).to_pylist() if value is not None)
        return tuple(found) if len(found) <= _MOST_LABELS else ()

    def answer(self, row: int) -> Any:
        """The answer of a row."""
        return self.columns[self.output].values([row])[0]

    @cached_property
    def true_labels(self) -> tuple[str, ...]:
        """The labels that are true of a row: those of the run first."""
        if not self.labels or self.truth is None:
            return ()
        found = {value for value in pc.unique(self._true).to_pylist() if value is not None}
        others = sorted(found - set(self.labels))
        return (*self.labels, *others) if len(others) <= _MOST_LABELS else ()

    # Which rows

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """Rows that were asked and have no answer, shape (rows,)."""
        error = self.columns.get(f"{self.output}_error")
        if error is not None:
            return ~error.missing
        return self._unanswered & ~self._no_run

    @property
    def unasked(self) -> NDArray[np.bool_]:
        """Rows that were not asked, mostly for want of a text, shape (rows,)."""
        return self._no_run & ~self.failed

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """Rows whose answer is not the right one, where both are known, shape (rows,)."""
        if self.truth is None:
            return self._nothing
        differ = pc.not_equal(self._given, self._true.cast(self._given.type))
        return _flags(differ)

    def check(self, query: Query) -> None:
        """Refuse a query that these rows cannot answer.

        Raises:
            SelectionError: naming what there is.
        """
        for name, there in (("labels", self.labels), ("truths", self.true_labels)):
            unknown = [label for label in getattr(query, name) if label not in there]
            if unknown:
                raise SelectionError(
                    f"{unknown[0]!r} is none of the {name} here: "
                    f"{', '.join(there) or 'there are none'}. Choose one of those."
                )
        if query.sort is not None and query.sort not in self.columns:
            raise SelectionError(
                f"the frame has no column {query.sort!r} to sort by. It has: "
                f"{', '.join(self.columns)}."
            )
        if query.score is not None:
            if self.score is None:
                raise SelectionError("these answers have no score. Set score to None.")
            if not query.score[0] <= query.score[1]:
                raise SelectionError(f"the score range {query.score} ends before it begins.")
        if query.only == "wrong" and self.truth is None:
            raise SelectionError(
                "which rows are wrong is not known. Name the right answers: "
                ".llm.explore(truth='label')."
            )

    def matching(self, query: Query) -> NDArray[np.intp]:
        """The positions of the rows of a query, in its order."""
        rows = np.flatnonzero(self._all(self._masks(query)))
        if query.sort is None:
            return rows[::-1] if query.descending else rows
        column = self.columns[query.sort]
        ranks = column.ranks[rows]
        keys = np.where(
            column.missing[rows], np.iinfo(np.int64).max, -ranks if query.descending else ranks
        )
        return rows[np.argsort(keys, kind="stable")]

    def warm(self) -> None:
        """Rank the columns that rows are mostly sorted by, so that the first sort is fast too."""
        for name, role in self.roles.items():
            if role in ("score", "answer", "truth", "text"):
                _ = self.columns[name].ranks

    def counts(self, query: Query) -> dict[str, Any]:
        """What the charts show: all rows, and those that the rest of the query leaves.

        Each chart leaves its own part of the query out, so that another bar can be chosen.
        """
        masks = self._masks(query)
        found: dict[str, Any] = {}
        if self.labels:
            rest = self._all(masks, without=("labels",))
            found["labels"] = {
                "names": self.labels,
                "all": self._by_label(~self._nothing),
                "shown": self._by_label(rest),
            }
        score = self.score
        known = np.isfinite(score.numbers) if score is not None else self._nothing
        if score is not None and known.any():
            edges = _edges(score.numbers[known])
            rest = self._all(masks, without=("score",)) & known
            found["scores"] = {
                "edges": edges.tolist(),
                "all": np.histogram(score.numbers[known], edges)[0].tolist(),
                "shown": np.histogram(score.numbers[rest], edges)[0].tolist(),
            }
        if self.true_labels:
            rest = self._all(masks, without=("labels", "truths"))
            found["confusion"] = {
                "truths": self.true_labels,
                "answers": self.labels,
                "counts": self._confusion(rest).tolist(),
            }
        return found

    # What is shown of them

    def window(self, rows: Sequence[int]) -> dict[str, Any]:
        """Rows as the table shows them: index, cells by column in the order of `roles`, flags."""
        rows = [int(row) for row in rows]
        return {
            "rows": rows,
            "index": [self.named(row) for row in rows],
            "cells": [self.columns[name].cells(rows) for name in self.shown_columns],
            "corrections": [self.corrections.get(row) for row in rows],
            "wrong": [bool(self.wrong[row]) for row in rows],
            "failed": [bool(self.failed[row]) for row in rows],
        }

    @cached_property
    def shown_columns(self) -> tuple[str, ...]:
        """The columns of the table; those beyond 40 are left to the frame."""
        return tuple(self.roles)[:_MOST_COLUMNS]

    @property
    def index_name(self) -> str:
        """What the rows are named by: the names of the index, "row" where it has none."""
        index = getattr(self.frame, "index", None)
        names = [] if index is None else [str(name) for name in index.names if name is not None]
        return ", ".join(names) or "row"

    def named(self, row: int) -> str:
        """The index label of a row as text."""
        label = self.index[row]
        if isinstance(label, tuple):
            return ", ".join(readable(part) or "" for part in label)
        return readable(None if is_missing(label) else label) or ""

    def whole(self, row: int) -> dict[str, Any]:
        """One row in full: each text, and the probability of each label where it is known."""
        first = {"text": "text", "answer": "answer", "error": "error"}
        if self.labels:
            del first["answer"]
        shown = [
            {"name": name, "role": role, "text": self.columns[name].cells([row], _WHOLE)[0]}
            for name, role in self.roles.items()
            if role in first or (role in ("other", "field") and self._is_long(name, row))
        ]
        return {
            "row": row,
            "index": self.named(row),
            "texts": [field for field in shown if field["text"] is not None],
            "probabilities": self._probabilities(row),
            "answer": readable(self.answer(row)),
            "truth": None if self.truth is None else self.truth.cells([row])[0],
        }

    def _is_long(self, name: str, row: int) -> bool:
        cell = self.columns[name].cells([row], CUT)[0]
        return cell is not None and len(cell) > CUT

    def _probabilities(self, row: int) -> list[tuple[str, float]]:
        names = {label: f"{self.output}_{label}" for label in self.labels}
        if names and all(name in self.columns for name in names.values()):
            values = {label: self.columns[name].values([row])[0] for label, name in names.items()}
        else:
            score, answer = self.score, self.answer(row)
            value = None if score is None else score.values([row])[0]
            if value is None or answer not in names:
                return []
            values = {answer: value}
            if len(names) == 2:
                [other] = [label for label in names if label != answer]
                values[other] = 1 - value
        return [(label, float(value)) for label, value in values.items() if value is not None]

    # Truth

    def _read_truth(self, truth: Any) -> tuple[Column, list[str | None]]:
        """The column of the right answers, or one that only this has, and these as text."""
        right = given_answers(self.frame, truth)
        if self.choices:
            name = f"column {truth!r}" if isinstance(truth, str) else "truth="
            refuse_unknown(right, self.choices, name, self.verb)
        if isinstance(truth, str):
            return self.columns[truth], right
        own = getattr(truth, "name", None)
        if own in self.columns and right_answers(self.frame, own) == right:
            return self.columns[own], right
        free = next(n for n in ("truth", "right answer", "truth given") if n not in self.columns)
        made = Column(new_series(free, right, nw.String, self._data.implementation))
        self.columns[free] = made
        return made, right

    @cached_property
    def _given(self) -> pa.Array:
        """The answers as text."""
        return self.columns[self.output].texts

    @cached_property
    def _true(self) -> pa.Array:
        """The right answers as text; blank ones are none."""
        if self.truth is None:
            return pa.nulls(len(self), pa.string())
        if self.columns[self.output].is_number:  # whose texts are rounded, as those of answers
            return self.truth.texts
        return pa.array([readable(text, None) for text in self._right], pa.string())

    # Criteria

    def _masks(self, query: Query) -> dict[str, NDArray[np.bool_]]:
        """Which rows each part of a query lets through."""
        masks: dict[str, NDArray[np.bool_]] = {}
        if query.text:
            found = [column.holding(query.text) for column in self.texts]
            masks["text"] = np.logical_or.reduce(found) if found else self._nothing
        if query.labels:
            masks["labels"] = np.isin(
                self._label_codes, [self.labels.index(label) for label in query.labels]
            )
        if query.truths:
            masks["truths"] = np.isin(
                self._truth_codes, [self.true_labels.index(label) for label in query.truths]
            )
        score = self.score
        if query.score is not None and score is not None:
            low, high = query.score
            with np.errstate(invalid="ignore"):
                masks["score"] = (score.numbers >= low) & (score.numbers <= high)
        if query.only == "corrected":
            masks["only"] = self._nothing.copy()
            masks["only"][list(self.corrections)] = True
        elif query.only is not None:
            masks["only"] = getattr(self, query.only)
        return masks

    def _all(
        self, masks: Mapping[str, NDArray[np.bool_]], without: Sequence[str] = ()
    ) -> NDArray[np.bool_]:
        kept = [mask for name, mask in masks.items() if name not in without]
        return np.logical_and.reduce(kept) if kept else ~self._nothing

    @property
    def _nothing(self) -> NDArray[np.bool_]:
        return np.zeros(len(self), dtype=np.bool_)

    @cached_property
    def _unanswered(self) -> NDArray[np.bool_]:
        return self.columns[self.output].missing

    @cached_property
    def _no_run(self) -> NDArray[np.bool_]:
        return self.columns[f"{self.output}_run"].missing

    @cached_property
    def _label_codes(self) -> NDArray[np.int64]:
        return _codes(self._given, self.labels)

    @cached_property
    def _truth_codes(self) -> NDArray[np.int64]:
        return _codes(self._true, self.true_labels)

    def counts_of_labels(self) -> dict[str, int]:
        """How many rows have each label."""
        return dict(zip(self.labels, self._by_label(~self._nothing), strict=True))

    def _by_label(self, mask: NDArray[np.bool_]) -> list[int]:
        codes = self._label_codes[mask]
        return [int(n) for n in np.bincount(codes[codes >= 0], minlength=len(self.labels))]

    def _confusion(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        both = mask & (self._truth_codes >= 0) & (self._label_codes >= 0)
        shape = (len(self.true_labels), len(self.labels))
        cells = self._truth_codes[both] * shape[1] + self._label_codes[both]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _edges(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the bins: of probabilities 0 to 1, and else from the least to the greatest."""
    low, high = float(scores.min()), float(scores.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _codes(values: pa.Array, labels: Sequence[str]) -> NDArray[np.int64]:
    """The place of each value among the labels, -1 for none of them."""
    place = pc.index_in(values, value_set=pa.array(labels, values.type))
    return np.asarray(pc.fill_null(place, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _flags(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _records(frame: Any, output: str) -> list[dict[str, Any]]:
    """The records of the runs that answered; fewer where they are not to be found."""
    found = []
    for run in run_ids(frame, f"{output}_run")[:_MOST_RUNS]:
        try:
            found.append(find_record(run, frame))
        except ProvenanceError:
            continue
    return found

"""Access to an answered frame: roles of columns, labels, right answers and failed rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nbllm.errors import ProvenanceError
from nbllm.frame.columns import RowPositions, index_labels, read_rows
from nbllm.frame.evaluation.truth import aligned_answers, refuse_unknown, right_answers
from nbllm.frame.new_columns import new_series
from nbllm.frame.running.provenance import find_record, run_ids
from nbllm.widgets.explorer.column import Column, cell_text
from nbllm.widgets.protocol.explorer import Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answers"]

_MAX_LABELS = 40  # more different answers are not taken for labels
_MAX_RUNS = 1000  # whose records are read, one by one


class Answers:
    """An answered frame with the roles of its columns, the right answers and the corrections.

    Args:
        frame: The answered pandas or polars DataFrame.
        output: The column of the answers.
        truth: The right answers: a column, a Series with the frame's index, or one value per row.

    Raises:
        FrameError: `truth` has not one value per row.
        LabelError: `truth` has labels that the run does not give.

    Example:
        matching(Answers(frame, "review_sentiment", truth="label"), Query(only="wrong"))
    """

    def __init__(self, frame: Any, output: str, truth: Any = None) -> None:
        read_rows(frame, [])  # raises for column names that are duplicated or have several levels
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
        """The row positions by index label."""
        return RowPositions(self.frame)

    @property
    def verb(self) -> str:
        """The verb that answered; "" without a record of its run."""
        return str(self.records[0]["verb"]) if self.records else ""

    @cached_property
    def roles(self) -> dict[str, Role]:
        """The role of each column, the run's columns first."""
        texts = list(
            dict.fromkeys(name for record in self.records for name in record["columns"].values())
        )
        known: dict[str, Role] = {name: "text" for name in texts}
        known[self.output] = "answer"
        if self.truth is not None and self.truth.name not in known:
            known[self.truth.name] = "truth"
        known |= {f"{self.output}_score": "score", f"{self.output}_error": "error"}
        labels = self.choices
        for name in self.columns:
            if name.startswith(f"{self.output}_") and name not in known:
                part = name.removeprefix(f"{self.output}_")
                known[name] = (
                    "run" if part == "run" else "probability" if part in labels else "field"
                )
        rest: dict[str, Role] = {name: "other" for name in self.columns if name not in known}
        runs: dict[str, Role] = {name: role for name, role in known.items() if role == "run"}
        first: dict[str, Role] = {name: role for name, role in known.items() if role != "run"}
        roles: dict[str, Role] = {**first, **rest, **runs}
        return {name: role for name, role in roles.items() if name in self.columns}

    @cached_property
    def score(self) -> Column | None:
        """The column of scores; the answers themselves if they are numbers; else None."""
        answer = self.columns[self.output]
        return self.columns.get(f"{self.output}_score", answer if answer.is_number else None)

    @property
    def texts(self) -> list[Column]:
        """The columns that the run read, and the answers unless they are labels."""
        roles = {"text"} if self.labels else {"text", "answer"}
        return [self.columns[name] for name, role in self.roles.items() if role in roles]

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The labels that the run chose among; none if it chose several per row or wrote text."""
        runs = [record["parameters"] for record in self.records]
        if not runs or any("labels" not in run or "several" in run for run in runs):
            return ()
        return tuple(dict.fromkeys(label for run in runs for label in run["labels"]))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels to filter by: the choices or, without a record, up to 40 different answers."""
        if self.choices or self.records:
            return self.choices
        found = sorted(value for value in pc.unique(self._given).to_pylist() if value is not None)
        return tuple(found) if len(found) <= _MAX_LABELS else ()

    def answer(self, row: int) -> Any:
        """Return the answer of a row, by its position."""
        return self.columns[self.output].values([row])[0]

    @cached_property
    def true_labels(self) -> tuple[str, ...]:
        """The labels among the right answers: those of the run first."""
        if not self.labels or self.truth is None:
            return ()
        found = {value for value in pc.unique(self._true).to_pylist() if value is not None}
        others = sorted(found - set(self.labels))
        return (*self.labels, *others) if len(others) <= _MAX_LABELS else ()

    # Masks of rows

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """The mask of rows that the run could not answer, shape (rows,)."""
        error = self.columns.get(f"{self.output}_error")
        if error is not None:
            return ~error.missing
        return self._unanswered & ~self._no_run

    @property
    def unasked(self) -> NDArray[np.bool_]:
        """The mask of rows that were not run, mostly since they have no text, shape (rows,)."""
        return self._no_run & ~self.failed

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """The mask of rows whose answer differs from a known right answer, shape (rows,)."""
        if self.truth is None:
            return self.no_rows
        differ = pc.not_equal(self._given, self._true.cast(self._given.type))
        return _mask(differ)

    # Truth

    def _read_truth(self, truth: Any) -> tuple[Column, list[str | None]]:
        """Return the column of the right answers, which may be a new one, and its texts."""
        right = aligned_answers(self.frame, truth)
        if self.choices:
            name = f"column {truth!r}" if isinstance(truth, str) else "truth="
            refuse_unknown(right, self.choices, name, self.verb)
        if isinstance(truth, str):
            return self.columns[truth], right
        series_name = getattr(truth, "name", None)
        if series_name in self.columns and right_answers(self.frame, series_name) == right:
            return self.columns[series_name], right
        unused = next(n for n in ("truth", "right answer", "truth given") if n not in self.columns)
        column = Column(new_series(unused, right, nw.String, self._data.implementation))
        self.columns[unused] = column
        return column, right

    @cached_property
    def _given(self) -> pa.Array:
        """The answers as text."""
        return self.columns[self.output].texts

    @cached_property
    def _true(self) -> pa.Array:
        """The right answers as text; null where blank."""
        if self.truth is None:
            return pa.nulls(len(self), pa.string())
        if self.columns[self.output].is_number:  # rounded like the answers
            return self.truth.texts
        return pa.array([cell_text(text, None) for text in self._right], pa.string())

    @property
    def no_rows(self) -> NDArray[np.bool_]:
        """A mask without rows, shape (rows,)."""
        return np.zeros(len(self), dtype=np.bool_)

    @cached_property
    def _unanswered(self) -> NDArray[np.bool_]:
        return self.columns[self.output].missing

    @cached_property
    def _no_run(self) -> NDArray[np.bool_]:
        return self.columns[f"{self.output}_run"].missing

    @cached_property
    def label_codes(self) -> NDArray[np.int64]:
        """The index of each answer in `labels`, -1 for any other answer, shape (rows,)."""
        return _codes(self._given, self.labels)

    @cached_property
    def truth_codes(self) -> NDArray[np.int64]:
        """The index of each right answer in `true_labels`, -1 for any other, shape (rows,)."""
        return _codes(self._true, self.true_labels)

    def label_counts(self, rows: NDArray[np.bool_] | None = None) -> dict[str, int]:
        """Return the number of rows with each label.

        Args:
            rows: The mask of the rows to count, shape (rows,); None for all.
        """
        codes = self.label_codes if rows is None else self.label_codes[rows]
        counts = np.bincount(codes[codes >= 0], minlength=len(self.labels))
        return dict(zip(self.labels, counts.tolist(), strict=True))

    def rank_columns(self) -> None:
        """Rank the columns that rows are usually sorted by, so that the first sort is fast."""
        for name, role in self.roles.items():
            if role in ("score", "answer", "truth", "text"):
                _ = self.columns[name].ranks


def _codes(values: pa.Array, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each value in `labels`, -1 for any other value."""
    codes = pc.index_in(values, value_set=pa.array(labels, values.type))
    return np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _mask(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _records(frame: Any, output: str) -> list[dict[str, Any]]:
    """Return the records of the runs that answered, as far as they are found."""
    found = []
    for run in run_ids(frame, f"{output}_run")[:_MAX_RUNS]:
        try:
            found.append(find_record(run, frame))
        except ProvenanceError:
            continue
    return found

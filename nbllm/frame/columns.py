"""Reads the texts and index labels of a pandas or polars frame."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np

from nbllm.blank import is_blank
from nbllm.checks import near, shown
from nbllm.errors import ColumnError, FrameError
from nbllm.wording import counted, with_article

__all__ = [
    "RowPositions",
    "Rows",
    "cell_text",
    "check_columns",
    "distinct_rows",
    "index_labels",
    "is_missing",
    "read_rows",
    "row_key",
    "row_position",
    "row_text",
    "row_values",
    "shallow_copy",
    "to_narwhals",
]

_EXACT = 2**53  # above it, a float cannot hold a fraction


@dataclass(frozen=True)
class Rows:
    """The distinct texts of a frame, and the text of each row."""

    texts: list[tuple[str, ...]]  # distinct; one string per column
    text_indices: list[int | None]  # per row: the index of its text in `texts`, None without one
    errors: dict[int, str]  # by row position: why its value is not a text

    def first_rows(self) -> dict[int, int]:
        """Return the position of the first row of each text, by text index."""
        return {i: n for n, i in reversed(list(enumerate(self.text_indices))) if i is not None}


def distinct_rows(texts: Sequence[tuple[str, ...] | None]) -> Rows:
    """Return texts, one per row, as `Rows`.

    Args:
        texts: The texts of each row, one string per column; None for a row without text.
    """
    distinct: dict[tuple[str, ...], int] = {}
    indices = [None if text is None else distinct.setdefault(text, len(distinct)) for text in texts]
    return Rows(list(distinct), indices, {})


def read_rows(frame: Any, columns: Sequence[str], *, any_type: bool = False) -> Rows:
    """Return the distinct texts of some columns; a row with a missing or blank value has none.

    Args:
        frame: A pandas or polars DataFrame.
        columns: The names of the columns.
        any_type: Whether to accept values of any type, formatted by `cell_text`. A missing or
            blank value is then an empty text, unless all columns of its row are.

    Raises:
        ColumnError: A column is missing, exists twice, or is not text.
    """
    data = to_narwhals(frame)
    values = [_column_values(data, name, any_type) for name in columns]
    texts: list[tuple[str, ...] | None] = []
    errors = {}
    for row, cells in enumerate(zip(*values, strict=True)):
        odd = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
        if odd is not None:
            errors[row] = f"not a text but a value of type {type(odd).__name__}: {odd!r:.80}"
        texts.append(None if row in errors else _row_texts(cells, any_type))
    return replace(distinct_rows(texts), errors=errors)


def _row_texts(cells: Sequence[str | None], any_type: bool) -> tuple[str, ...] | None:
    """Return a row's texts; None if one is missing or blank, or with `any_type` all of them."""
    texts = tuple("" if cell is None or is_blank(cell) else cell for cell in cells)
    return texts if (any(texts) if any_type else all(texts)) else None


def check_columns(frame: Any, columns: Sequence[str], *, any_type: bool = False) -> None:
    """Raise as `read_rows` would, without reading the rows.

    Args:
        frame: A pandas or polars DataFrame.
        columns: The names of the columns.
        any_type: Whether to accept columns of any type.

    Raises:
        ColumnError: A column is missing, exists twice, or is not text.
    """
    data = to_narwhals(frame)
    for name in columns:
        _check_column(data, name)
        if data[name].dtype != nw.String:  # pandas may hold texts in an object column
            _column_values(data, name, any_type)


def shallow_copy(frame: Any) -> Any:
    """Return a copy that shares the frame's values, but is safe from in-place sorts and drops.

    Args:
        frame: A pandas or polars DataFrame.
    """
    return frame.copy(deep=False) if hasattr(frame, "copy") else frame.clone()


def row_position(frame: Any, row: Any) -> int:
    """Return the position of the row with an index label.

    Args:
        frame: A pandas or polars frame.
        row: The index label in pandas, the position in polars; None for the first row.

    Raises:
        FrameError: No row has this label, or several have.
    """
    return RowPositions(frame).of(row)


class RowPositions:
    """Maps the index labels of a frame to positions, for many lookups.

    Args:
        frame: A pandas or polars frame.
    """

    def __init__(self, frame: Any) -> None:
        self._index = index_labels(frame)

    @cached_property
    def _positions(self) -> dict[Any, int]:
        return {label: n for n, label in enumerate(self._index)}

    @cached_property
    def _repeated(self) -> Counter[Any]:
        """The number of rows per label, for labels of several rows."""
        if len(self._positions) == len(self._index):
            return Counter()
        return Counter({label: n for label, n in Counter(self._index).items() if n > 1})

    def of(self, row: Any) -> int:
        """Return the position of the row with a label, see `row_position`."""
        if not len(self._index):
            raise FrameError("the frame has no rows. Fill it first.")
        if row is None:
            return 0
        try:
            found = self._positions.get(row)
        except TypeError:  # not hashable
            found = None
        if found is None:
            raise FrameError(f"no row is labelled {row!r}. The first is {self._index[0]!r}.")
        if several := self._repeated[row]:
            raise FrameError(
                f"{counted(several, 'row is', 'rows are')} labelled {row!r}. Give each a label of "
                "its own with frame.reset_index(drop=True)."
            )
        return found


def row_values(
    frame: Any, columns: Sequence[str], row: int, *, any_type: bool = False
) -> tuple[str, ...]:
    """Return the texts of one row, as `read_rows` reads them.

    Args:
        frame: A pandas or polars frame.
        columns: The names of the columns.
        row: The position of the row.
        any_type: Whether to accept values of any type, see `read_rows`.

    Raises:
        ColumnError: A column is missing.
        FrameError: One of the texts is missing or blank; with `any_type`, all of them.
    """
    data = to_narwhals(frame)
    cells: list[str | None] = []
    for name in columns:
        _check_column(data, name)
        value = data[name][[row]].to_list()[0]
        cells.append(None if is_missing(value) else cell_text(value))
    texts = _row_texts(cells, any_type)
    if texts is None:
        lacking = [
            repr(name)
            for name, cell in zip(columns, cells, strict=True)
            if cell is None or is_blank(cell)
        ]
        raise FrameError(
            f"row {row} has no text in {' or '.join(lacking)}. Choose a row that has one."
        )
    return texts


def row_key(texts: Sequence[str]) -> str:
    """Return a hash of a row's texts, the key of its answer in the ledger."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def index_labels(frame: Any) -> Sequence[Any]:
    """Return the index labels of a frame as plain Python values; the positions in polars."""
    index = getattr(frame, "index", None)
    return range(len(frame)) if index is None else list(index.tolist())


def to_narwhals(frame: Any) -> nw.DataFrame[Any]:
    """Return a pandas or polars DataFrame as one of narwhals.

    Raises:
        ColumnError: The names of its columns have several levels, or are not unique.
        FrameError: It is not a DataFrame of pandas or polars.
    """
    levels = getattr(getattr(frame, "columns", None), "nlevels", 1)
    if levels > 1:
        raise ColumnError(
            f"the names of the frame's columns have {counted(levels, 'level')}, and those of the "
            "answer have one. Join them first: frame.columns = ['_'.join(map(str, c)) for c in "
            "frame.columns]."
        )
    try:
        return nw.from_native(frame, eager_only=True)
    except TypeError as error:
        raise FrameError(
            f"the frame is {with_article(type(frame).__name__)}. Pass a DataFrame of pandas or of "
            "polars; collect() one that is lazy first."
        ) from error
    except nw.exceptions.DuplicateError as error:
        raise ColumnError(
            "two columns of the frame have the same name. Rename one; "
            "frame.columns[frame.columns.duplicated()] shows them."
        ) from error


def _check_column(data: nw.DataFrame[Any], name: str) -> None:
    by_strings = (
        "Name columns by strings, for instance with frame.columns = frame.columns.map(str) in "
        "pandas."
    )
    if not isinstance(name, str):
        raise ColumnError(f"the column is called {shown(name)}, which is no string. {by_strings}")
    if name in data.columns:
        return
    called = next((column for column in data.columns if str(column) == name), None)
    if called is not None:
        raise ColumnError(
            f"the frame has no column {name!r}: what is written so is {called!r}, "
            f"{with_article(type(called).__name__)} and no string. {by_strings}"
        )
    names = [str(column) for column in data.columns]
    # JSON in a prompt's template looks like the name of a column.
    braces = (
        " In a prompt, a brace itself is written {{ or }}." if set(name) & set("\"':\n") else ""
    )
    raise ColumnError(
        f"the frame has no column {name!r}. {near(name, names)}It has: {', '.join(names)}.{braces}"
    )


def _column_values(data: nw.DataFrame[Any], name: str, any_type: bool) -> list[Any]:
    _check_column(data, name)
    column = data[name]
    dtype = column.dtype
    values = [None if is_missing(value) else value for value in column.to_list()]
    if any_type:
        return [value if value is None else cell_text(value) for value in values]
    present = [value for value in values if value is not None]
    if present and not any(isinstance(value, str) for value in present):
        raise ColumnError(
            f"column {name!r} is {dtype}, not text. Make it text first, for instance with "
            f"frame[{name!r}].astype(str) in pandas."
        )
    return values


def cell_text(value: Any) -> str:
    """Return a value as text: as `str` formats it, but a whole number without a decimal point.

    pandas turns a column of integers into floats as soon as one value is missing, which must not
    change the texts of the other rows.

    Example:
        >>> cell_text(5.0), cell_text(2.5), cell_text("5.0")
        ('5', '2.5', '5.0')
    """
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < _EXACT else str(value)
    return str(value)


def is_missing(value: Any) -> bool:
    """Return whether a cell's value is None, NaN, NaT or pandas.NA."""
    # NaN and NaT do not equal themselves; pandas.NA has no truth value.
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True
    except ValueError:  # an array in a cell
        return False


def row_text(frame: Any, column: str, row: Any) -> str:
    """Return the text of one row.

    Args:
        frame: A pandas or polars frame.
        column: The column of texts.
        row: The index label of the row (its position in polars); None for the first row.

    Raises:
        ColumnError: The column is missing, or is not text.
        FrameError: There is no such row, or it has no text.
    """
    check_columns(frame, [column])
    [text] = row_values(frame, [column], row_position(frame, row))
    return text

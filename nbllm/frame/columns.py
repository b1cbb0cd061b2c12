"""Rows to texts and answers back to rows, for pandas and polars alike."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    "whole_frame",
    "with_rows_of_now",
]

_EXACT = 2**53  # above it, floats are whole numbers for want of precision


@dataclass(frozen=True)
class Rows:
    """The texts of a frame, each once."""

    texts: list[tuple[str, ...]]  # distinct, one string a column
    position: list[int | None]  # of each row in `texts`; None where there is nothing to ask
    errors: dict[int, str]  # rows whose value is no text


def distinct_rows(texts: Sequence[tuple[str, ...] | None]) -> Rows:
    """Texts, one a row, as `read_rows` has those of a frame; None where a row has none."""
    place: dict[tuple[str, ...], int] = {}
    position = [None if text is None else place.setdefault(text, len(place)) for text in texts]
    return Rows(list(place), position, {})


def read_rows(frame: Any, columns: Sequence[str], *, any_type: bool = False) -> Rows:
    """The distinct texts of some columns; a row with a missing or blank value has none.

    Args:
        frame: a pandas or polars DataFrame.
        columns: names of columns.
        any_type: read them as a template does: numbers and dates too, as `cell_text` writes
            them, and a missing or blank value as an empty text, where another column has one.

    Raises:
        ColumnError: a column is not there, is there twice, or is not text.
    """
    data = whole_frame(frame)
    values = [_column_values(data, name, any_type) for name in columns]
    distinct: dict[tuple[str, ...], int] = {}
    position: list[int | None] = []
    errors = {}
    for row, cells in enumerate(zip(*values, strict=True)):
        odd = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
        if odd is not None:
            errors[row] = f"not a text but a value of type {type(odd).__name__}: {odd!r:.80}"
            position.append(None)
        elif (texts := _filled(cells, any_type)) is None:
            position.append(None)
        else:
            position.append(distinct.setdefault(texts, len(distinct)))
    return Rows(list(distinct), position, errors)


def _filled(cells: Sequence[str | None], any_type: bool) -> tuple[str, ...] | None:
    """The texts of a row's cells; None where it lacks one, or with `any_type` all of them."""
    texts = tuple("" if cell is None or is_blank(cell) else cell for cell in cells)
    return texts if (any(texts) if any_type else all(texts)) else None


def check_columns(frame: Any, columns: Sequence[str], *, any_type: bool = False) -> None:
    """Refuse what `read_rows` would, without reading the rows.

    Raises:
        ColumnError: a column is not there, is there twice, or is not text.
    """
    data = whole_frame(frame)
    for name in columns:
        _check_column(data, name)
        if data[name].dtype != nw.String:  # whose kind only its values tell
            _column_values(data, name, any_type)


def with_rows_of_now(frame: Any) -> Any:
    """The same frame, whose rows stay when those of the given one are sorted or dropped in place.

    Args:
        frame: a pandas or polars DataFrame, whose values are not copied.
    """
    return frame.copy(deep=False) if hasattr(frame, "copy") else frame.clone()


def row_position(frame: Any, row: Any) -> int:
    """The position of an index label in pandas, or a position itself in polars.

    Args:
        frame: a pandas or polars frame.
        row: the label; None is the first row.

    Raises:
        FrameError: no such row, or several.
    """
    return RowPositions(frame).of(row)


class RowPositions:
    """The positions of a frame's index labels, for who asks for many."""

    def __init__(self, frame: Any) -> None:
        self._index = index_labels(frame)

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {label: n for n, label in enumerate(self._index)}

    @cached_property
    def _repeated(self) -> Counter[Any]:
        """How many rows have each label that several have."""
        if len(self._places) == len(self._index):
            return Counter()
        return Counter({label: n for label, n in Counter(self._index).items() if n > 1})

    def of(self, row: Any) -> int:
        """As `row_position`."""
        if not len(self._index):
            raise FrameError("the frame has no rows. Fill it first.")
        if row is None:
            return 0
        try:
            found = self._places.get(row)
        except TypeError:  # it cannot be a label
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
    """The texts of one row, by its position, as `read_rows` would read them.

    Args:
        frame: a pandas or polars frame.
        columns: their names.
        row: its position.
        any_type: as for `read_rows`.

    Raises:
        ColumnError: a column is not there.
        FrameError: one of them is missing or blank; with `any_type`, all of them.
    """
    data = whole_frame(frame)
    cells: list[str | None] = []
    for name in columns:
        _check_column(data, name)
        value = data[name][[row]].to_list()[0]
        cells.append(None if is_missing(value) else cell_text(value))
    texts = _filled(cells, any_type)
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
    """What a row's answer is filed under: a hash of its texts."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def index_labels(frame: Any) -> Sequence[Any]:
    """The index labels of a frame as plain Python values; the positions in polars."""
    index = getattr(frame, "index", None)
    return range(len(frame)) if index is None else list(index.tolist())


def whole_frame(frame: Any) -> nw.DataFrame[Any]:
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
    # What stands in the braces of a prompt, and may be no name at all.
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
    """A value as text: as `str` writes it, but a whole number without a point.

    A column of integers becomes one of floats in pandas once a row has none, and what the other
    rows say does not change by that.

    Example:
        >>> cell_text(5.0), cell_text(2.5), cell_text("5.0")
        ('5', '2.5', '5.0')
    """
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < _EXACT else str(value)
    return str(value)


def is_missing(value: Any) -> bool:
    """Whether a frame has no value in a cell, whatever it writes there."""
    # NaN, NaT and pandas.NA are the values that do not equal themselves, or will not say.
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True
    except ValueError:  # an array in a cell
        return False


def row_text(frame: Any, column: str, row: Any) -> str:
    """The text of one row.

    Args:
        frame: a pandas or polars frame.
        column: the column of texts.
        row: its label in the index (position in polars); by default the first.

    Raises:
        ColumnError: the column is not there, or no text.
        FrameError: no such row, or it has no text.
    """
    read_rows(frame, [column])  # refuses what is no column of texts
    [text] = row_values(frame, [column], row_position(frame, row))
    return text

"""Answers into columns: which names are free, and how each library holds the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from nbllm.errors import ColumnError
from nbllm.frame.columns import whole_frame

__all__ = ["new_series", "refuse_taken", "take_rows", "vector_column", "write_columns"]


def refuse_taken(frame: Any, names: Sequence[str], *, ours: str) -> None:
    """Refuse to overwrite what nbllm did not write.

    Args:
        frame: the frame that they would be added to.
        names: the columns to be added.
        ours: a column that, where the frame has it, tells that an earlier run of nbllm wrote
            these columns, so that they may be replaced.

    Raises:
        ColumnError: the frame has such a column.
    """
    taken = [name for name in names if name in frame.columns]
    if taken and ours not in frame.columns:
        raise ColumnError(
            f"the frame already has a column {taken[0]!r}. Rename it, or name the answer's "
            "columns with into=."
        )


def write_columns(
    frame: Any,
    columns: Mapping[str, tuple[Sequence[Any], Any]],
    outdated: Iterable[str] = (),
) -> Any:
    """A new frame with these columns behind its own; order, index and attrs as they were.

    Args:
        frame: a pandas or polars DataFrame, left as it is.
        columns: name to (values, narwhals dtype); those that the frame has are replaced.
        outdated: columns that are left out, where the frame has them.
    """
    data = whole_frame(frame)
    series = []
    for name, (values, dtype) in columns.items():
        plain = nw.String if dtype == nw.Categorical else dtype
        column = new_series(name, values, plain, data.implementation)
        series.append(column.cast(dtype) if dtype == nw.Categorical else column)
    taken = [name for name in data.columns if name in {*columns, *outdated}]
    answered = data.drop(taken).with_columns(*series).to_native()
    if hasattr(frame, "attrs"):
        answered.attrs = dict(frame.attrs)
    return answered


def new_series(name: str, values: Sequence[Any], dtype: Any, implementation: Any) -> nw.Series[Any]:
    """A column of pandas or polars that holds what it is given, also where Arrow would not.

    Args:
        name: of the column.
        values: one a row; None where there is none.
        dtype: of narwhals.
        implementation: that of the frame it is for.
    """
    storable = dtype != nw.String or all(map(_is_storable, values))
    if implementation.is_pandas() and (not storable or dtype in (nw.Int64, nw.Boolean)):
        import pandas

        # numpy's integers and truth values, which narwhals would take here, have no null.
        kind = "Int64" if dtype == nw.Int64 else "boolean" if dtype == nw.Boolean else object
        made = pandas.Series(list(values), name=name, dtype=kind)
        return nw.from_native(made, series_only=True)
    if not storable:
        values = [value if _is_storable(value) else _stored(value) for value in values]
    return nw.new_series(name, list(values), dtype, backend=implementation)


def _is_storable(value: Any) -> bool:
    """Whether a column of text holds a value; a surrogate without its other half has no UTF-8."""
    if not isinstance(value, str):
        return value is None
    return value.isascii() or _stored(value) == value


def _stored(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def take_rows(
    frame: Any,
    rows: Sequence[int],
    columns: Mapping[str, tuple[list[Any], Any]],
    *,
    drop: Sequence[str],
) -> Any:
    """These rows of a frame, in this order, with more columns.

    Args:
        frame: a pandas or polars frame.
        rows: positions.
        columns: values and narwhals dtype by name.
        drop: columns that the frame may have and would be out of date.
    """
    data = nw.from_native(frame, eager_only=True).drop(drop, strict=False)
    return write_columns(data[np.array(rows, dtype=int)].to_native(), columns)


def vector_column(frame: Any, vectors: list[Any]) -> tuple[list[Any], Any]:
    """Vectors as a frame holds them, and their narwhals type.

    In pandas an array in each cell: arrow lists it writes into a Parquet file that it cannot
    read (https://github.com/pandas-dev/pandas/issues/57411).

    Args:
        frame: the frame that the column is for.
        vectors: an array a row, or None.
    """
    # Not by a frame of narwhals, which refuses what is said better where the rows are read.
    pandas = nw.get_native_namespace(frame).__name__ == "pandas"
    if pandas:
        return vectors, nw.Object
    return [None if one is None else one.tolist() for one in vectors], nw.List(nw.Float32)

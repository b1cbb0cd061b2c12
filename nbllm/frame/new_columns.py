"""Adds columns to frames: checks their names and builds pandas or polars series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from nbllm.errors import ColumnError
from nbllm.frame.columns import to_narwhals

__all__ = ["new_series", "refuse_taken", "take_rows", "vector_column", "write_columns"]


def refuse_taken(frame: Any, names: Sequence[str], *, marker: str) -> None:
    """Raise if new columns would overwrite columns that nbllm did not write.

    Args:
        frame: The frame to add columns to.
        names: The names of the new columns.
        marker: A column that only nbllm writes. Where the frame has it, an earlier run wrote
            these columns, and they may be replaced.

    Raises:
        ColumnError: The frame already has one of the columns, and lacks the marker.
    """
    taken = [name for name in names if name in frame.columns]
    if taken and marker not in frame.columns:
        raise ColumnError(
            f"the frame already has a column {taken[0]!r}. Rename it, or name the answer's "
            "columns with into=."
        )


def write_columns(
    frame: Any,
    columns: Mapping[str, tuple[Sequence[Any], Any]],
    outdated: Iterable[str] = (),
) -> Any:
    """Return a copy of a frame with columns appended; row order, index and attrs are kept.

    Args:
        frame: A pandas or polars DataFrame, not modified.
        columns: The values and narwhals dtype by column name; existing columns are replaced.
        outdated: The names of columns to drop.
    """
    data = to_narwhals(frame)
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
    """Return a pandas or polars series, also of texts that Arrow cannot store.

    pandas keeps a lone surrogate in an object column; polars gets "?" in its place.

    Args:
        name: The name of the series.
        values: The values, one per row; None for a missing one.
        dtype: The narwhals dtype.
        implementation: The narwhals implementation of the frame that the series is for.
    """
    storable = dtype != nw.String or all(map(_is_storable, values))
    if implementation.is_pandas() and (not storable or dtype in (nw.Int64, nw.Boolean)):
        import pandas

        # narwhals would use numpy's dtypes, which have no null.
        kind = "Int64" if dtype == nw.Int64 else "boolean" if dtype == nw.Boolean else object
        series = pandas.Series(list(values), name=name, dtype=kind)
        return nw.from_native(series, series_only=True)
    if not storable:
        values = [value if _is_storable(value) else _to_utf8(value) for value in values]
    return nw.new_series(name, list(values), dtype, backend=implementation)


def _is_storable(value: Any) -> bool:
    """Return whether a value is None or text that UTF-8 can encode: no lone surrogates."""
    if not isinstance(value, str):
        return value is None
    return value.isascii() or _to_utf8(value) == value


def _to_utf8(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def take_rows(
    frame: Any,
    rows: Sequence[int],
    columns: Mapping[str, tuple[list[Any], Any]],
    *,
    drop: Sequence[str],
) -> Any:
    """Return rows of a frame in the given order, with columns appended.

    Args:
        frame: A pandas or polars frame.
        rows: The positions of the rows.
        columns: The values and narwhals dtype by column name.
        drop: The names of outdated columns to drop, where the frame has them.
    """
    data = nw.from_native(frame, eager_only=True).drop(drop, strict=False)
    return write_columns(data[np.array(rows, dtype=int)].to_native(), columns)


def vector_column(frame: Any, vectors: list[Any]) -> tuple[list[Any], Any]:
    """Return the values and the narwhals dtype of a column of vectors.

    pandas gets one array per cell: it writes Arrow lists into Parquet files that it cannot read
    (https://github.com/pandas-dev/pandas/issues/57411).

    Args:
        frame: The frame that the column is for.
        vectors: One float32 array per row, or None.
    """
    if nw.get_native_namespace(frame).__name__ == "pandas":
        return vectors, nw.Object
    lists = [None if vector is None else vector.tolist() for vector in vectors]
    return lists, nw.List(nw.Float32)

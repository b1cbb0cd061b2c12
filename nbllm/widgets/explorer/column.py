"""One column of a frame: what its cells read, how its rows sort, which of them hold a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nbllm.frame.columns import is_missing

if TYPE_CHECKING:
    import narwhals as nw
    from numpy.typing import NDArray

__all__ = ["CUT", "Column", "readable"]

CUT = 240  # characters of a cell; the whole text is shown of the row in focus
_DIGITS = 4


class Column:
    """A column of any type, by position of its rows; nothing is copied before it is needed."""

    def __init__(self, series: nw.Series[Any]) -> None:
        self.name: str = str(series.name)
        self.is_number: Any = series.dtype.is_numeric()
        self._series = series
        self._holding = lru_cache(4)(self._find)

    def __len__(self) -> int:
        return len(self._series)

    def values(self, rows: Sequence[int]) -> list[Any]:
        """Return the values of rows, None where the frame has nothing."""
        found = self._series[list(rows)].to_list()
        return [None if is_missing(value) else value for value in found]

    def cells(self, rows: Sequence[int], cut: int | None = CUT) -> list[str | None]:
        """Return the values as a reader sees them."""
        return [readable(value, cut) for value in self.values(rows)]

    @cached_property
    def texts(self) -> pa.Array:
        """All values as text, shape (rows,)."""
        if pa.types.is_string(self._arrow.type) or pa.types.is_large_string(self._arrow.type):
            return self._arrow
        return pa.array([readable(v, None) for v in self.values(range(len(self)))], pa.string())

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """A mask of the rows without a value, shape (rows,)."""
        # NaN is a value to Arrow where the frame came from polars.
        found: NDArray[np.bool_] = pc.is_null(self._arrow, nan_is_null=True).to_numpy(
            zero_copy_only=False
        )
        return found

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The values of a column of numbers, NaN where it has nothing, shape (rows,)."""
        found = pc.cast(self._arrow, pa.float64(), safe=False)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The place of each value among the different ones, from 1, shape (rows,)."""
        found: NDArray[np.int64] = (
            pc.rank(self._arrow, sort_keys="ascending", tiebreaker="dense")
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
        )
        return found

    def holding(self, text: str) -> NDArray[np.bool_]:
        """Return a mask of the rows that hold a text, in upper or lower case, shape (rows,)."""
        return self._holding(text)

    def _find(self, text: str) -> NDArray[np.bool_]:
        # A lone surrogate is no UTF-8; the cells have a question mark in its place.
        found = pc.match_substring(self.texts, _storable(text), ignore_case=True)
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=np.bool_)

    @cached_property
    def _arrow(self) -> pa.Array:
        """The column in a type of Arrow's that can be ranked; as text, where it has none."""
        try:
            made: Any = self._series.to_arrow()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            made = None
        if isinstance(made, pa.ChunkedArray):
            made = made.combine_chunks()
        if made is not None and pa.types.is_dictionary(made.type):
            made = made.dictionary_decode()
        if made is None or pa.types.is_nested(made.type) or pa.types.is_null(made.type):
            return pa.array(_texts(self.values(range(len(self)))), pa.string())
        if pa.types.is_string_view(made.type):
            return made.cast(pa.large_string())
        return made


def readable(value: Any, cut: int | None = CUT) -> str | None:
    """Return a value as a reader sees it, cut where it is long; None for a missing one."""
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    text = _storable(str(value)) if cut is None else _storable(str(value)[: cut + 1])
    return text if cut is None or len(text) <= cut else text[:cut] + "…"


def _texts(values: Iterable[Any]) -> list[str | None]:
    return [readable(value, None) for value in values]


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

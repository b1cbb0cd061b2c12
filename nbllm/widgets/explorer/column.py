"""A column of a frame: the text of its cells, their ranks, and a search."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nbllm.frame.columns import is_missing

if TYPE_CHECKING:
    import narwhals as nw
    from numpy.typing import NDArray

__all__ = ["CELL_LENGTH", "Column", "cell_text"]

CELL_LENGTH = 240  # characters of a cell
_DIGITS = 4


class Column:
    """A column of any type, whose rows are addressed by position; conversions are lazy."""

    def __init__(self, series: nw.Series[Any]) -> None:
        self.name: str = str(series.name)
        self.is_number: Any = series.dtype.is_numeric()
        self._series = series
        self._contains = lru_cache(4)(self._find)

    def __len__(self) -> int:
        return len(self._series)

    def values(self, rows: Sequence[int]) -> list[Any]:
        """Return the values at some positions, None for missing ones."""
        found = self._series[list(rows)].to_list()
        return [None if is_missing(value) else value for value in found]

    def cells(self, rows: Sequence[int], cut: int | None = CELL_LENGTH) -> list[str | None]:
        """Return the values at some positions as text.

        Args:
            rows: The positions.
            cut: The number of characters after which a text is cut; None to keep it.
        """
        return [cell_text(value, cut) for value in self.values(rows)]

    @cached_property
    def texts(self) -> pa.Array:
        """All values as text, shape (rows,)."""
        kind = self._arrow.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        return self._arrow if is_text else self._as_text()

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """The mask of rows without a value, shape (rows,)."""
        # Arrow does not take NaN from polars for null.
        found: NDArray[np.bool_] = pc.is_null(self._arrow, nan_is_null=True).to_numpy(
            zero_copy_only=False
        )
        return found

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The values of a numeric column, NaN for missing ones, shape (rows,)."""
        found = pc.cast(self._arrow, pa.float64(), safe=False)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The dense rank of each value, from 1, shape (rows,)."""
        found: NDArray[np.int64] = (
            pc.rank(self._arrow, sort_keys="ascending", tiebreaker="dense")
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
        )
        return found

    def contains(self, text: str) -> NDArray[np.bool_]:
        """Return the mask of rows that contain a text, ignoring case, shape (rows,)."""
        return self._contains(text)

    def _find(self, text: str) -> NDArray[np.bool_]:
        # Arrow requires UTF-8, so a lone surrogate is a question mark here and in the cells.
        found = pc.match_substring(self.texts, _encodable(text), ignore_case=True)
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=np.bool_)

    @cached_property
    def _arrow(self) -> pa.Array:
        """The column as an Arrow array that can be ranked; as text if its type cannot."""
        try:
            array: Any = self._series.to_arrow()
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            array = None
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if array is not None and pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if array is None or pa.types.is_nested(array.type) or pa.types.is_null(array.type):
            return self._as_text()
        if pa.types.is_string_view(array.type):
            return array.cast(pa.large_string())
        return array

    def _as_text(self) -> pa.Array:
        return pa.array(self.cells(range(len(self)), None), pa.string())


def cell_text(value: Any, cut: int | None = CELL_LENGTH) -> str | None:
    """Return a value as text, None for a missing one.

    Args:
        value: The value.
        cut: The number of characters after which the text is cut; None to keep it.
    """
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    text = _encodable(str(value)) if cut is None else _encodable(str(value)[: cut + 1])
    return text if cut is None or len(text) <= cut else text[:cut] + "…"


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

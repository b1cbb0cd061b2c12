"""Pictures smaller than what they show: positions in blocks, and one value for each block.

The largest of a block, not its mean: a single hot key stays as hot as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pooled", "block_edges", "block_extreme", "block_max"]

SHORT_BLOCK = 16  # columns, up to which a step in all blocks is quicker than block after block


def block_edges(count: int, size: int) -> NDArray[np.intp]:
    """Where at most `size` blocks of `count` positions begin, and the end of the last.

    Blocks are as long as each other to one position: block b begins at b · count // size.

    Example:
        >>> block_edges(10, 4).tolist(), block_edges(3, 4).tolist()
        ([0, 2, 5, 7, 10], [0, 1, 2, 3])
    """
    blocks = min(count, size)
    return np.arange(blocks + 1) * count // blocks


def block_max(
    values: NDArray[np.float32], down: NDArray[np.intp], across: NDArray[np.intp]
) -> NDArray[np.float32]:
    """The largest value of each block.

    Args:
        values: (rows, columns).
        down: The rows at which blocks begin, ascending, the first of them 0.
        across: The columns at which blocks begin, likewise.

    Returns:
        float32, (blocks down, blocks across).

    Example:
        >>> block_max(np.eye(4, dtype=np.float32), np.array([0, 2]), np.array([0, 3])).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    return _max_along(_max_along(values, down, axis=0), across, axis=1)


def block_extreme(
    values: NDArray[np.float32], down: NDArray[np.intp], across: NDArray[np.intp]
) -> NDArray[np.float32]:
    """The value of largest magnitude of each block, its sign kept.

    Args and Returns as for `block_max`.

    Example:
        >>> values = np.array([[1, -2], [0, 3]], np.float32)
        >>> block_extreme(values, np.array([0, 1]), np.array([0])).tolist()
        [[-2.0], [3.0]]
    """
    high = block_max(values, down, across)
    if values.min(initial=0) >= 0:
        return high
    low = -block_max(-values, down, across)
    return np.where(high >= -low, high, low)


class Pooled:
    """A pooled picture of a window of rows and columns, filled in one band of rows at a time.

    Args:
        rows: The positions of the window, all of a run.
        columns: Likewise.
        size: The most blocks down, and across.
        empty: What the picture holds where nothing is filled in.
    """

    def __init__(self, rows: range, columns: range, size: int, empty: float) -> None:
        self._rows = rows.start + block_edges(len(rows), size)
        self._lefts = columns.start + block_edges(len(columns), size)[:-1]
        shape = len(self._rows) - 1, len(self._lefts)
        self.picture: NDArray[np.float32] = np.full(shape, empty, np.float32)

    def bands(self, most: int) -> list[range]:
        """Bands of rows, top to bottom: of whole blocks, and of at most `most` rows.

        A block that is longer is a band of its own.
        """
        found, first, last = [], 0, len(self._rows) - 1
        while first < last:
            fitting = np.searchsorted(self._rows, self._rows[first] + most, side="right") - 1
            end = max(first + 1, int(fitting))
            found.append(range(int(self._rows[first]), int(self._rows[end])))
            first = end
        return found

    def fill(self, band: range, keys: range, values: NDArray[np.float32]) -> None:
        """Fill in a band from its values, (rows of the band, keys); other keys stay empty."""
        top, bottom = np.searchsorted(self._rows, (band.start, band.stop))
        left = int(np.searchsorted(self._lefts, keys.start, side="right")) - 1
        right = int(np.searchsorted(self._lefts, keys.stop))
        down = self._rows[top:bottom] - band.start
        across = np.maximum(self._lefts[left:right] - keys.start, 0)
        self.picture[top:bottom, left:right] = block_max(values, down, across)


def _max_along(
    values: NDArray[np.float32], starts: NDArray[np.intp], axis: int
) -> NDArray[np.float32]:
    """As `np.maximum.reduceat`, many times as fast for blocks of a few values."""
    last = np.append(starts[1:], values.shape[axis]) - 1
    longest = int((last - starts).max()) + 1
    if axis == 1 and longest > SHORT_BLOCK:
        found: NDArray[np.float32] = np.maximum.reduceat(values, starts, axis=axis)
        return found
    found = values.take(starts, axis=axis)
    for step in range(1, longest):
        np.maximum(found, values.take(np.minimum(starts + step, last), axis=axis), out=found)
    return found

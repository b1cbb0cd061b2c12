"""Turns weights into a tidy DataFrame: one row for each weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbllm.errors import SelectionError
from nbllm.widgets.attention.sources import AttentionSource, Selection
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["to_frame"]

ROWS_AT_ONCE = 512  # bounds the memory of a long text's head
MOST_ROWS = 20_000_000  # of the table: about 1 GB


def to_frame(
    source: AttentionSource, several: Sequence[Selection], queries: Sequence[int], above: float
) -> pd.DataFrame:
    """Return the weights of some heads as a DataFrame, one row for each weight.

    Weights of a magnitude up to `above` are left out. In the column `head` stands the number of
    a head, or "mean" or "max" where all heads of the layer are combined.

    Returns layer, head, query, key, query_token, key_token, weight (float32), in the order of
    `several`, then by query and key. Raises SelectionError for a table too large for memory.
    """
    import pandas as pd

    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    counts = []
    for selection in several:
        parts = list(_large(source, selection, queries, above))
        counts.append(sum(len(weights) for *_, weights in parts))
        found += parts
        if sum(counts) > MOST_ROWS:
            raise SelectionError(
                f"The table would have more than {counted(MOST_ROWS, 'row')}. Choose fewer heads "
                "or queries, or leave small weights out, as in above=0.01."
            )
    query, key, weight = (np.concatenate(column) for column in zip(*found, strict=True))
    return pd.DataFrame(
        {
            "layer": np.repeat([selection.layer for selection in several], counts),
            "head": np.repeat(
                [
                    selection.head if selection.reduce == "head" else selection.reduce
                    for selection in several
                ],
                counts,
            ),
            "query": query,
            "key": key,
            "query_token": np.array(source.queries.tokens, object)[query],
            "key_token": np.array(source.keys.tokens, object)[key],
            "weight": weight,
        }
    )


def _large(
    source: AttentionSource, selection: Selection, queries: Sequence[int], above: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Query, key and weight of what lies above, some queries at a time."""
    for start in range(0, max(1, len(queries)), ROWS_AT_ONCE):
        rows = queries[start : start + ROWS_AT_ONCE]
        block = source.weights(selection, rows, range(len(source.keys)))
        row, key = np.nonzero(np.abs(block) > above)
        yield np.asarray(rows, int)[row], key, block[row, key]

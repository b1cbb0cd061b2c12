"""Weights of a view as a tidy table: one row for each weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbllm.errors import SelectionError
from nbllm.widgets.attention.sources import Sheet, Shown
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["tidy"]

ROWS_AT_ONCE = 512  # bounds the memory of a long text's head
MOST_ROWS = 20_000_000  # of the table: about 1 GB


def tidy(
    sheet: Sheet, several: Sequence[Shown], queries: Sequence[int], above: float
) -> pd.DataFrame:
    """The weights of some heads as a DataFrame, one row for each weight.

    Weights of a magnitude up to `above` are left out. In the column `head` stands the number of
    a head, or "mean" or "max" where all heads of the layer are combined.

    Returns layer, head, query, key, query_token, key_token, weight (float32), in the order of
    `several`, then by query and key. Raises SelectionError for a table too large for memory.
    """
    import pandas as pd

    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    counts = []
    for shown in several:
        parts = list(_large(sheet, shown, queries, above))
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
            "layer": np.repeat([shown.layer for shown in several], counts),
            "head": np.repeat(
                [shown.head if shown.how == "head" else shown.how for shown in several], counts
            ),
            "query": query,
            "key": key,
            "query_token": np.array(sheet.queries.tokens, object)[query],
            "key_token": np.array(sheet.keys.tokens, object)[key],
            "weight": weight,
        }
    )


def _large(
    sheet: Sheet, shown: Shown, queries: Sequence[int], above: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Query, key and weight of what lies above, some queries at a time."""
    for start in range(0, max(1, len(queries)), ROWS_AT_ONCE):
        rows = queries[start : start + ROWS_AT_ONCE]
        block = sheet.weights(shown, rows, range(len(sheet.keys)))
        row, key = np.nonzero(np.abs(block) > above)
        yield np.asarray(rows, int)[row], key, block[row, key]

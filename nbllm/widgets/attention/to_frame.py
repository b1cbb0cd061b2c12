"""Converts weights to a tidy DataFrame."""

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

ROWS_AT_ONCE = 512  # bounds the memory for a long text
MAX_ROWS = 20_000_000  # about 1 GB


def to_frame(
    source: AttentionSource, selections: Sequence[Selection], queries: Sequence[int], above: float
) -> pd.DataFrame:
    """Return weights as a DataFrame, one row per weight.

    Args:
        source: The source of the weights.
        selections: The selected weights.
        queries: Token positions.
        above: The magnitude up to which weights are left out.

    Returns:
        The columns layer, head (a number, or "mean" or "max" over heads), query, key,
        query_token, key_token and weight (float32), by selection, query and key.

    Raises:
        SelectionError: The table would be too large.
    """
    import pandas as pd

    blocks: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    counts = []
    for selection in selections:
        parts = list(_weights_above(source, selection, queries, above))
        counts.append(sum(len(weights) for *_, weights in parts))
        blocks += parts
        if sum(counts) > MAX_ROWS:
            raise SelectionError(
                f"The table would have more than {counted(MAX_ROWS, 'row')}. Choose fewer heads "
                "or queries, or leave small weights out, as in above=0.01."
            )
    query, key, weight = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return pd.DataFrame(
        {
            "layer": np.repeat([selection.layer for selection in selections], counts),
            "head": np.repeat(
                [
                    selection.head if selection.reduce == "head" else selection.reduce
                    for selection in selections
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


def _weights_above(
    source: AttentionSource, selection: Selection, queries: Sequence[int], above: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield queries, keys and weights above a magnitude, some rows at a time."""
    for start in range(0, max(1, len(queries)), ROWS_AT_ONCE):
        rows = queries[start : start + ROWS_AT_ONCE]
        block = source.weights(selection, rows, range(len(source.keys)))
        row, key = np.nonzero(np.abs(block) > above)
        yield np.asarray(rows, int)[row], key, block[row, key]

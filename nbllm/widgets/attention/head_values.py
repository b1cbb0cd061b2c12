"""Reads measures from a tidy table with one row per head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.errors import SelectionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["head_values", "value_names"]


def value_names(table: Any, layers: Sequence[int], heads: int) -> list[str]:
    """Return the names of the numeric columns of a table of heads.

    Args:
        table: A pandas or polars DataFrame with the columns layer and head.
        layers: The model's numbers of the recorded layers.
        heads: The number of heads per layer.

    Raises:
        SelectionError: The table has no columns layer and head, no numbers, none of the layers,
            more heads, or several rows for one head.

    Example:
        value_names(induction_scores(model), recording.layer_numbers, 9)      # ["induction"]
    """
    import narwhals as nw

    frame = nw.from_native(table, eager_only=True)
    if missing := {"layer", "head"} - {*frame.columns}:
        raise SelectionError(
            f"The table has no column {' and no column '.join(sorted(missing))}. Give one row a "
            "head, with the columns layer and head and those to sort by, as induction_scores does."
        )
    kinds = frame.schema.items()
    names = [name for name, kind in kinds if kind.is_numeric() and name not in ("layer", "head")]
    if not names:
        raise SelectionError(
            "The table has no column of numbers beside layer and head. Add one to sort by."
        )
    layer, head = frame["layer"].to_numpy(), frame["head"].to_numpy()
    if not (np.isin(layer, layers).any() and np.isin(head, range(heads)).all()):
        raise SelectionError(
            f"The table is not of the model shown, which has layers {layers[0]} to {layers[-1]} "
            f"and heads 0 to {heads - 1}. Compute it of the model that was recorded."
        )
    if len({*zip(layer.tolist(), head.tolist(), strict=True)}) < len(frame):
        raise SelectionError(
            "The table has several rows of one head. Average them first, as in "
            'table.groupby(["layer", "head"], as_index=False).mean().'
        )
    return names


def head_values(table: Any, name: str, layers: Sequence[int], heads: int) -> NDArray[np.float32]:
    """Return a column of such a table as a grid, NaN for heads without a row.

    Args:
        table: A table for which `value_names` has the name.
        name: The column.
        layers: The model's numbers of the recorded layers; rows of other layers are ignored.
        heads: The number of heads per layer; rows of further heads are ignored.

    Returns:
        float32, (layers, heads).

    Example:
        head_values(induction_scores(model), "induction", recording.layer_numbers, 9)
    """
    import narwhals as nw

    frame = nw.from_native(table, eager_only=True)
    layer, head, values = (frame[column].to_numpy() for column in ("layer", "head", name))
    here = np.isin(layer, layers) & np.isin(head, range(heads))
    places = {number: place for place, number in enumerate(layers)}
    grid = np.full((len(layers), heads), np.nan, np.float32)
    grid[[places[number] for number in layer[here].tolist()], head[here].astype(int)] = values[here]
    return grid

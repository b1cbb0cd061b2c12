"""A tidy table of numbers, one row a head, as a grid of layers and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.errors import SelectionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["head_values", "value_names"]


def value_names(table: Any, layers: Sequence[int], heads: int) -> list[str]:
    """The columns of a pandas or polars DataFrame that hold a number of each head.

    `layers` are the model's numbers of the layers that are shown, `heads` how many each has.

    Raises SelectionError for a table without the columns layer and head or without numbers, of
    another model (with none of the layers, or more heads), and with two rows of one head.

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
    """A column of such a table, (layers, heads): missing where it has no row of a head.

    Rows of other layers and heads are left out.

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

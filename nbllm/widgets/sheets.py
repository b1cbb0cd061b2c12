"""What the attention viewer lays out: a recording, or what differs between two of them.

A sheet gives weights for any rows and columns of what is on screen: one head, or the mean or
largest over the heads of a layer; with its sink, or with the sink masked out and what is left
of each row made whole again. Both kinds of sheet answer the same questions, so that whoever
asks need not know which one it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from nbllm.attention.recording.recording import Recording, TokenRow
from nbllm.attention.views.colour_levels import full_colour
from nbllm.attention.views.overview import Overview, survey
from nbllm.attention.views.pooling import block_edges, block_extreme
from nbllm.attention.views.tiles import combined, pooled
from nbllm.errors import SelectionError, UnsupportedModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DifferenceSheet",
    "How",
    "RecordingSheet",
    "Sheet",
    "Shown",
    "largest",
    "picture",
    "shrunk",
]

How = Literal["head", "mean", "max"]

CELLS_AT_ONCE = 4_000_000  # bounds the memory of pooling a long text
CELLS_A_PICTURE = 100_000_000  # beyond it, one row stands for each row of pixels


@dataclass(frozen=True)
class Shown:
    """Which weights of a sheet are on screen."""

    layer: int
    head: int
    how: How = "head"  # one head, or the mean or largest over the heads of the layer
    mask_sink: bool = False


class Sheet(Protocol):
    """One attention matrix for each layer and head."""

    queries: TokenRow
    keys: TokenRow
    causal: bool
    layer_numbers: tuple[int, ...]
    heads: int
    sink: int | None  # the key that takes weight whatever the text says
    signed: bool  # weights may be below zero

    def weights(
        self, shown: Shown, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        """What is on screen, (rows, columns)."""
        ...

    def pooled(self, shown: Shown, rows: range, columns: range, size: int) -> NDArray[np.float32]:
        """The same, pooled to at most size a side: a single hot key stays hot."""
        ...

    def sink_mass(self, shown: Shown, rows: Sequence[int]) -> NDArray[np.float32]:
        """The weight that rests on the sink, masked or not, (rows,)."""
        ...


class RecordingSheet:
    """The weights of one recording."""

    signed = False

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.overview: Overview = survey(recording)
        self.queries: TokenRow = recording.queries
        self.keys: TokenRow = recording.keys
        self.causal: bool = recording.causal
        self.layer_numbers: tuple[int, ...] = recording.layer_numbers
        self.heads: int = recording.heads
        self.sink: int | None = self.overview.sink

    def weights(
        self, shown: Shown, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        heads = self._heads(shown)
        total = self._head(shown, heads[0], rows, columns)
        for head in heads[1:]:
            more = self._head(shown, head, rows, columns)
            total = np.maximum(total, more) if shown.how == "max" else total + more
        return total / np.float32(len(heads)) if shown.how == "mean" else total

    def pooled(self, shown: Shown, rows: range, columns: range, size: int) -> NDArray[np.float32]:
        window = {"rows": (rows.start, rows.stop), "columns": (columns.start, columns.stop)}
        masked = self.sink if shown.mask_sink else None
        if shown.how == "head":
            return pooled(
                self.recording, shown.layer, shown.head, masked=masked, side=size, **window
            )
        return combined(self.recording, shown.layer, shown.how, masked=masked, side=size, **window)

    def sink_mass(self, shown: Shown, rows: Sequence[int]) -> NDArray[np.float32]:
        if self.sink is None:
            return np.zeros(len(rows), np.float32)
        masses = [self._on_sink(shown.layer, head, rows)[:, 0] for head in self._heads(shown)]
        mass: NDArray[np.float32] = np.stack(masses).mean(0)
        return mass

    def _heads(self, shown: Shown) -> Sequence[int]:
        return [shown.head] if shown.how == "head" else range(self.heads)

    def _head(
        self, shown: Shown, head: int, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        masked = self.sink if shown.mask_sink else None
        return self.recording.weights(
            shown.layer, head, _slice(rows), _slice(columns), masked=masked
        )

    def _on_sink(self, layer: int, head: int, rows: Sequence[int]) -> NDArray[np.float32]:
        assert self.sink is not None
        return self.recording.weights(layer, head, _slice(rows), [self.sink])


class DifferenceSheet:
    """What changes from one recording to another, over the tokens that both have.

    Weights are those of the second less those of the first. Tokens are matched by their ids,
    in order, as a diff matches lines.
    """

    signed = True

    def __init__(self, first: RecordingSheet, second: RecordingSheet) -> None:
        self._first, self._second = first, second
        a, b = first.recording, second.recording
        self.layer_numbers: tuple[int, ...] = tuple(sorted({*a.layer_numbers} & {*b.layer_numbers}))
        if not self.layer_numbers:
            raise SelectionError(
                "The two recordings have no layer in common, so there is no difference to show. "
                "Record the same layers of both."
            )
        self.heads: int = min(a.heads, b.heads)
        self.causal: bool = a.causal
        self._rows = matched(a.queries, b.queries)
        self._columns = self._rows if a.queries is a.keys else matched(a.keys, b.keys)
        self.queries: TokenRow = _chosen(a.queries, self._rows[0])
        self.keys: TokenRow = (
            self.queries if a.queries is a.keys else _chosen(a.keys, self._columns[0])
        )
        places = self._columns[0]
        self.sink: int | None = places.index(first.sink) if first.sink in places else None

    @property
    def places(self) -> tuple[list[int], list[int]]:
        """Where its rows lie in the first and in the second recording."""
        return self._rows

    @property
    def key_places(self) -> tuple[list[int], list[int]] | None:
        """Where its columns lie in both; None where they are its rows."""
        return None if self.queries is self.keys else self._columns

    def weights(
        self, shown: Shown, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        before, after = (
            sheet.weights(shown, [theirs[row] for row in rows], [keys[key] for key in columns])
            for sheet, theirs, keys in zip(
                (self._first, self._second), self._rows, self._columns, strict=True
            )
        )
        return after - before

    def pooled(self, shown: Shown, rows: range, columns: range, size: int) -> NDArray[np.float32]:
        edges = block_edges(len(rows), size)
        across = block_edges(len(columns), size)[:-1]
        step = max(1, CELLS_AT_ONCE * (len(edges) - 1) // (len(rows) * len(columns)))
        bands = []
        for top in range(0, len(edges) - 1, step):
            here = edges[top : top + step + 1]
            weights = self.weights(shown, rows[here[0] : here[-1]], columns)
            bands.append(block_extreme(weights, here[:-1] - here[0], across))
        return np.concatenate(bands)

    def sink_mass(self, shown: Shown, rows: Sequence[int]) -> NDArray[np.float32]:
        before, after = (
            sheet.sink_mass(shown, [theirs[row] for row in rows])
            for sheet, theirs in zip((self._first, self._second), self._rows, strict=True)
        )
        return after - before


def matched(first: TokenRow, second: TokenRow) -> tuple[list[int], list[int]]:
    """Where the tokens lie that two texts have in common: places in each, both ascending.

    Raises UnsupportedModelError if the tokens are not of one tokenizer, or none is shared.
    """
    same_text = first.text == second.text and first.ids != second.ids
    pieces = _pieces(first)
    other = {token: piece for token, piece in _pieces(second).items() if token in pieces}
    if same_text or any(pieces[token] != piece for token, piece in other.items()):
        raise UnsupportedModelError(
            "The two recordings are cut into tokens by different tokenizers, so their weights "
            "cannot be set side by side. Compare models that share a tokenizer, or two texts "
            "through one model."
        )
    if first.ids == second.ids:
        return [*range(len(first))], [*range(len(second))]
    blocks = SequenceMatcher(None, first.ids, second.ids, autojunk=False).get_matching_blocks()
    left = [block.a + step for block in blocks for step in range(block.size)]
    right = [block.b + step for block in blocks for step in range(block.size)]
    if not left:
        raise UnsupportedModelError(
            "The two recordings have no token in common, so there is nothing to compare. "
            "Record texts that share some of their words."
        )
    return left, right


def _pieces(row: TokenRow) -> dict[int, str]:
    """The text of each token id, without those that hold only part of a character."""
    ends = [0, *(stop for _, stop in row.spans)]
    starts = [*(start for start, _ in row.spans), len(row.text)]
    return {
        token: row.tokens[place].strip()
        for place, token in enumerate(row.ids)
        if row.spans[place][0] >= ends[place] and row.spans[place][1] <= starts[place + 1]
    }


def _chosen(row: TokenRow, places: list[int]) -> TokenRow:
    return TokenRow(
        text=row.text,
        ids=tuple(row.ids[place] for place in places),
        tokens=tuple(row.tokens[place] for place in places),
        spans=tuple(row.spans[place] for place in places),
        special=tuple(row.special[place] for place in places),
    )


def picture(
    sheet: Sheet, shown: Shown, rows: range, columns: range, size: int
) -> tuple[NDArray[np.float32], bool]:
    """What is on screen, pooled to at most size a side, and whether its rows are a sample.

    Over all heads of a long text, one row stands for each row of pixels.
    """
    chosen = _sample(sheet, shown, rows, columns, size)
    if chosen is None:
        return sheet.pooled(shown, rows, columns, size), False
    across = block_edges(len(columns), size)[:-1]
    step = max(1, CELLS_AT_ONCE // len(columns))
    bands = [chosen[top : top + step] for top in range(0, len(chosen), step)]
    return np.concatenate(
        [
            block_extreme(sheet.weights(shown, band, columns), np.arange(len(band)), across)
            for band in bands
        ]
    ), True


def largest(sheet: Sheet, shown: Shown, whole: NDArray[np.float32]) -> float:
    """The largest weight of a head outside of its sink, which gets full colour.

    Args:
        whole: its `picture`, of all rows and columns.
    """
    if sheet.sink is None:
        return full_colour(whole, None)
    queries, keys = range(len(sheet.queries)), range(len(sheet.keys))
    edges = block_edges(len(keys), whole.shape[1])
    block = int(np.searchsorted(edges, sheet.sink, side="right")) - 1
    found = np.delete(whole, block, axis=1)
    # Those keys share their pixels with the sink.
    beside = [key for key in range(edges[block], edges[block + 1]) if key != sheet.sink]
    if beside:
        rows = _sample(sheet, shown, queries, keys, len(whole)) or queries
        found = np.append(found, sheet.weights(shown, rows, beside))
    return full_colour(found.reshape(1, -1), None)


def _sample(sheet: Sheet, shown: Shown, rows: range, columns: range, size: int) -> list[int] | None:
    """The rows that a picture of these is made from, where they are too many; else None."""
    heads = 1 if shown.how == "head" else sheet.heads
    if heads * len(rows) * len(columns) <= CELLS_A_PICTURE:
        return None
    return [rows[edge] for edge in block_edges(len(rows), size)[:-1]]


def shrunk(weights: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A picture pooled once more, to at most size a side."""
    down, across = (block_edges(count, size)[:-1] for count in weights.shape)
    return block_extreme(weights, down, across)


def _slice(places: Sequence[int]) -> Sequence[int] | slice:
    """A run of positions as a slice, which is not checked one by one."""
    if isinstance(places, range) and places.step == 1 and places.start >= 0:
        return slice(places.start, places.stop)
    return places

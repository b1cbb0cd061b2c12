"""The sources of the attention viewer's weights: a recording, or the difference of two.

A source returns weights for any rows and columns of a selection: one head, or the mean or largest
over the heads of a layer, optionally with the sink masked and each row renormalized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nbllm.attention.recording.recording import Recording, TokenRow
from nbllm.attention.views.colour_levels import full_colour
from nbllm.attention.views.overview import Overview, survey
from nbllm.attention.views.pooling import block_edges, block_extreme
from nbllm.attention.views.tiles import combined, pooled
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.widgets.protocol.attention import Reduce

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AttentionSource",
    "DifferenceSource",
    "RecordingSource",
    "Selection",
    "largest_weight",
    "picture",
    "shrink",
]

CELLS_AT_ONCE = 4_000_000  # bounds the memory of pooling a long text
CELLS_PER_PICTURE = 100_000_000  # beyond, rows are sampled: one per row of pixels


@dataclass(frozen=True)
class Selection:
    """The selected weights of a source."""

    layer: int
    head: int
    reduce: Reduce = "head"  # one head, or the mean or largest over the heads of the layer
    mask_sink: bool = False


class AttentionSource(Protocol):
    """The attention matrices of all layers and heads."""

    queries: TokenRow
    keys: TokenRow
    causal: bool
    layer_numbers: tuple[int, ...]
    heads: int
    sink: int | None  # the key that takes much weight whatever the text is
    signed: bool  # weights may be negative

    def weights(
        self, selection: Selection, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return the selected weights, (rows, columns)."""
        ...

    def pooled(
        self, selection: Selection, rows: range, columns: range, size: int
    ) -> NDArray[np.float32]:
        """Return the weights of largest magnitude per block, at most size blocks per side."""
        ...

    def sink_mass(self, selection: Selection, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the weight on the sink, masked or not, (rows,)."""
        ...


class RecordingSource:
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
        self, selection: Selection, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        heads = self._heads(selection)
        total = self._head(selection, heads[0], rows, columns)
        for head in heads[1:]:
            more = self._head(selection, head, rows, columns)
            total = np.maximum(total, more) if selection.reduce == "max" else total + more
        return total / np.float32(len(heads)) if selection.reduce == "mean" else total

    def pooled(
        self, selection: Selection, rows: range, columns: range, size: int
    ) -> NDArray[np.float32]:
        window = {"rows": (rows.start, rows.stop), "columns": (columns.start, columns.stop)}
        masked = self.sink if selection.mask_sink else None
        if selection.reduce == "head":
            return pooled(
                self.recording, selection.layer, selection.head, masked=masked, side=size, **window
            )
        return combined(
            self.recording, selection.layer, selection.reduce, masked=masked, side=size, **window
        )

    def sink_mass(self, selection: Selection, rows: Sequence[int]) -> NDArray[np.float32]:
        if self.sink is None:
            return np.zeros(len(rows), np.float32)
        masses = [
            self._on_sink(selection.layer, head, rows)[:, 0] for head in self._heads(selection)
        ]
        mass: NDArray[np.float32] = np.stack(masses).mean(0)
        return mass

    def _heads(self, selection: Selection) -> Sequence[int]:
        return [selection.head] if selection.reduce == "head" else range(self.heads)

    def _head(
        self, selection: Selection, head: int, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        masked = self.sink if selection.mask_sink else None
        return self.recording.weights(
            selection.layer, head, _slice(rows), _slice(columns), masked=masked
        )

    def _on_sink(self, layer: int, head: int, rows: Sequence[int]) -> NDArray[np.float32]:
        assert self.sink is not None
        return self.recording.weights(layer, head, _slice(rows), [self.sink])


class DifferenceSource:
    """The weights of a second recording less those of a first, over their common tokens.

    Tokens are matched by their ids, as a diff matches lines.
    """

    signed = True

    def __init__(self, first: RecordingSource, second: RecordingSource) -> None:
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
        self._rows = match_tokens(a.queries, b.queries)
        self._columns = self._rows if a.queries is a.keys else match_tokens(a.keys, b.keys)
        self.queries: TokenRow = _token_subset(a.queries, self._rows[0])
        self.keys: TokenRow = (
            self.queries if a.queries is a.keys else _token_subset(a.keys, self._columns[0])
        )
        places = self._columns[0]
        self.sink: int | None = places.index(first.sink) if first.sink in places else None

    @property
    def places(self) -> tuple[list[int], list[int]]:
        """The positions of its rows in the first and in the second recording."""
        return self._rows

    @property
    def key_places(self) -> tuple[list[int], list[int]] | None:
        """The positions of its columns in both; None if they are its rows."""
        return None if self.queries is self.keys else self._columns

    def weights(
        self, selection: Selection, rows: Sequence[int], columns: Sequence[int]
    ) -> NDArray[np.float32]:
        before, after = (
            source.weights(
                selection, [queries[row] for row in rows], [keys[key] for key in columns]
            )
            for source, queries, keys in zip(
                (self._first, self._second), self._rows, self._columns, strict=True
            )
        )
        return after - before

    def pooled(
        self, selection: Selection, rows: range, columns: range, size: int
    ) -> NDArray[np.float32]:
        edges = block_edges(len(rows), size)
        across = block_edges(len(columns), size)[:-1]
        step = max(1, CELLS_AT_ONCE * (len(edges) - 1) // (len(rows) * len(columns)))
        bands = []
        for top in range(0, len(edges) - 1, step):
            here = edges[top : top + step + 1]
            weights = self.weights(selection, rows[here[0] : here[-1]], columns)
            bands.append(block_extreme(weights, here[:-1] - here[0], across))
        return np.concatenate(bands)

    def sink_mass(self, selection: Selection, rows: Sequence[int]) -> NDArray[np.float32]:
        before, after = (
            source.sink_mass(selection, [queries[row] for row in rows])
            for source, queries in zip((self._first, self._second), self._rows, strict=True)
        )
        return after - before


def match_tokens(first: TokenRow, second: TokenRow) -> tuple[list[int], list[int]]:
    """Return the positions of the common tokens of two texts in each of them, ascending.

    Args:
        first: The tokens of the first text.
        second: The tokens of the second text.

    Raises:
        UnsupportedModelError: The texts have different tokenizers, or no token in common.
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
    """Return the text of each token id, without those of incomplete characters."""
    ends = [0, *(stop for _, stop in row.spans)]
    starts = [*(start for start, _ in row.spans), len(row.text)]
    return {
        token: row.tokens[place].strip()
        for place, token in enumerate(row.ids)
        if row.spans[place][0] >= ends[place] and row.spans[place][1] <= starts[place + 1]
    }


def _token_subset(row: TokenRow, places: list[int]) -> TokenRow:
    return TokenRow(
        text=row.text,
        ids=tuple(row.ids[place] for place in places),
        tokens=tuple(row.tokens[place] for place in places),
        spans=tuple(row.spans[place] for place in places),
        special=tuple(row.special[place] for place in places),
    )


def picture(
    source: AttentionSource, selection: Selection, rows: range, columns: range, size: int
) -> tuple[NDArray[np.float32], bool]:
    """Return weights pooled to at most `size` per side, and whether their rows are a sample.

    Args:
        source: The source of the weights.
        selection: The selected weights.
        rows: The rows of the picture.
        columns: The columns of the picture.
        size: The largest number of pixels per side.
    """
    sample = _sample(source, selection, rows, columns, size)
    if sample is None:
        return source.pooled(selection, rows, columns, size), False
    across = block_edges(len(columns), size)[:-1]
    step = max(1, CELLS_AT_ONCE // len(columns))
    bands = [sample[top : top + step] for top in range(0, len(sample), step)]
    return np.concatenate(
        [
            block_extreme(source.weights(selection, band, columns), np.arange(len(band)), across)
            for band in bands
        ]
    ), True


def largest_weight(
    source: AttentionSource, selection: Selection, whole: NDArray[np.float32]
) -> float:
    """Return the largest weight of a selection without the sink, which gets full colour.

    Args:
        source: The source of the weights.
        selection: The selected weights.
        whole: Their `picture`, of all rows and columns.
    """
    if source.sink is None:
        return full_colour(whole, None)
    queries, keys = range(len(source.queries)), range(len(source.keys))
    edges = block_edges(len(keys), whole.shape[1])
    block = int(np.searchsorted(edges, source.sink, side="right")) - 1
    others = np.delete(whole, block, axis=1)
    # The keys that share a pixel with the sink.
    neighbours = [key for key in range(edges[block], edges[block + 1]) if key != source.sink]
    if neighbours:
        rows = _sample(source, selection, queries, keys, len(whole)) or queries
        others = np.append(others, source.weights(selection, rows, neighbours))
    return full_colour(others.reshape(1, -1), None)


def _sample(
    source: AttentionSource, selection: Selection, rows: range, columns: range, size: int
) -> list[int] | None:
    """Return the rows to sample for a picture of too many cells, else None."""
    heads = 1 if selection.reduce == "head" else source.heads
    if heads * len(rows) * len(columns) <= CELLS_PER_PICTURE:
        return None
    return [rows[edge] for edge in block_edges(len(rows), size)[:-1]]


def shrink(weights: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return a picture pooled further, to at most `size` per side."""
    down, across = (block_edges(count, size)[:-1] for count in weights.shape)
    return block_extreme(weights, down, across)


def _slice(places: Sequence[int]) -> Sequence[int] | slice:
    """Return consecutive positions as a slice, which is checked faster."""
    if isinstance(places, range) and places.step == 1 and places.start >= 0:
        return slice(places.start, places.stop)
    return places

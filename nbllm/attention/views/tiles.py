"""Exactly what is on screen of a recording: pooled heads, small pictures, strongest edges.

A whole head of 4,096 tokens is 16.8 million weights. None of these keeps them all: scores
are computed a block of rows at a time, in float32, and only for keys that the rows may see.
The exponential grows with its argument, so the largest weight of a block is that of its
largest score: pictures are pooled from scores, and few exponentials are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch

from nbllm.attention.recording.indexing import places_of
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.threads import one_thread
from nbllm.attention.views.colour_levels import codes, full_colour
from nbllm.checks import check_choice, check_integer, check_span, check_whole, reads
from nbllm.errors import SelectionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "block_max",
    "combined",
    "dimension_scores",
    "evenly",
    "pooled",
    "sampled_rows",
    "thumbnails",
    "top_edges",
]

Span = tuple[int, int]
How = Literal["mean", "max"]

MOST_THUMBNAIL_ROWS = 256
LEAST_THUMBNAIL_ROWS = 64
THUMBNAIL_SCORES = 2**18  # of a head, beyond which fewer rows are sampled
SHORT_BLOCK = 16  # columns, up to which a step in all blocks is quicker than block after block


@one_thread()
def _key_or_none(name: str, value: Any) -> int | None:
    return None if value is None else check_integer(name, value)


@reads(
    layer=check_integer,
    head=check_integer,
    rows=check_span,
    columns=check_span,
    masked=check_integer,
    side=check_whole,
)
def pooled(
    recording: Recording,
    layer: int,
    head: int,
    *,
    rows: Span | None = None,
    columns: Span | None = None,
    masked: int | None = None,
    side: int = 512,
) -> NDArray[np.float32]:
    """One head, or a window of it, shrunk to at most `side` a side by the largest of each block.

    The largest, not the mean: a single hot key stays as hot as it is. `rows` and `columns` are
    [start, stop) of queries and keys, by default all. Of n positions, block b begins at
    b · n // side. Where a side is no longer than `side`, nothing is pooled along it. `masked`
    is a key, such as the attention sink, that is taken out; what is left of each row is made
    whole again, before it is pooled.

    Returns float32, (<= side, <= side). Raises SelectionError for what is not in the recording
    and for an empty window.

        pooled(recording, layer=5, head=2, side=256)
    """
    recording.check(layer, head)
    rows, columns = _window(recording, rows, columns)
    tops, lefts = _starts(rows, side), _starts(columns, side)
    chosen = recording.layer(layer)
    # The first picture of a whole head sums up its rows on the way: their scores are there.
    whole = (0, len(recording.queries)), (0, len(recording.keys))
    first_look = masked is None and (rows, columns) == whole and not recording.knows(layer, head)
    found: list[torch.Tensor] = []
    if not first_look:
        recording.log_sum_exp(layer, head, masked)  # of all rows at once, for the parts below
    picture = np.full((len(tops), len(lefts)), -np.inf, np.float32)
    for first, last, part in _parts(chosen, tops, rows[1]):
        keys = _keys(chosen, part, columns)
        if first_look:
            (logs,), (total,) = chosen.log_weights([head], part, keys)
            found.append(total)
        elif len(keys):
            logs = recording.log_weights(layer, head, part, keys, masked)
        else:
            continue
        _pool_into(picture, logs.cpu().numpy(), (first, last), tops, lefts, keys.start)
    if first_look:
        recording.keep(layer, head, torch.cat(found))
    return np.exp(picture, out=picture)


@one_thread()
@reads(
    layer=check_integer, rows=check_span, columns=check_span, masked=check_integer, side=check_whole
)
def combined(
    recording: Recording,
    layer: int,
    how: How = "mean",
    *,
    rows: Span | None = None,
    columns: Span | None = None,
    masked: int | None = None,
    side: int = 512,
) -> NDArray[np.float32]:
    """The mean or the largest weight over all heads of a layer, then pooled as one head is.

    A key that is `masked` is taken out of each head first. Of a long text this takes as long
    as all of its heads.

    Returns float32, (<= side, <= side). Raises SelectionError for what is not in the recording
    and for an empty window.

        combined(recording, layer=5, how="max", side=256)
    """
    check_choice("how", how, get_args(How))
    recording.check(layer, 0)
    rows, columns = _window(recording, rows, columns)
    tops, lefts = _starts(rows, side), _starts(columns, side)
    chosen = recording.layer(layer)
    for head in range(recording.heads):
        recording.log_sum_exp(layer, head, masked)
    picture = np.zeros((len(tops), len(lefts)), np.float32)
    for first, last, part in _parts(chosen, tops, rows[1]):
        keys = _keys(chosen, part, columns)
        if not len(keys):
            continue
        together = torch.zeros(len(part), len(keys), device=chosen.key.device)
        for head in range(recording.heads):
            weights = recording.log_weights(layer, head, part, keys, masked).exp_()
            if how == "mean":
                together += weights
            else:
                torch.maximum(together, weights, out=together)
        if how == "mean":
            together /= recording.heads
        _pool_into(picture, together.cpu().numpy(), (first, last), tops, lefts, keys.start)
    return picture


@one_thread()
@reads(layer=check_integer, sink=_key_or_none, size=check_whole)
def thumbnails(recording: Recording, layer: int, sink: int | None, size: int) -> NDArray[np.uint8]:
    """A small picture of every head of a layer: (heads, side, side), side <= size.

    They are `codes`, 255 the largest weight of the head outside of the column of the `sink`.
    Rows are sampled in long texts: `sampled_rows` says which. Raises SelectionError for a layer
    that was not recorded.

        thumbnails(recording, layer=5, sink=0, size=24)
    """
    recording.check(layer, 0)
    chosen = recording.layer(layer)
    rows = sampled_rows(recording)
    tops, lefts = _starts((0, len(rows)), size), _starts((0, len(recording.keys)), size)
    found = np.zeros((recording.heads, len(tops), len(lefts)), np.uint8)
    group = recording.heads // chosen.key.shape[0]
    for first in range(0, recording.heads, group):
        heads = range(first, first + group)
        for head, weights in zip(heads, chosen.weights(heads, rows).cpu().numpy(), strict=True):
            small = block_max(block_max(weights, lefts, axis=1), tops, axis=0)
            found[head] = codes(small, full_colour(weights, sink), signed=False)
    return found


def sampled_rows(recording: Recording) -> list[int]:
    """The queries that thumbnails are made from: all of a short text, some of a long one.

    At most 256, evenly spaced, the first and the last among them; from 1,024 tokens on fewer,
    down to 64.

        len(sampled_rows(recording)) < len(recording)      # are they a sample?
    """
    fitting = THUMBNAIL_SCORES // len(recording.keys)
    most = min(MOST_THUMBNAIL_ROWS, max(LEAST_THUMBNAIL_ROWS, fitting))
    return evenly(len(recording.queries), most)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` positions of `count`, evenly spaced, the first and the last among them."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def block_max(
    values: NDArray[np.float32], starts: NDArray[np.intp], axis: int
) -> NDArray[np.float32]:
    """The largest of each block of rows (axis 0) or columns (1), which begin at `starts`.

    As `np.maximum.reduceat`, many times as fast for blocks of a few values.

    Args:
        values: (rows, columns).
        starts: ascending, the first of them 0; blocks are about as long as each other.

        block_max(np.eye(4, dtype=np.float32), np.array([0, 2]), axis=0)   # (2, 4)
    """
    last = np.append(starts[1:], values.shape[axis]) - 1
    longest = int((last - starts).max()) + 1
    if axis == 1 and longest > SHORT_BLOCK:
        found: NDArray[np.float32] = np.maximum.reduceat(values, starts, axis=axis)
        return found
    found = values.take(starts, axis=axis)
    for step in range(1, longest):
        np.maximum(found, values.take(np.minimum(starts + step, last), axis=axis), out=found)
    return found


@one_thread()
@reads(
    layer=check_integer,
    head=check_integer,
    k=check_whole,
    without=check_integer,
    rows=check_span,
    columns=check_span,
)
def top_edges(
    recording: Recording,
    layer: int,
    head: int,
    k: int,
    *,
    without: int | None = None,
    rows: Span | None = None,
    columns: Span | None = None,
) -> pd.DataFrame:
    """The k largest weights of a head, or of a window of it, the largest first.

    `without` is a key to leave out, such as the attention sink. Weights of 0 are no edges, so
    there may be fewer than k.

    Returns the columns query, key (positions) and weight (float32). Raises SelectionError for
    what is not in the recording and for an empty window.

        top_edges(recording, layer=5, head=2, k=100, without=0)
    """
    recording.check(layer, head)
    k = check_whole("k", k)
    rows, columns = _window(recording, rows, columns)
    chosen = recording.layer(layer)
    device = chosen.query.device
    recording.log_sum_exp(layer, head)  # of all rows at once, for the parts below
    values = torch.empty(0, device=device)
    places = torch.empty(2, 0, dtype=torch.long, device=device)
    for part in chosen.blocks(1, range(*rows)):
        keys = _keys(chosen, part, columns)
        if not len(keys):
            continue
        # Logarithms of weights: they have the same order.
        logs = recording.log_weights(layer, head, part, keys)
        for place in places_of(without, keys):
            logs[:, place] = -torch.inf
        largest = logs.flatten().topk(min(k, logs.numel()))
        row, key = largest.indices // len(keys), largest.indices % len(keys)
        here = torch.stack([row + part[0], key + keys.start])
        values, places = torch.cat([values, largest.values]), torch.cat([places, here], 1)
        best = values.topk(min(k, len(values)))
        values, places = best.values, places[:, best.indices]
    queries, others = places.cpu().numpy()
    weights = values.exp().cpu().numpy()
    frame = pd.DataFrame({"query": queries, "key": others, "weight": weights})
    return frame[frame["weight"] > 0]


@reads(layer=check_integer, head=check_integer, query=check_integer, key=check_integer)
def dimension_scores(
    recording: Recording, layer: int, head: int, query: int, key: int
) -> NDArray[np.float32]:
    """What each dimension of a head adds to the score of one query and one key.

    It is q · k · scale, dimension by dimension, after RoPE. Their sum is the score before a
    soft cap, a position bias (T5) and the softmax, where the model has those.

    Returns float32, (head_dim,). Raises SelectionError for what is not in the recording.

        dimension_scores(recording, layer=5, head=2, query=9, key=3).argmax()
    """
    recording.check(layer, head, query)
    _window(recording, None, (key, key + 1))
    chosen = recording.layer(layer)
    group = chosen.heads // chosen.key.shape[0]
    product = chosen.query[head, query].float() * chosen.key[head // group, key].float()
    scores: NDArray[np.float32] = (product * chosen.scale).cpu().numpy()
    return scores


def _window(recording: Recording, rows: Span | None, columns: Span | None) -> tuple[Span, Span]:
    sizes = len(recording.queries), len(recording.keys)
    found = []
    for name, span, size in zip(("rows", "columns"), (rows, columns), sizes, strict=True):
        start, stop = (0, size) if span is None else span
        if not 0 <= start < stop <= size:
            raise SelectionError(
                f"{name} {start} to {stop} are not a part of this recording of "
                f"{recording.model}, which has {name} 0 to {size}. Give a start and, beyond "
                "it, a stop within those."
            )
        found.append((start, stop))
    return found[0], found[1]


def _starts(span: Span, side: int) -> NDArray[np.int64]:
    """Where each block begins, from the start of the span."""
    side = check_whole("side", side)
    length = span[1] - span[0]
    blocks = min(length, side)
    return span[0] + np.arange(blocks) * length // blocks


def _parts(layer: Layer, tops: NDArray[np.int64], stop: int) -> list[tuple[int, int, range]]:
    """Runs of whole blocks of rows: the first block, the one after the last, the rows."""
    most = len(layer.blocks(1, range(int(tops[0]), stop))[0])
    bounds = [*tops.tolist(), stop]
    found, first = [], 0
    while first < len(tops):
        fitting = np.searchsorted(bounds, bounds[first] + most, side="right") - 1
        last = max(first + 1, int(fitting))
        found.append((first, last, range(bounds[first], bounds[last])))
        first = last
    return found


def _keys(layer: Layer, rows: Sequence[int], columns: Span) -> range:
    """The keys of a window that at least one of these rows may see."""
    seen = layer.seen(rows)
    return range(max(seen.start, columns[0]), min(seen.stop, columns[1]))


def _pool_into(
    picture: NDArray[np.float32],
    values: NDArray[np.float32],
    blocks: Span,
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    key: int,
) -> None:
    """Write the largest of each block of (rows, keys from `key` on) into its place."""
    first, last = blocks
    left = int(np.searchsorted(lefts, key, side="right")) - 1
    right = int(np.searchsorted(lefts, key + values.shape[1]))
    starts = np.maximum(lefts[left:right] - key, 0)
    values = block_max(values, tops[first:last] - tops[first], axis=0)
    values = block_max(values, starts, axis=1)
    picture[first:last, left:right] = values

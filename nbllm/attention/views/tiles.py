"""Exactly what is on screen of a recording: pooled heads, small pictures, strongest edges.

A whole head of 4,096 tokens is 16.8 million weights. None of these keeps them all: scores
are computed a block of rows at a time, in float32, and only for keys that the rows may see.
The exponential grows with its argument, so the largest weight of a block is that of its
largest score: pictures are pooled from scores, and few exponentials are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from nbllm._deprecation import deprecated_argument
from nbllm.attention.recording.indexing import evenly_spaced
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import mask_key
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.threads import one_thread
from nbllm.attention.views.colour_levels import codes, full_colour
from nbllm.attention.views.pooling import Pooled, block_edges, block_max
from nbllm.checks import check_choice, check_integer, check_span, check_whole, reads
from nbllm.errors import SelectionError

__all__ = ["combined", "dimension_scores", "pooled", "sampled_rows", "thumbnails", "top_edges"]

Span = tuple[int, int]
Reduce = Literal["mean", "max"]

MOST_THUMBNAIL_ROWS = 256
LEAST_THUMBNAIL_ROWS = 64
THUMBNAIL_SCORES = 2**18  # of a head, beyond which fewer rows are sampled


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
    """Return one head, or a window of it, pooled by the largest weight of each block.

    The largest, not the mean: a single hot key stays as hot as it is. Of n positions along a side,
    block b begins at b · n // `side`; a side that is no longer than `side` is not pooled.

    Args:
        recording: The recording.
        layer: The number of the layer in the model, from 0.
        head: The query head, from 0.
        rows: The window's queries as (start, stop); all by default.
        columns: The window's keys as (start, stop); all by default.
        masked: A key to mask out, such as the attention sink. The rest of each row is normalized
            again to sum to 1, before it is pooled.
        side: The most cells along each side of the result.

    Returns:
        float32, (<= side, <= side).

    Raises:
        SelectionError: The layer, head, key or window is not in the recording, or the window is
            empty.

    Example:
        >>> pooled(recording, layer=5, head=2, side=256)  # doctest: +SKIP
    """
    recording.check(layer, head)
    queries, others = _window(recording, rows, columns)
    chosen = recording.layer(layer)
    # The first picture of a whole head sums up its rows on the way: their scores are there.
    whole = range(len(recording.queries)), range(len(recording.keys))
    first_look = masked is None and (queries, others) == whole and not recording.knows(layer, head)
    found: list[torch.Tensor] = []
    if not first_look:
        recording.log_sum_exp(layer, head, masked)  # of all rows at once, for the parts below
    shrunk = Pooled(queries, others, side, empty=-np.inf)
    for part in shrunk.bands(len(chosen.blocks(1, queries)[0])):
        keys = _visible(chosen, part, others)
        if first_look:
            (logs,), (total,) = chosen.log_weights([head], part, keys)
            found.append(total)
        elif len(keys):
            logs = recording.log_weights(layer, head, part, keys, masked)
        else:
            continue
        shrunk.fill(part, keys, logs.cpu().numpy())
    if first_look:
        recording.keep(layer, head, torch.cat(found))
    return np.exp(shrunk.picture, out=shrunk.picture)


@deprecated_argument("how", "reduce")
@one_thread()
@reads(
    layer=check_integer, rows=check_span, columns=check_span, masked=check_integer, side=check_whole
)
def combined(
    recording: Recording,
    layer: int,
    reduce: Reduce = "mean",
    *,
    rows: Span | None = None,
    columns: Span | None = None,
    masked: int | None = None,
    side: int = 512,
) -> NDArray[np.float32]:
    """Return the mean or the largest weight over the heads of a layer, pooled as one head is.

    Of a long text this takes as long as all of its heads.

    Args:
        recording: The recording.
        layer: The number of the layer in the model, from 0.
        reduce: "mean" or "max" over the heads.
        rows: The window's queries as (start, stop); all by default.
        columns: The window's keys as (start, stop); all by default.
        masked: A key to mask out of each head, as for `pooled`.
        side: The most cells along each side of the result.

    Returns:
        float32, (<= side, <= side).

    Raises:
        ArgumentError: `reduce` is another word.
        SelectionError: The layer, key or window is not in the recording, or the window is empty.

    Example:
        >>> combined(recording, layer=5, reduce="max", side=256)  # doctest: +SKIP
    """
    check_choice("reduce", reduce, get_args(Reduce))
    recording.check(layer, 0)
    queries, others = _window(recording, rows, columns)
    chosen = recording.layer(layer)
    for head in range(recording.heads):
        recording.log_sum_exp(layer, head, masked)
    shrunk = Pooled(queries, others, side, empty=0)
    for part in shrunk.bands(len(chosen.blocks(1, queries)[0])):
        keys = _visible(chosen, part, others)
        if not len(keys):
            continue
        together = torch.zeros(len(part), len(keys), device=chosen.key.device)
        for head in range(recording.heads):
            weights = recording.log_weights(layer, head, part, keys, masked).exp_()
            if reduce == "mean":
                together += weights
            else:
                torch.maximum(together, weights, out=together)
        if reduce == "mean":
            together /= recording.heads
        shrunk.fill(part, keys, together.cpu().numpy())
    return shrunk.picture


@one_thread()
@reads(layer=check_integer, sink=_key_or_none, size=check_whole)
def thumbnails(recording: Recording, layer: int, sink: int | None, size: int) -> NDArray[np.uint8]:
    """Return a small picture of every head of a layer.

    Rows are sampled in long texts: `sampled_rows` says which.

    Args:
        recording: The recording.
        layer: The number of the layer in the model, from 0.
        sink: The key whose column does not count for the scale; None for none.
        size: The most cells along each side.

    Returns:
        uint8, (heads, <= size, <= size): `codes`, 255 the largest weight of the head outside of
        the column of the sink.

    Raises:
        SelectionError: The layer was not recorded.

    Example:
        >>> thumbnails(recording, layer=5, sink=0, size=24)  # doctest: +SKIP
    """
    recording.check(layer, 0)
    chosen = recording.layer(layer)
    rows = sampled_rows(recording)
    down, across = (block_edges(count, size)[:-1] for count in (len(rows), len(recording.keys)))
    found = np.zeros((recording.heads, len(down), len(across)), np.uint8)
    group = recording.heads // chosen.key.shape[0]
    for first in range(0, recording.heads, group):
        heads = range(first, first + group)
        for head, weights in zip(heads, chosen.weights(heads, rows).cpu().numpy(), strict=True):
            small = block_max(weights, down, across)
            found[head] = codes(small, full_colour(weights, sink), signed=False)
    return found


def sampled_rows(recording: Recording) -> list[int]:
    """Return the queries that thumbnails are made from: all of a short text, some of a long one.

    At most 256, evenly spaced, the first and the last among them; from 1,024 tokens on fewer,
    down to 64.

    Args:
        recording: The recording.
    """
    fitting = THUMBNAIL_SCORES // len(recording.keys)
    most = min(MOST_THUMBNAIL_ROWS, max(LEAST_THUMBNAIL_ROWS, fitting))
    return evenly_spaced(len(recording.queries), most)


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
    """Return the k largest weights of a head, or of a window of it, the largest first.

    Weights of 0 are left out, so there may be fewer than k.

    Args:
        recording: The recording.
        layer: The number of the layer in the model, from 0.
        head: The query head, from 0.
        k: The most weights.
        without: A key to leave out, such as the attention sink; the others stay as they are.
        rows: The window's queries as (start, stop); all by default.
        columns: The window's keys as (start, stop); all by default.

    Returns:
        A frame with the columns query and key (positions of tokens) and weight (float32).

    Raises:
        SelectionError: The layer, head or window is not in the recording, or the window is empty.

    Example:
        >>> top_edges(recording, layer=5, head=2, k=100, without=0)  # doctest: +SKIP
    """
    recording.check(layer, head)
    queries, others = _window(recording, rows, columns)
    chosen = recording.layer(layer)
    device = chosen.query.device
    recording.log_sum_exp(layer, head)  # of all rows at once, for the parts below
    values = torch.empty(0, device=device)
    places = torch.empty(2, 0, dtype=torch.long, device=device)
    for part in chosen.blocks(1, queries):
        keys = _visible(chosen, part, others)
        if not len(keys):
            continue
        # Logarithms of weights: they have the same order.
        logs = recording.log_weights(layer, head, part, keys)
        mask_key(logs, without, keys)
        largest = logs.flatten().topk(min(k, logs.numel()))
        row, column = largest.indices // len(keys), largest.indices % len(keys)
        here = torch.stack([row + part[0], column + keys.start])
        values, places = torch.cat([values, largest.values]), torch.cat([places, here], 1)
        best = values.topk(min(k, len(values)))
        values, places = best.values, places[:, best.indices]
    query, key = places.cpu().numpy()
    frame = pd.DataFrame({"query": query, "key": key, "weight": values.exp().cpu().numpy()})
    return frame[frame["weight"] > 0]


@reads(layer=check_integer, head=check_integer, query=check_integer, key=check_integer)
def dimension_scores(
    recording: Recording, layer: int, head: int, query: int, key: int
) -> NDArray[np.float32]:
    """Return how much each dimension of a head adds to the score of one query and one key.

    It is q · k · scale, dimension by dimension, after RoPE. Their sum is the score before a
    soft cap, a position bias (T5) and the softmax, where the model has those.

    Args:
        recording: The recording.
        layer: The number of the layer in the model, from 0.
        head: The query head, from 0.
        query: The position of the query token.
        key: The position of the key token.

    Returns:
        float32, (head_dim,).

    Raises:
        SelectionError: The layer, head or token is not in the recording.

    Example:
        >>> dimension_scores(recording, layer=5, head=2, query=9, key=3)  # doctest: +SKIP
    """
    recording.check(layer, head, query)
    _window(recording, None, (key, key + 1))
    chosen = recording.layer(layer)
    group = chosen.heads // chosen.key.shape[0]
    product = chosen.query[head, query].float() * chosen.key[head // group, key].float()
    scores: NDArray[np.float32] = (product * chosen.scale).cpu().numpy()
    return scores


def _window(recording: Recording, rows: Span | None, columns: Span | None) -> tuple[range, range]:
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
        found.append(range(start, stop))
    return found[0], found[1]


def _visible(layer: Layer, rows: Sequence[int], columns: range) -> range:
    """The keys of a window that at least one of these rows may see."""
    seen = layer.seen(rows)
    return range(max(seen.start, columns.start), min(seen.stop, columns.stop))

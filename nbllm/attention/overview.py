"""What a reader sees before choosing: small pictures of all heads, and where to start.

In most language models a large part of every head's weight rests on one token, mostly
the first, whatever the text says (Xiao et al. 2023, "Efficient Streaming Language Models
with Attention Sinks"). Coloured by plain weight, all heads then look the same. Nothing is
removed here: the sink is found and named, and colour scales are set by the other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nbllm.attention.capture import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Overview", "full_colour", "pool", "survey", "thumbnails"]

SURVEYED_ROWS = 64
THUMBNAIL_ROWS = 256
SINK_FACTOR = 2.0  # a sink takes this many times what it would if all weights were equal
FULL_COLOUR_ROWS = 0.9  # share of rows whose largest weight lies within the colour scale


@dataclass(frozen=True)
class Overview:
    """One look over all heads of a recording."""

    sink: int | None  # the token that takes most of the weight without regard to the text
    token: int  # where to start reading: the query token,
    layer: int  # and the head of the upper layers that, from there,
    head: int  # puts the most weight on the text of interest
    share: float  # that weight


def survey(recording: Recording) -> Overview:
    """Find the attention sink, and the head that is worth opening first.

    The query token is the one that the answer is read from: the last of a causal model,
    the first of an encoder. The text of interest is what the prompt marks as the user's
    own; without marks, all but special tokens, the sink and the query token itself. The
    head is one of the upper half of the layers: those below spread their weight mostly by
    position and word form. Rows are sampled beyond 64 tokens.
    """
    count = len(recording)
    rows = _sample(count, SURVEYED_ROWS)
    token = count - 1 if recording.causal else 0
    received = np.empty((len(recording.layers), recording.heads, count), np.float32)
    opening = np.empty_like(received)
    for index, layer in enumerate(recording.layers):
        heads = torch.arange(recording.heads, device=layer.query.device)
        chosen = torch.tensor([*rows, token], device=layer.query.device)
        weights = layer.weights(heads, chosen)
        received[index] = weights[:, :-1].mean(1).cpu().numpy()
        opening[index] = weights[:, -1].cpu().numpy()
    sink = _sink(received.mean((0, 1)), rows, recording.causal)
    share = opening[:, :, _of_interest(recording, token, sink)].sum(-1)
    upper = len(recording.layers) // 2
    layer_index, head = np.unravel_index(int(share[upper:].argmax()), share[upper:].shape)
    return Overview(
        sink=sink,
        token=token,
        layer=upper + int(layer_index),
        head=int(head),
        share=float(share[upper:].max()),
    )


def thumbnails(recording: Recording, layer: int, sink: int | None, size: int) -> NDArray[np.uint8]:
    """A small picture of every head of a layer: (heads, side, side), side <= size.

    0 is no weight and 255 full colour, by the square root of the weight. Rows are sampled
    evenly beyond 256 tokens.
    """
    chosen = recording.layers[layer]
    device = chosen.query.device
    heads = torch.arange(recording.heads, device=device)
    rows = torch.tensor(_sample(len(recording), THUMBNAIL_ROWS), device=device)
    weights = chosen.weights(heads, rows).cpu().numpy()
    small = [np.sqrt(np.clip(pool(head, size) / full_colour(head, sink), 0, 1)) for head in weights]
    levels: NDArray[np.uint8] = np.rint(255 * np.stack(small)).astype(np.uint8)
    return levels


def full_colour(weights: NDArray[np.float32], sink: int | None) -> float:
    """The weight that gets full colour in the picture of a head, (rows, tokens).

    It is the largest weight of a row outside of the sink's column, taken so that nine
    rows in ten lie below: one odd row does not wash out the others.
    """
    others = weights if sink is None else np.delete(weights, sink, axis=1)
    if others.shape[1] == 0:
        return 1.0
    return max(float(np.quantile(others.max(1), FULL_COLOUR_ROWS)), 1e-6)


def pool(weights: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Shrink (rows, columns) to at most size a side by the largest of each block.

    The largest, not the mean: a single hot key stays as hot as it is.
    """
    for axis, length in enumerate(weights.shape):
        side = min(length, size)
        starts = np.arange(side) * length // side
        weights = np.maximum.reduceat(weights, starts, axis=axis)
    return weights


def _sample(count: int, most: int) -> list[int]:
    """At most `most` positions, evenly spaced, the first and the last among them."""
    return [int(row) for row in np.linspace(0, count - 1, min(count, most)).round()]


def _sink(received: NDArray[np.float32], rows: list[int], causal: bool) -> int | None:
    """The token that takes most weight, if far above its part of an even spread."""
    token = int(received.argmax())
    keys = [row + 1 if causal else len(received) for row in rows if not causal or row >= token]
    even = sum(1 / count for count in keys) / len(rows)
    return token if received[token] > SINK_FACTOR * even else None


def _of_interest(recording: Recording, token: int, sink: int | None) -> list[int]:
    marked = [place for mark in recording.marks for place in range(mark.start, mark.stop)]
    return marked or [
        place
        for place, special in enumerate(recording.special)
        if not special and place not in (token, sink)
    ]

"""The attention sink of a recording, and the head and token at which a reader may start.

In most language models a large part of every head's weight rests on one token, mostly
the first, whatever the text says (Xiao et al. 2023, "Efficient Streaming Language Models
with Attention Sinks"). Coloured by plain weight, all heads then look the same. Nothing is
removed here: the sink is found and named, and colour scales are set by the other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbllm.attention.recording.indexing import evenly_spaced, gathered
from nbllm.attention.recording.masks import Rule
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.threads import one_thread

__all__ = ["Overview", "survey"]

MOST_ROWS = 64
LEAST_ROWS = 8
LEAST_LAYERS = 4
LEAST_HEADS = 8
SURVEYED_WEIGHTS = 2**21  # in all, so that a long text is opened no later than a short one
SINK_FACTOR = 2.0  # a sink takes this many times what it would if all weights were equal


@dataclass(frozen=True)
class Overview:
    """The sink of a recording, and the head and token to open first."""

    sink: int | None  # the key that takes most of the weight without regard to the text
    token: int  # where to start reading: the query token,
    layer: int  # and the head of the upper layers that, from there,
    head: int  # puts the most weight on the content
    share: float  # that weight


@one_thread()
def survey(recording: Recording) -> Overview:
    """Find the attention sink, and the head that is worth opening first.

    The query token is the one that the answer is read from: the last of a causal model or
    of a generated text, the first of an encoder. The content is what the prompt marks as the
    user's own; without marks, all but special tokens. The sink, the query token itself and the
    tokens beside it do not count: the weight that they get depends on their place, not on the text.
    The head is one of the upper half of the layers: those below spread their weight mostly by
    position and word form. Rows are sampled beyond 64 tokens; in texts of thousands fewer of
    them, and layers too, and for the sink heads.

    Args:
        recording: The recording.

    Example:
        >>> found = survey(recording)  # doctest: +SKIP
        >>> recording.weights(found.layer, found.head)  # doctest: +SKIP
    """
    rows, layers, some = _sampled(recording)
    token = 0 if recording.kind == "encoder" else len(recording.queries) - 1
    looked_at = [recording.layer(number) for number in layers]
    received = gathered([layer.weights(some, rows).mean((0, 1)) for layer in looked_at])
    opening = gathered([layer.weights(None, [token])[:, 0] for layer in looked_at])
    sink = _sink(received.mean(0), rows, Rule(recording.causal, window=None))
    share = opening @ _content(recording, token, sink)
    upper = len(layers) // 2
    best, head = np.unravel_index(int(share[upper:].argmax()), share[upper:].shape)
    return Overview(
        sink=sink,
        token=token,
        layer=layers[upper + int(best)],
        head=int(head),
        share=float(share[upper:].max()),
    )


def _sampled(recording: Recording) -> tuple[list[int], list[int], list[int]]:
    """The queries, the layers, and the heads of those layers that are sampled."""
    total = len(recording.layers)
    fitting = SURVEYED_WEIGHTS // (recording.heads * len(recording.keys))
    most = min(MOST_ROWS, max(LEAST_ROWS, fitting // total))
    rows = evenly_spaced(len(recording.queries), most)
    places = evenly_spaced(total, max(LEAST_LAYERS, fitting // len(rows)))
    heads = evenly_spaced(
        recording.heads, max(LEAST_HEADS, fitting * recording.heads // (len(rows) * len(places)))
    )
    return rows, [recording.layer_numbers[place] for place in places], heads


def _sink(received: NDArray[np.float32], rows: list[int], rule: Rule) -> int | None:
    """The key that takes most weight, if far above its share of an even spread."""
    token = int(received.argmax())
    keys = [len(rule.visible([row], len(received))) for row in rows if rule.sees(row, token)]
    even = sum(1 / count for count in keys) / len(rows)
    return token if received[token] > SINK_FACTOR * even else None


def _content(recording: Recording, token: int, sink: int | None) -> NDArray[np.float32]:
    """1 for each key that the query token may look at for what it says, else 0: (keys,)."""
    keys = recording.keys
    wanted = np.zeros(len(keys), np.float32)
    for span in keys.field_spans:
        wanted[span.start : span.stop] = 1
    if not wanted.any():
        wanted[:] = np.logical_not(keys.special)
    if sink is not None:
        wanted[sink] = 0
    if recording.queries is keys:
        wanted[max(0, token - 1) : token + 2] = 0
    return wanted

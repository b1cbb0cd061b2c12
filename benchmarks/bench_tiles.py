"""Pictures of the attention of 32 layers of 32 heads over 4,096 tokens: time and bytes.

The recording is of random queries and keys in bf16, 8 key heads a layer and 64 numbers a head, as
a LLaMA of 8B has them but for the width. What is asked is what the browser asks, so that the bytes
are those that it gets. Time by the clock is what a user waits for; of processors what it costs.
"First" is of a head that was not looked at before, and the median of several such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from meter import Meter, median

from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.recording import Recording, TokenRow
from nbllm.attention.views.overview import survey
from nbllm.attention.views.tiles import pooled, thumbnails

LAYERS, HEADS, KEY_HEADS, WIDTH, TOKENS = 32, 32, 8, 64, 4096
PICTURE, TILE, THUMBNAIL = 512, 256, 24
ROUNDS = 5


def run() -> list[dict[str, Any]]:
    recording = synthetic()
    meter = Meter(torch.device("cpu"))
    sink = survey(synthetic(layers=1)).sink
    heads = iter(range(1, HEADS))
    start = (TOKENS - TILE) // 2
    window = range(start, start + TILE)
    works: list[tuple[str, int, Callable[[], Any]]] = [
        ("survey: where to start", 1, lambda: survey(recording)),
        ("first picture of a head", ROUNDS, lambda: shown(recording, next(heads))),
        ("picture of a head seen", ROUNDS, lambda: shown(recording, 1)),
        (
            "exact tile, 256 × 256, first",
            ROUNDS,
            lambda: recording.weights(9, next(heads), window, window),
        ),
        ("exact tile, 256 × 256, head seen", ROUNDS, lambda: seen(recording, window)),
        (
            "thumbnails of a layer",
            ROUNDS,
            lambda: thumbnails(recording, 5, sink, THUMBNAIL),
        ),
        (
            "thumbnails of all 1,024 heads",
            1,
            lambda: np.stack([thumbnails(recording, n, sink, THUMBNAIL) for n in range(LAYERS)]),
        ),
    ]
    rows = []
    for name, rounds, work in works:
        work()  # what is made once
        results = [meter.spent(work) for _ in range(rounds)]
        spent = median([each for _, each in results])
        sent = results[0][0]
        rows.append(
            {
                "what": name,
                "ms": 1000 * spent.wall,
                "CPU ms": 1000 * spent.cpu,
                "kB to the browser": sent.nbytes / 1000 if isinstance(sent, np.ndarray) else "",
            }
        )
    return rows


def shown(recording: Recording, head: int) -> Any:
    """The picture of a whole head, as it goes to the browser."""
    return np.rint(pooled(recording, 3, head, side=PICTURE) * 65535).astype("<u2")


def seen(recording: Recording, window: range) -> Any:
    return recording.weights(3, 1, window, window)


def synthetic(layers: int = LAYERS) -> Recording:
    """A recording of random queries and keys."""
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> torch.Tensor:
        drawn = torch.empty(heads, TOKENS, WIDTH, dtype=torch.bfloat16)
        return drawn.normal_(0, 1, generator=generator)

    made = [
        Layer(
            query=draw(HEADS),
            key=draw(KEY_HEADS),
            scale=WIDTH**-0.5,
            mask=None,
            bias=None,
            causal=True,
            window=None,
            softcap=None,
            sinks=None,
        )
        for _ in range(layers)
    ]
    row = TokenRow(
        text=" word" * TOKENS,
        ids=tuple(range(TOKENS)),
        tokens=(" word",) * TOKENS,
        spans=tuple((5 * n, 5 * n + 5) for n in range(TOKENS)),
        special=(False,) * TOKENS,
        field_spans=(),
    )
    return Recording(
        model="random",
        kind="causal",
        queries=row,
        keys=row,
        layer_numbers=tuple(range(layers)),
        layers=tuple(made),
        reconstruction_errors=(0.0,) * layers,
    )

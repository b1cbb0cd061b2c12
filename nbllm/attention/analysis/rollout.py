"""Attention rollout: attention followed down the layers, to the tokens that it comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.masks import renormalized
from nbllm.attention.recording.recording import Recording
from nbllm.attention.recording.threads import one_thread
from nbllm.checks import check_integer, check_integers, reads
from nbllm.errors import SelectionError

__all__ = ["attention_rollout"]


@reads(rows=check_integers, start_layer=check_integer, masked=check_integer)
def attention_rollout(
    recording: Recording,
    *,
    rows: Sequence[int] | None = None,
    start_layer: int | None = None,
    masked: int | None = None,
) -> NDArray[np.float32]:
    """Return how much of each token at the end comes from each token at the start, by attention.

    Every layer passes on the mean of its heads and, by the residual connection, the token
    itself: (A + I) / 2, each row normalized. Their product over the layers is the rollout
    (Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers"). It is built from the
    last layer down for the queries in `rows`: no more than a block of rows of one layer is in
    memory beside the result.

    Args:
        recording: The recording.
        rows: Positions of queries; all by default.
        start_layer: The number of the first layer that counts; the first one recorded by default.
        masked: A key, such as the attention sink, to mask out of every layer's mean. The rest of
            each row is normalized again; a row that has nothing left stays with its own token.

    Returns:
        float32, (rows, tokens); each row sums to 1.

    Raises:
        SelectionError: It is a recording of cross-attention, a token is not in it, or a layer
            between `start_layer` and the last one recorded is missing.

    Example:
        >>> attention_rollout(recording, rows=[len(recording) - 1], masked=0)  # doctest: +SKIP
    """
    if recording.queries is not recording.keys:
        raise SelectionError(
            "Rollout follows a text through its own layers, and this recording is of "
            "cross-attention. Take the encoder or the decoder of the recording."
        )
    chosen = range(len(recording)) if rows is None else rows
    for token in (*chosen, *(() if masked is None else (masked,))):
        recording.check(recording.layer_numbers[0], 0, token)
    rollout = torch.zeros(len(chosen), len(recording))
    rollout[range(len(chosen)), list(chosen)] = 1
    for number in reversed(_followed(recording, start_layer)):
        layer = recording.layer(number)
        rollout = _through(layer, rollout.to(layer.key.device), masked)
    found: NDArray[np.float32] = rollout.cpu().numpy()
    return found


def _followed(recording: Recording, start: int | None) -> list[int]:
    """The layers to go through; each has to follow the one before."""
    first, last = (
        recording.layer_numbers[0] if start is None else start,
        recording.layer_numbers[-1],
    )
    recording.check(first, 0)
    for number in range(first, last + 1):
        if number not in recording.layer_numbers:
            raise SelectionError(
                f"Rollout goes through every layer from {first} to {last}, and layer {number} "
                "was not recorded. Record it too, or give a later start_layer."
            )
    return list(range(first, last + 1))


def _through(layer: Layer, rollout: torch.Tensor, masked: int | None) -> torch.Tensor:
    """The rollout one layer further down; both (rows, tokens)."""
    below = torch.zeros_like(rollout)
    for part in layer.blocks(1, range(rollout.shape[1])):
        mean, left = renormalized(_mean(layer, part), masked)
        step = mean / 2
        # Of each row its own token: the diagonal of the block that begins there.
        step.diagonal(part[0]).add_(torch.where(left[:, 0], 0.5, 1.0))
        below += taken(rollout, 1, part) @ step
    return below


@one_thread()
def _mean(layer: Layer, rows: Sequence[int]) -> torch.Tensor:
    """The mean weights of all heads, float32, (rows, tokens)."""
    total = torch.zeros(len(rows), layer.key.shape[1], device=layer.key.device)
    for head in range(layer.heads):
        total += layer.weights([head], rows)[0]
    return total / layer.heads

"""Bounds how much of a large tensor is computed at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.models.memory.budget import free_memory

if TYPE_CHECKING:
    import torch

__all__ = ["logits_at_once"]

_LOGITS = 2**25  # in float32: 128 MiB
_LOGITS_ON_CUDA = 2**29
# Bytes of the memory left for each of those: once as the network gives them, twice in float32,
# and as much again for whoever else is at work.
_ROOM = 20


def logits_at_once(device: torch.device) -> int:
    """Return how many logits to hold in memory at a time, where each part costs a pass more.

    A GPU is given as many as a quarter of a large one's memory holds: with a vocabulary of 128,000
    that is 4,000 positions, of which a processor is given 261.

    Args:
        device: where the logits are computed.
    """
    if device.type != "cuda":
        return _LOGITS
    return max(_LOGITS, min(_LOGITS_ON_CUDA, free_memory(device) // _ROOM))

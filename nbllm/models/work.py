"""The work of a network, and how much of it a device does in a second at most."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["matrix_rate", "operations"]

_SIZE, _ROUNDS = 1024, 5


def operations(network: PreTrainedModel, tokens: int, attended: int) -> float:
    """Floating-point operations of the matrix products that reading texts takes.

    As Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, count them, but
    without the output matrix, which few of the tokens go through.

    Args:
        tokens: how many are read, without padding.
        attended: how many tokens each of them looks at, summed up.
    """
    config: Any = network.config.get_text_config()
    weights = network.num_parameters() - network.get_input_embeddings().weight.numel()
    heads = getattr(config, "num_attention_heads", None) or 0
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    attention = 4 * config.num_hidden_layers * heads * width
    return 2.0 * weights * tokens + float(attention * attended)


@cache
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product, measured once."""
    # Of zeros it would be faster: they take less power.
    a, b = torch.randn(2, _SIZE, _SIZE, device=device).to(dtype)
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # which waits for a GPU
        taken.append(time.perf_counter() - start)
    return 2.0 * _SIZE**3 / min(taken)

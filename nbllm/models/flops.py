"""The operations of a network's passes, and how many a device does in a second at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nbllm.models.sizes import largest, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TokenCounts", "matrix_rate", "operation_counter", "operations"]

_SIZE, _ROUNDS = 1024, 5
_SECONDS = 0.5  # after which no round begins: a processor without bfloat16 takes two for each

# A GPU: as many products between two waits, of matrices that grow until they take long enough. A
# small product is over before the next is launched, and has too few parts for all units.
_PRODUCTS, _LARGEST_SIZE = 10, 8192
_LONG_ENOUGH = 0.05  # seconds


@dataclass
class TokenCounts:
    """Tokens that a network computed, without padding."""

    tokens: int = 0
    attended: int = 0  # how many tokens each of them looks at, summed up
    scored: int = 0  # how many of them logits or another output is needed of

    @classmethod
    def text(cls, tokens: int, after: int = 0) -> TokenCounts:
        """Return the counts of a text.

        Args:
            tokens: of the text.
            after: tokens before it, whose keys and values are cached.

        Example:
            >>> TokenCounts.text(3)
            TokenCounts(tokens=3, attended=6, scored=1)
        """
        return cls(tokens, tokens * after + tokens * (tokens + 1) // 2, 1)

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.tokens + other.tokens, self.attended + other.attended, self.scored + other.scored
        )


def operations(network: PreTrainedModel, read: TokenCounts) -> float:
    """Return the floating-point operations of the matrix products of some passes.

    They are counted as by Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, but
    of the output matrix, if there is one, only for the tokens whose logits are needed.

    Args:
        network: of any model.
        read: the tokens of the passes.
    """
    config = text_config(network.config)
    # Of tables rows are looked up; one may be the output matrix at the same time.
    found = [module.weight for module in network.modules() if isinstance(module, nn.Embedding)]
    tables = list({id(table): table for table in found}.values())  # of BART two have one table
    outputs: Any = network.get_output_embeddings()
    output: int = 0 if outputs is None else outputs.weight.numel()
    if outputs is not None and all(outputs.weight is not table for table in tables):
        tables.append(outputs.weight)
    weights: int = network.num_parameters() - sum(table.numel() for table in tables)
    heads = largest(config, "num_attention_heads")
    width = largest(config, "head_dim") or largest(config, "hidden_size") // max(1, heads)
    attention = 4 * largest(config, "num_hidden_layers") * heads * width
    return float(2 * (weights * read.tokens + output * read.scored) + attention * read.attended)


def operation_counter(network: PreTrainedModel) -> Callable[[TokenCounts], float]:
    """Return a cached variant of `operations`, for one network and many counts.

    Args:
        network: of any model.
    """
    parts = ("tokens", "attended", "scored")
    each = {part: operations(network, TokenCounts(**{part: 1})) for part in parts}
    return lambda read: sum(each[part] * getattr(read, part) for part in parts)


@cache
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a square matrix product, measured once.

    Args:
        device: to measure.
        dtype: of the matrices.
    """
    if device.type != "cpu":
        return _rate_of_gpu(device, dtype)
    # Of zeros it would be faster: they take less power.
    a, b = torch.randn(2, _SIZE, _SIZE, device=device).to(dtype)
    taken: list[float] = []
    while len(taken) < _ROUNDS and sum(taken) < _SECONDS:
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # which waits for a GPU
        taken.append(time.perf_counter() - start)
    return 2.0 * _SIZE**3 / min(taken)


def _rate_of_gpu(device: torch.device, dtype: torch.dtype) -> float:
    rates: list[float] = []
    size = _SIZE
    while size <= _LARGEST_SIZE:
        try:
            seconds = _seconds_for(size, device, dtype)
        except RuntimeError:  # beside a model there may be no room for larger ones
            if not rates:
                raise
            break
        rates.append(2.0 * size**3 * _PRODUCTS / seconds)
        if seconds >= _LONG_ENOUGH:
            break
        size *= 2
    return max(rates)


def _seconds_for(size: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    (a @ b)[0, 0].item()  # what is done once: a library loaded, a kernel chosen; and it waits
    start = time.perf_counter()
    out = a
    for _ in range(_PRODUCTS):
        out = a @ b
    out[0, 0].item()
    return time.perf_counter() - start

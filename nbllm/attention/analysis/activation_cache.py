"""The output of a network's layers for one text, so that later passes can skip the lower ones.

A change in one layer reaches only those above it. So a pass that makes one there may begin with
the output that the layers below had for the same text before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from nbllm.attention.recording.hooks import hooked
from nbllm.attention.recording.residual import layers_of
from nbllm.engine.locks import FORWARD_LOCK

__all__ = ["ActivationCache"]


class ActivationCache:
    """The output of each layer of a network for one text.

    Args:
        network: The network.
        depth: The number of its layers. Where they are not found, or return more than one
            tensor, none is skipped.
    """

    def __init__(self, network: nn.Module, depth: int) -> None:
        self._layers = layers_of(network, depth)
        self._states: dict[int, torch.Tensor] = {}

    def available(self, count: int) -> int:
        """How many of the first `count` layers can be skipped: all of them, or none."""
        return count if count and len(self._states) == len(self._layers) > 0 else 0

    def clear(self) -> None:
        """Skip none any more."""
        self._layers, self._states = [], {}

    @contextmanager
    def fill(self, row: int) -> Iterator[None]:
        """Keep the output of the layers for a row of the batch, in a pass that runs them all."""

        def keep(number: int, _layer: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 3:
                self._states[number] = output[row, None].clone()

        after = [(layer, partial(keep, number)) for number, layer in enumerate(self._layers)]
        with hooked(after=after):
            yield

    @contextmanager
    def skip(self, count: int, rows: int) -> Iterator[None]:
        """Skip the first `count` layers in passes of this thread, over batches of `rows`.

        with cache.skip(cache.available(12), len(ids)):
            network(input_ids=ids)
        """
        thread = threading.get_ident()

        def cached(run: Callable[..., Any], number: int, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return run(*args, **kwargs)
            return self._states[number].expand(rows, -1, -1)

        with FORWARD_LOCK, ExitStack() as forwards:
            for number, layer in enumerate(self._layers[:count]):
                own = vars(layer).get("forward")  # where another tool has put one
                forwards.callback(_put_back, layer, own)
                layer.forward = partial(cached, layer.forward, number)
            yield


def _put_back(layer: nn.Module, own: Callable[..., Any] | None) -> None:
    if own is None:
        del layer.forward
    else:
        layer.forward = own

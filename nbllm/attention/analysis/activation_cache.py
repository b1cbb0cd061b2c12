"""The lower layers of a network, left out where what they make of a text is known.

A change in one layer reaches those above it. So a pass that makes one there may begin with what
the layers below made of the same text before.
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

__all__ = ["KnownLayers"]


class KnownLayers:
    """What each layer of a network made of one text.

    Args:
        depth: how many layers there are. Where they are not found, or hand on more than one
            tensor, none is left out.
    """

    def __init__(self, network: nn.Module, depth: int) -> None:
        self._layers = layers_of(network, depth)
        self._states: dict[int, torch.Tensor] = {}

    def known(self, count: int) -> int:
        """How many of the first `count` layers can be left out: all of them, or none."""
        return count if count and len(self._states) == len(self._layers) > 0 else 0

    def forget(self) -> None:
        """Leave out none any more."""
        self._layers, self._states = [], {}

    @contextmanager
    def kept(self, row: int) -> Iterator[None]:
        """Keep what the layers make of a row of the batch, in a pass that runs all of them."""

        def keep(number: int, _layer: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 3:
                self._states[number] = output[row, None].clone()

        after = [(layer, partial(keep, number)) for number, layer in enumerate(self._layers)]
        with hooked(after=after):
            yield

    @contextmanager
    def left_out(self, count: int, rows: int) -> Iterator[None]:
        """Begin a batch of `rows` with the layer of this number: those before it are not run.

        with layers.left_out(layers.known(12), len(ids)):
            network(input_ids=ids)
        """
        thread = threading.get_ident()

        def instead(run: Callable[..., Any], number: int, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return run(*args, **kwargs)
            return self._states[number].expand(rows, -1, -1)

        with FORWARD_LOCK, ExitStack() as forwards:
            for number, layer in enumerate(self._layers[:count]):
                own = vars(layer).get("forward")  # where another tool has put one
                forwards.callback(_put_back, layer, own)
                layer.forward = partial(instead, layer.forward, number)
            yield


def _put_back(layer: nn.Module, own: Callable[..., Any] | None) -> None:
    if own is None:
        del layer.forward
    else:
        layer.forward = own

"""Interception of attention calls, inside the pass that really makes them.

A wrapper takes the place of the model's own entry in transformers' AttentionInterface, calls
the function that was there, and hands on its inputs and its output. The model's configuration
is left alone: its masks, its kernel and its result are those of an ordinary pass.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from nbllm.attention.recording.accumulator import Call, LayerAccumulator, Shared
from nbllm.attention.recording.recording import RecordingKind
from nbllm.attention.recording.storage import Storage
from nbllm.engine.locks import FORWARD_LOCK
from nbllm.models.silence import quiet

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import PreTrainedModel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["AttentionRecorder", "Place", "intercept_attention"]

Place = tuple[slice, slice]  # of a text in a batch: its rows and its columns


class AttentionRecorder:
    """Captures the queries and keys of every layer and text of a batch while its passes run.

    Args:
        network: The network whose attention calls are captured, in this thread.
        kind: Returns the stack of layers that a module belongs to.
        wanted: For each stack, the numbers of the layers to capture.
        places: For each text and stack, where the text lies in the batch.
        room: For each text and stack, the most rows and columns that it will have.
        storage: Where the captured tensors are kept.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        kind: Callable[[nn.Module], RecordingKind],
        wanted: Mapping[RecordingKind, Sequence[int]],
        places: Sequence[Mapping[RecordingKind, Place]],
        room: Sequence[Mapping[RecordingKind, tuple[int, int]]],
        storage: Storage,
    ) -> None:
        self.storage = storage
        self.layer_calls: Counter[RecordingKind] = Counter()  # of the last pass
        self._network = network
        self._kind = kind
        self._wanted = {name: frozenset(numbers) for name, numbers in wanted.items()}
        self._places = places
        self._shared = Shared(storage)
        self._accumulators: list[dict[RecordingKind, dict[int, LayerAccumulator]]] = [
            {
                name: {
                    number: LayerAccumulator(storage, self._shared, *size[name])
                    for number in wanted[name]
                }
                for name in wanted
            }
            for size in room
        ]

    def accumulators(self, text: int, kind: RecordingKind) -> Mapping[int, LayerAccumulator]:
        """The captured layers of one text of the batch, by their numbers."""
        return self._accumulators[text][kind]

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Capture one forward pass, which runs in the body of the `with` statement."""
        self.layer_calls.clear()
        try:
            with intercept_attention(self._network, self._append):
                yield
        finally:
            self._shared.clear()

    def _append(
        self,
        result: Any,
        eager: bool,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        options: Mapping[str, Any],
    ) -> None:
        kind = self._kind(module)
        number = self.layer_calls[kind]
        self.layer_calls[kind] += 1
        if number not in self._wanted[kind]:
            return
        causal = options.get("is_causal")
        if causal is None:
            causal = getattr(module, "is_causal", True)
        if mask is not None and mask.ndim == 2:
            mask = None  # flash's padding mask, and what is padded is cut off here
        bias = options.get("position_bias")
        for item, places in enumerate(self._places):
            rows, columns = places[kind]
            self._accumulators[item][kind][number].append(
                Call(
                    query=query[item, :, rows],
                    key=key[item, :, columns],
                    value=value[item, :, columns],
                    output=result[0][item, rows],
                    mask=_of(mask, item, rows, columns, query.shape[2]),
                    bias=_of(bias, item, rows, columns, query.shape[2]),
                    causal=bool(causal),
                    eager=eager,
                    options=options,
                )
            )


def _of(
    added: torch.Tensor | None, item: int, rows: slice, columns: slice, count: int
) -> torch.Tensor | None:
    """One text's part of a mask or bias, which may be the same for all `count` rows."""
    if added is None:
        return None
    of_text = added[item if added.shape[0] > 1 else 0]
    return of_text.expand(-1, count, -1)[:, rows, columns]


OnAttention = Callable[..., None]
_on_attention: ContextVar[OnAttention | None] = ContextVar("_on_attention", default=None)


@contextmanager
def intercept_attention(network: PreTrainedModel, on_attention: OnAttention) -> Iterator[None]:
    """Call a function after each attention call of a network, in passes of this thread.

    It holds the forward lock meanwhile.

    Args:
        network: The network; every attention implementation that its parts name is wrapped.
        on_attention: Called with (result, eager, module, query, key, value, mask, options).
            `result[0]` is the output of the heads, (texts, rows, heads, value_dim), and `eager`
            says whether the function masks nothing by itself.
    """
    table = ALL_ATTENTION_FUNCTIONS
    configs = (vars(module).get("config") for module in network.modules())
    names = {getattr(config, "_attn_implementation", None) for config in configs} - {None}
    with FORWARD_LOCK:
        before = {name: table.get(name) for name in names}
        for name, function in before.items():
            table[name] = _wrapped(function)
        mine = _on_attention.set(on_attention)
        try:
            yield
        finally:
            _on_attention.reset(mine)
            for name, function in before.items():
                table.pop(name)
                if function is not None and table.get(name) is not function:
                    table[name] = function  # an override that stood there before


def _wrapped(function: Callable[..., Any] | None) -> Callable[..., Any]:
    """The same attention function, followed by the current `on_attention` callback.

    None stands for eager, which each model's own file defines.
    """

    def attend(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *arguments: Any,
        **options: Any,
    ) -> Any:
        run = function or sys.modules[type(module).__module__].eager_attention_forward
        result = run(module, query, key, value, attention_mask, *arguments, **options)
        on_attention = _on_attention.get()
        if on_attention is not None:  # None in the thread of another model
            on_attention(
                result, function is None, module, query, key, value, attention_mask, options
            )
        return result

    return attend

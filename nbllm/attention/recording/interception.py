"""Hearing what attention functions are given, inside the pass that really calls them.

A listener takes the place of the model's own entry in transformers' AttentionInterface,
calls the function that was there, and writes down what went in and what came out. The
model's configuration is left alone: its masks, its kernel and its result are those of an
ordinary pass.
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

from nbllm.attention.recording.accumulator import Call, Shared, Track
from nbllm.attention.recording.recording import RecordingKind
from nbllm.attention.recording.storage import Storage
from nbllm.engine.locks import FORWARD_LOCK
from nbllm.models.silence import quiet

with quiet():  # what transformers brings in here, such as torchao, talks while it is imported
    from transformers import PreTrainedModel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["Hearing", "Place", "listening"]

Place = tuple[slice, slice]  # of a text in a batch: its rows and its columns


class Hearing:
    """The tracks of all layers of all texts of a batch, while its passes run.

    Args:
        network: whose attention functions are listened to, in this thread.
        kind: which stack of layers a module belongs to.
        wanted: the numbers of the layers to write down, for each stack.
        places: where each text lies in the batch, for each stack.
        room: how many rows and columns each text can have in the end, for each stack.
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
        self.heard: Counter[RecordingKind] = Counter()  # layers of the last pass
        self._network = network
        self._kind = kind
        self._wanted = {name: frozenset(numbers) for name, numbers in wanted.items()}
        self._places = places
        self._shared = Shared(storage)
        self._tracks: list[dict[RecordingKind, dict[int, Track]]] = [
            {
                name: {number: Track(storage, self._shared, *size[name]) for number in wanted[name]}
                for name in wanted
            }
            for size in room
        ]

    def tracks(self, text: int, kind: RecordingKind) -> Mapping[int, Track]:
        """What was heard of one text of the batch, by the number of the layer."""
        return self._tracks[text][kind]

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Listen to one forward pass."""
        self.heard.clear()
        try:
            with listening(self._network, self._hear):
                yield
        finally:
            self._shared.clear()

    def _hear(
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
        number = self.heard[kind]
        self.heard[kind] += 1
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
            self._tracks[item][kind][number].hear(
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
    """The part of one text of a mask or bias, which may be the same for all `count` rows."""
    if added is None:
        return None
    of_text = added[item if added.shape[0] > 1 else 0]
    return of_text.expand(-1, count, -1)[:, rows, columns]


Heard = Callable[..., None]
_hear: ContextVar[Heard | None] = ContextVar("_hear", default=None)


@contextmanager
def listening(network: PreTrainedModel, hear: Heard) -> Iterator[None]:
    """Put a listener before each attention function that the network's parts name.

    `hear` is called after it with (result, eager, module, query, key, value, mask, options), in
    passes of this thread. result[0] is what the heads gave, (texts, rows, heads, value_dim).
    """
    table = ALL_ATTENTION_FUNCTIONS
    configs = (vars(module).get("config") for module in network.modules())
    names = {getattr(config, "_attn_implementation", None) for config in configs} - {None}
    with FORWARD_LOCK:
        before = {name: table.get(name) for name in names}
        for name, function in before.items():
            table[name] = _listener(function)
        mine = _hear.set(hear)
        try:
            yield
        finally:
            _hear.reset(mine)
            for name, function in before.items():
                table.pop(name)
                if function is not None and table.get(name) is not function:
                    table[name] = function  # an override that stood there before


def _listener(function: Callable[..., Any] | None) -> Callable[..., Any]:
    """The same attention function, with what it is given and returns written down.

    None stands for eager, which each model's own file defines.
    """

    def listen(
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
        hear = _hear.get()
        if hear is not None:  # None in the thread of another model
            hear(result, function is None, module, query, key, value, attention_mask, options)
        return result

    return listen

"""A forward pass of tensors without numbers, which counts the memory that it would hold."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from nbllm.models.kind import Kind
from nbllm.models.memory.footprint import working_bytes
from nbllm.models.silence import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nbllm.models.devices.cards import Where

__all__ = ["DryRun", "dry_run"]

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


@dataclass(frozen=True)
class DryRun:
    """The bytes that one forward pass holds besides the weights."""

    cache: int  # keys and values, or whatever else the model remembers of the texts
    activations: Mapping[str, int]  # for each quantization, the peak above weights and cache


def dry_run(
    skeleton: PreTrainedModel,
    kind: Kind,
    dtype: torch.dtype,
    where: Where,
    quantized: Mapping[str, Mapping[str, tuple[int, int]]],
    context: int,
    batch: int,
) -> DryRun:
    """Run a pass over some texts; of a model that generates, up to its first token.

    For an encoder-decoder the cache is counted as for an answer as long as the text. Several
    texts are padded to one length, which costs a mask; a single one needs none.

    Args:
        skeleton: on the meta device; it cannot be used again.
        kind: of the model.
        dtype: of activations.
        where: the device that it would run on.
        quantized: for each quantization, the layers that it changes, as `quantized_layers`
            gives them.
        context: tokens of a text.
        batch: texts.

    Returns:
        The bytes of the cache, and of the activations with each quantization.

    Raises:
        Exception: whatever the model's code raises where it asks for numbers, which there are not.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with quiet(), _unlogged(), FakeTensorMode(), torch.inference_mode():
        network = _made_fake(skeleton.eval(), dtype)
        inputs = _inputs(network, kind, context, batch)
        with _Count() as count:
            for name, layers in quantized.items():
                count.peaks[name] = 0
                for layer, shape in layers.items():
                    network.get_submodule(layer).register_forward_pre_hook(
                        _working(count, name, shape, dtype, where)
                    )
            out = network(**inputs)
        held = out.get("past_key_values", out.get("cache_params"))
        cache = _nbytes(held)
        answer = _nbytes(held.self_attention_cache) if kind == "seq2seq" else 0
    return DryRun(
        cache + answer * (context - 1),
        {name: max(0, peak - cache) for name, peak in count.peaks.items()},
    )


@contextmanager
def _unlogged() -> Iterator[None]:
    """Silence torch's own log of an operation that failed, which is raised as well."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _made_fake(network: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            kind = dtype if parameter.is_floating_point() else parameter.dtype
            fake = torch.nn.Parameter(torch.empty(parameter.shape, dtype=kind), False)
            setattr(module, name, fake)
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
    return network


def _inputs(network: PreTrainedModel, kind: Kind, context: int, batch: int) -> dict[str, Any]:
    inputs: dict[str, Any] = {"input_ids": torch.zeros(batch, context, dtype=torch.long)}
    if batch > 1:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if kind in ("causal", "seq2seq"):
        inputs["use_cache"] = True
    if kind == "seq2seq":
        inputs["decoder_input_ids"] = torch.zeros(batch, 1, dtype=torch.long)
    if kind == "causal" and "logits_to_keep" in inspect.signature(network.forward).parameters:
        inputs["logits_to_keep"] = 1  # as `generate` does
    return inputs


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage from the operation that makes it until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peaks: dict[str, int] = {}  # for each quantization
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if func is _ATTENTION:
            # What it does depends on shapes and masks; where there is no kernel that does
            # without it, it makes the whole matrix of weights.
            with self:
                return func.decompose(*args, **kwargs)
        for tensor in _tensors((args, kwargs)):  # weights: they and views of them do not count
            self._add(tensor.untyped_storage(), counts=False)
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            self._add(tensor.untyped_storage(), counts=True)
        return out

    def at_most(self, name: str, extra: int) -> None:
        """Note that `extra` bytes are in use for a moment with one quantization."""
        self.peaks[name] = max(self.peaks[name], self.live + extra)

    def _add(self, storage: torch.UntypedStorage, *, counts: bool) -> None:
        key, size = storage._cdata, storage.nbytes() if counts else 0
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        weakref.finalize(storage, self._remove, key, size)
        for name in self.peaks:
            self.at_most(name, 0)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _working(
    count: _Count, name: str, shape: tuple[int, int], dtype: torch.dtype, where: Where
) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
    """Return a hook that adds what one quantization needs to compute its layer."""

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = inputs[0].numel() // inputs[0].shape[-1]
        count.at_most(name, working_bytes(name, rows, *shape, dtype, where))

    return hook


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, torch.Tensor)]


def _nbytes(cache: Any) -> int:
    """Return the bytes of all tensors in a cache, which is an object of objects."""
    if isinstance(cache, torch.Tensor):
        return cache.nbytes if cache.dim() else 0
    if isinstance(cache, Mapping):
        return sum(map(_nbytes, cache.values()))
    if isinstance(cache, (list, tuple)):
        return sum(map(_nbytes, cache))
    return sum(map(_nbytes, vars(cache).values())) if hasattr(cache, "__dict__") else 0

"""The memory that a model takes, before its weights are read, and that a device has.

A network built on the meta device tells it: shapes are known and nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.errors import UnsupportedModelError
from nbllm.models.devices.cards import Card, Where
from nbllm.models.memory.footprint import published_bytes, stored_bytes
from nbllm.models.quantization.published import fields_of
from nbllm.models.quantization.schemes import quantized_layers
from nbllm.models.sizes import largest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "BATCH_SHARE", "LOAD_SHARE", "MemoryNeed", "active_bytes", "container_limits", "device_memory",
    "devices_alike", "experts_of", "forecast", "free_memory", "held_by_device", "held_bytes",
    "kv_bytes", "room_over", "weight_bytes",
]  # fmt: skip

_CGROUP = Path("/sys/fs/cgroup")

# Of a device's memory, for weights, keys and values where nbllm chooses the quantization: the rest
# is for activations, the data and everything else.
LOAD_SHARE = 0.7

# Of the memory that is left, for a batch: forecasts err, and others want some too.
BATCH_SHARE = 0.8


@dataclass(frozen=True)
class MemoryNeed:
    """The bytes that a model takes on its device."""

    weights: int
    kv: int  # keys and values of one text as long as the context

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv


def forecast(
    network: PreTrainedModel,
    quantization: str,
    dtype: torch.dtype,
    context_length: int,
    where: Where | None = None,
) -> MemoryNeed:
    """Return the memory that a network takes with a quantization and a dtype.

    It is quick and counts what stays; `nbllm.estimate` counts activations too.

    Args:
        network: which may be on the meta device.
        quantization: as `weight_bytes` takes it.
        dtype: of layers that are not quantized, and of keys and values.
        context_length: in tokens; 0 for a network that keeps no keys and values.
        where: the device; by default the processor.
    """
    return MemoryNeed(
        weight_bytes(network, quantization, dtype, where),
        kv_bytes(network.config, dtype, context_length),
    )


def weight_bytes(
    network: PreTrainedModel, quantization: str, dtype: torch.dtype, where: Where | None = None
) -> int:
    """Return the bytes of all weights, tied ones once.

    Args:
        network: which may be on the meta device.
        quantization: one that nbllm loads in, or "published": as the checkpoint says.
        dtype: of layers that are not quantized.
        where: the device; by default the processor.

    Raises:
        UnsupportedModelError: the checkpoint does not say how many bits a weight has.
    """
    import torch

    where = where or torch.device("cpu")
    config = network.config
    published = quantization == "published"
    layers = (
        _published_layers(network, where)
        if published
        else quantized_layers(network, quantization, where)
    )
    whole = network.num_parameters() - sum(outputs * inputs for outputs, inputs in layers.values())
    total = whole * dtype.itemsize
    for outputs, inputs in layers.values():
        size = (
            published_bytes(config, outputs, inputs)
            if published
            else stored_bytes(quantization, outputs, inputs, dtype, where)
        )
        if size is None:
            raise UnsupportedModelError(
                "The quantization_config of this checkpoint does not say how many bits a weight "
                "has, so its memory cannot be forecast. The size of its *.safetensors "
                "files is what its weights take."
            )
        total += size
    return total


def _published_layers(network: PreTrainedModel, where: Where) -> dict[str, tuple[int, int]]:
    """What a checkpoint that was published quantized has in fewer bits: name to outputs, inputs.

    It leaves the output matrix whole, and whatever its configuration names.
    """
    from transformers.quantizers.quantizers_utils import should_convert_module

    fields = fields_of(network.config) or {}
    whole = [*(fields.get("modules_to_not_convert") or ()), *(fields.get("ignore") or ())]
    layers = {**quantized_layers(network, "int8", where), **dict(experts_of(network))}
    return {name: shape for name, shape in layers.items() if should_convert_module(name, whole)}


def active_bytes(
    network: PreTrainedModel, quantization: str, dtype: torch.dtype, where: Where
) -> int | None:
    """Return the bytes of the weights that are read to generate one token, of one text alone.

    Of the table of embeddings one row is read, unless it is the output matrix too; of a mixture of
    experts, those that a token is sent to.

    Args:
        network: which may be on the meta device.
        quantization: as `weight_bytes` takes it.
        dtype: of layers that are not quantized.
        where: the device.

    Returns:
        Bytes; None where the configuration does not say how many experts a token is sent to.
    """
    experts = dict(experts_of(network))
    sent_to = largest(network.config.get_text_config(decoder=True), "num_experts_per_tok")
    if bool(experts) != bool(sent_to):
        return None
    rows: Any = network.get_input_embeddings()
    output: Any = network.get_output_embeddings()
    tied = output is None or output.weight is rows.weight
    idle = 0 if tied else rows.weight.numel() * dtype.itemsize
    in_fewer_bits = _published_layers(network, where) if quantization == "published" else {}
    for name, (outputs, inputs) in experts.items():
        size = None
        if name in in_fewer_bits:
            size = published_bytes(network.config, outputs, inputs)
        size = outputs * inputs * dtype.itemsize if size is None else size
        count = network.get_parameter(name).shape[0]
        idle += size * max(0, count - sent_to) // count
    return weight_bytes(network, quantization, dtype, where) - idle


def experts_of(network: PreTrainedModel) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield name and (outputs, inputs) of the matrices of experts, which lie in one tensor.

    Args:
        network: which may be on the meta device.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() == 3 and "experts" in name:
            count, outputs, inputs = parameter.shape
            yield name, (count * outputs, inputs)


def held_bytes(network: PreTrainedModel) -> int:
    """Return the bytes that a network holds in memory, the constants of quantized weights included.

    The table of levels that bitsandbytes keeps with each layer, a kilobyte, is left out.

    Args:
        network: of a loaded model.
    """
    return sum(held_by_device(network).values())


def held_by_device(network: PreTrainedModel) -> dict[str, int]:
    """Return the same per device that it is spread over; what lies on disk is not in memory.

    Args:
        network: of a loaded model.
    """
    from nbllm.models.memory.placement import kept_for_hooks

    tensors = chain(network.parameters(), network.buffers(), kept_for_hooks(network))
    parts = chain.from_iterable(map(_parts, tensors))
    each = {(str(part.device), part.data_ptr()): part.nbytes for part in parts}
    held: dict[str, int] = {}
    for (device, _), size in each.items():
        if device != "meta":
            held[device] = held.get(device, 0) + size
    return held


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    """Yield the plain tensors that a weight is made of."""
    if hasattr(tensor, "__tensor_flatten__"):  # torchao
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor.data
    state = getattr(tensor, "quant_state", None)  # bitsandbytes, 4 bits
    if state is not None:
        yield state.absmax
        if state.nested:
            yield state.state2.absmax
    scales = getattr(tensor, "SCB", None)  # bitsandbytes, 8 bits
    if scales is not None:
        yield scales


def kv_bytes(config: PreTrainedConfig, dtype: torch.dtype, tokens: int) -> int:
    """Return the bytes of the keys and values of one text, over all layers.

    A layer with a sliding window keeps no more than its window.

    Args:
        config: of the network.
        dtype: of keys and values.
        tokens: of the text.
    """
    if not tokens:
        return 0
    from transformers import DynamicCache

    text = config.get_text_config(decoder=True)
    queries = largest(text, "num_attention_heads")
    if not queries:
        return 0  # a state-space model, whose state is small and as large after any text
    heads = largest(text, "num_key_value_heads") or queries
    width = largest(text, "head_dim") or largest(text, "hidden_size") // queries
    windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=text).layers]
    windows = windows or [None] * text.num_hidden_layers
    # A window of n tokens keeps n - 1 of them: the next token is the n-th.
    kept = sum(min(tokens, window - 1) if window else tokens for window in windows)
    return int(2 * heads * width * kept * dtype.itemsize)


def device_memory(where: Where) -> int:
    """Return all the memory of a device in bytes, in use or not.

    For a CPU, what this process may use; for a Mac's GPU, which shares the machine's memory, what
    Metal recommends as the most.

    Args:
        where: a device, or a card.
    """
    import torch

    if isinstance(where, Card):
        return where.memory
    if where.type == "cuda":
        return int(torch.cuda.get_device_properties(where).total_memory)
    if where.type == "mps":
        return int(torch.mps.recommended_max_memory())
    import psutil

    return min(int(psutil.virtual_memory().total), *container_limits())


def devices_alike(where: Where) -> list[Where]:
    """Return the devices of the same type, over which a model can be spread.

    Args:
        where: one of them, or a card.
    """
    import torch

    if isinstance(where, Card):
        return [replace(where, count=1)] * where.count
    if where.type != "cuda":
        return [where]
    return [torch.device("cuda", n) for n in range(torch.cuda.device_count())]


def room_over(memories: Iterable[int], moment: int) -> int:
    """The bytes of weights and keys and values that have room over several devices.

    Args:
        memories: of each device.
        moment: bytes that are held for a moment on whichever device computes, so that each has to
            have them beside its part.
    """
    return sum(max(0, memory - moment) for memory in memories)


def free_memory(where: Where) -> int:
    """Return the free memory of a device in bytes; for a CPU, within the container's limit.

    Args:
        where: a device; or a `Card`, which is taken to be used by nothing else.
    """
    import torch

    if isinstance(where, Card):
        return where.free
    if where.type == "cuda":
        free, _ = torch.cuda.mem_get_info(where)
        # What torch keeps for itself and nothing uses is as good as free.
        kept = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(free + kept)
    import psutil

    resident = int(psutil.Process().memory_info().rss)
    free = min(
        int(psutil.virtual_memory().available), *(limit - resident for limit in container_limits())
    )
    if where.type != "mps":
        return free
    # As above; what torch keeps is missing from what the system has left.
    used = torch.mps.current_allocated_memory()
    kept = torch.mps.driver_allocated_memory() - used
    return int(min(free + kept, torch.mps.recommended_max_memory() - used))


def container_limits() -> list[int]:
    """Return the limits of a Linux container, which psutil ignores; at least one value."""
    limits = [1 << 62]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((_CGROUP / file).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return limits

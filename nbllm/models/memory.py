"""How much memory a model will take, before its weights are read.

A network built on the meta device tells it: shapes are known and nothing is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["Forecast", "device_memory", "forecast", "free_memory", "kv_bytes", "readable"]

# A weight takes 4 bits and, double-quantized, one 8-bit constant for 64 weights plus one
# 32-bit for 256 of those (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).
_NF4_BYTES = 0.5 + (8 + 32 / 256) / 64 / 8

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Forecast:
    """Bytes that a model needs on its device."""

    weights: int
    kv: int  # keys and values of one text as long as the context

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv


def forecast(
    network: PreTrainedModel, quantization: str, dtype: torch.dtype, context_length: int
) -> Forecast:
    """The memory that `network`, which may be on the meta device, takes in these numbers.

    `context_length` in tokens; 0 for a network that keeps no keys and values.
    """
    replaced = _replaced(network) if quantization != "none" else []
    weights = (network.num_parameters() - sum(w.numel() for w in replaced)) * dtype.itemsize
    if quantization == "int8":  # one 32-bit constant for each row
        weights += sum(weight.numel() + 4 * weight.shape[0] for weight in replaced)
    elif quantization == "nf4":
        weights += sum(round(weight.numel() * _NF4_BYTES) for weight in replaced)
    return Forecast(weights, kv_bytes(network.config, dtype, context_length))


def _replaced(network: PreTrainedModel) -> list[torch.Tensor]:
    """The weights that bitsandbytes quantizes: of every linear layer but the last."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    head = network.get_output_embeddings()
    return [
        module.weight
        for module in network.modules()
        if isinstance(module, (Linear, Conv1D)) and module is not head
    ]


def kv_bytes(config: PreTrainedConfig, dtype: torch.dtype, tokens: int) -> int:
    """Bytes of the keys and values of one text of `tokens` tokens, over all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * tokens * dtype.itemsize)


def device_memory(device: torch.device) -> int:
    """All the memory of `device` in bytes, in use or not; for a CPU, what this process may use."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return min(int(psutil.virtual_memory().total), *_container_limits())


def free_memory(device: torch.device) -> int:
    """The bytes of `device` that can be had now; for a CPU, within the container's limit."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for itself and nothing uses is as good as free.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    import psutil

    resident = int(psutil.Process().memory_info().rss)
    return min(
        int(psutil.virtual_memory().available),
        *(limit - resident for limit in _container_limits()),
    )


def _container_limits() -> list[int]:
    """Limits that Linux sets on a container, of which psutil knows nothing; at least one value."""
    limits = [1 << 62]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((_CGROUP / file).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return limits


def readable(count: float) -> str:
    """Bytes as people write them, in powers of a thousand.

    >>> readable(269_060_552)
    '269 MB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"

"""Linear layers with weights in the order in which oneDNN's kernels for bf16 read them.

Given weights row by row, oneDNN puts those of a product in order each time, which takes about a
tenth of the time of label scoring. In order once, they are a copy: so for a run that is long
enough, and where memory is plentiful.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear

from nbllm.models.memory.budget import free_memory, held_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PackedLinear", "can_pack"]

# Vectors given to a layer, from which on it takes less time to put its weights in order than not.
_WORTH = 2048
_PLENTY = 4  # times the weights, of free memory
# For each size of layer, whether the kernels give the bits that they give for weights by row.
# Which kernel is used depends on the size and the processor, not on the weights.
_same_bits: dict[tuple[int, int, bool], bool] = {}


def can_pack(network: PreTrainedModel) -> bool:
    """Whether the weights of a network on this processor may be held a second time."""
    kernels: Any = torch.ops.mkldnn  # empty where torch was built without oneDNN
    if not hasattr(kernels, "_linear_pointwise") or not kernels._is_mkldnn_bf16_supported():
        return False
    return _PLENTY * held_bytes(network) <= free_memory(torch.device("cpu"))


class PackedLinear(nn.Linear):
    """A linear layer that packs its weights when it has been given enough, for ever after.

    What it returns is the same to the last bit: where a first layer of its size shows that it
    would not be, the weights are left as they are.
    """

    _given = 0  # vectors
    _packed: torch.Tensor | None = None

    @staticmethod
    def replaces(module: nn.Module) -> bool:
        """Whether it does what this module does."""
        if type(module) is not nn.Linear:  # quantized by bitsandbytes, adapted or watched
            return False
        if type(module.weight) is not nn.Parameter:  # quantized by torchao, and called bf16 too
            return False
        return module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu"

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self._packed is not None:
            return self._fast(input, self._packed)
        result = linear(input, self.weight, self.bias)
        self._given += input.numel() // input.shape[-1]
        size = (*self.weight.shape, self.bias is not None)
        if self._given >= _WORTH and _same_bits.get(size, True):
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), None)
            if size not in _same_bits:
                _same_bits[size] = torch.equal(self._fast(input, packed), result)
            self._packed = packed if _same_bits[size] else None
        return result

    def _fast(self, input: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            input, packed, self.bias, "none", [], ""
        )
        return result

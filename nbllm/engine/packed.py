"""Linear layers with weights in the order in which oneDNN's kernels for bf16 read them.

Given weights row by row, oneDNN puts those of a product in order each time, which takes a fifth
of the time of a batch of label scoring. In order once, they are a copy: so for a run that is long
enough, and where memory is plentiful.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear

from nbllm.models.memory import free_memory, held_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PackedLinear", "pays"]

# Vectors given to a layer, from which on it takes less time to put its weights in order than not.
_WORTH = 2048
_PLENTY = 4  # times the weights, of free memory


def pays(network: PreTrainedModel) -> bool:
    """Whether the weights of a network on this processor may be held a second time."""
    kernels: Any = torch.ops.mkldnn  # empty where torch was built without oneDNN
    if not hasattr(kernels, "_linear_pointwise") or not kernels._is_mkldnn_bf16_supported():
        return False
    return _PLENTY * held_bytes(network) <= free_memory(torch.device("cpu"))


class PackedLinear(nn.Linear):
    """A linear layer that packs its weights when it has been given enough, for ever after.

    What it returns is the same to the last bit: where a first batch shows that it would not be,
    the weights are left as they are.
    """

    _given = 0  # vectors
    _packed: torch.Tensor | None = None
    _packs = True

    @staticmethod
    def replaces(module: nn.Module) -> bool:
        """Whether it does what this module does."""
        if type(module) is not nn.Linear:  # quantized, adapted or watched
            return False
        return module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu"

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self._packed is not None:
            return self._fast(input, self._packed)
        result = linear(input, self.weight, self.bias)
        self._given += input.numel() // input.shape[-1]
        if self._packs and self._given >= _WORTH:
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), None)
            self._packs = torch.equal(self._fast(input, packed), result)
            if self._packs:
                self._packed = packed
        return result

    def _fast(self, input: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            input, packed, self.bias, "none", [], ""
        )
        return result

"""Quantizations: which can be asked for, and whether this device can run them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from nbllm.checks import shown
from nbllm.errors import QuantizationError
from nbllm.models.devices.cards import Card, Where, called

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin

__all__ = [
    "INT4_GROUP", "Quantization", "attention_is_whole", "check", "config", "keeps_attention",
    "kernel_problem", "quantized_layers",
]  # fmt: skip

# bitsandbytes: int8 (LLM.int8(), https://arxiv.org/abs/2208.07339), nf4 and fp4 (QLoRA, double
# quantization, https://arxiv.org/abs/2305.14314). torchao, weights only: int4 (asymmetric, in
# groups), int8wo (a scale a row).
Quantization = Literal["none", "int8", "nf4", "fp4", "int4", "int8wo"]

_TORCHAO = ("int4", "int8wo")
_PACKAGES = {
    **dict.fromkeys(("int8", "nf4", "fp4"), ("bitsandbytes", "accelerate")),
    **dict.fromkeys(_TORCHAO, ("torchao", "accelerate")),
}
# Weights that share an int4 scale: the fewest that the kernels take, as in GGUF's Q4 formats.
INT4_GROUP = 32
# Below so many parameters, nf4 and fp4 leave attention whole. With every layer in nf4, labels of
# SST-2 train rows agreed with those in bf16 on 0.85 of 500 rows for SmolLM2-135M, with attention
# whole on 0.93; for Gemma 3 270M it was 0.90 and 0.94. It costs such a model 40 MB.
_SMALL = 500_000_000


def check(quantization: str, where: Where, dtype: torch.dtype | None = None) -> None:
    """Refuse a quantization that is unknown or does not run on a device.

    Args:
        quantization: as `load` takes it.
        where: the device.
        dtype: that products are computed in; bf16 unless given.

    Raises:
        QuantizationError: with the alternatives.
    """
    known = get_args(Quantization)
    if not isinstance(quantization, str) or quantization not in known:
        named = ", ".join(repr(q) for q in ("auto", *known[:-1]))
        raise QuantizationError(
            f"There is no quantization {shown(quantization)}. Give {named} or {known[-1]!r}."
        )
    problem = kernel_problem(quantization, where, dtype)
    if problem is None:
        return
    others = [q for q in known[1:] if q != quantization and not kernel_problem(q, where, dtype)]
    instead = " or ".join(f"quantize={q!r}" for q in ("none", *others))
    raise QuantizationError(
        f"quantize={quantization!r} cannot run on {called(where)} here: {problem}. Use {instead}, "
        "another device, or a smaller model."
    )


@lru_cache
def kernel_problem(quantization: str, where: Where, dtype: torch.dtype | None = None) -> str | None:
    """Return why a quantization cannot run on a device; None where it can.

    It is tried on one tiny layer, since what a library lists as supported and what its
    compiled part holds on a given machine are not always the same. For a `Card`, which is not
    here, the answer is what the libraries list.

    Args:
        quantization: as `load` takes it.
        where: the device.
        dtype: that products are computed in; bf16 unless given.
    """
    import torch

    dtype = dtype or torch.bfloat16
    if quantization == "none":
        return None
    if isinstance(where, Card):
        return where.kernel_problem(quantization, dtype)
    packages = _PACKAGES[quantization]
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed (pip install {' '.join(missing)})"

    from nbllm.models.silence import hush_int8_casts, quiet

    hush_int8_casts()
    with quiet():
        try:
            layer = _tiny_layer(quantization, where, dtype)
            with torch.inference_mode():
                layer(torch.ones(1, 128, device=where, dtype=dtype))
        except Exception as error:  # whatever a missing kernel raises, the answer is no
            return f"{packages[0]} fails on it ({type(error).__name__}: {error})"
    return None


def _tiny_layer(quantization: str, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    import torch

    if quantization in _TORCHAO:
        from torchao.quantization import quantize_

        layer = torch.nn.Sequential(torch.nn.Linear(128, 64, dtype=dtype)).to(device)
        quantize_(layer, _torchao(quantization, device))
        return layer
    bitsandbytes = _bitsandbytes()
    quantized: torch.nn.Module = (
        bitsandbytes.nn.Linear8bitLt(128, 64, has_fp16_weights=False)
        if quantization == "int8"
        else bitsandbytes.nn.Linear4bit(128, 64, compute_dtype=dtype, quant_type=quantization)
    )
    return quantized.to(device)


def _bitsandbytes() -> ModuleType:
    """Import bitsandbytes, which would fetch a kernel at import where `kernels` is installed."""
    absent = "kernels" not in sys.modules
    if absent:
        sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("bitsandbytes")
    finally:
        if absent:
            del sys.modules["kernels"]


def quantized_layers(
    network: PreTrainedModel, quantization: str, where: Where
) -> dict[str, tuple[int, int]]:
    """Return the linear layers whose weights become fewer bits: name to (outputs, inputs).

    Heads stay whole: transformers keeps those over a vocabulary, and those over a few labels
    are small and decide. So do the few layers whose shape the kernel does not take, all that
    are not torch's own Linear (or, for bitsandbytes, GPT-2's Conv1D), and in nf4 and fp4 the
    attention of a small model.

    Args:
        network: which may be on the meta device.
        quantization: as `load` takes it.
        where: the device.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    if quantization == "none":
        return {}
    body = network.base_model
    inside = {id(module) for module in body.modules()}
    whole = [*get_keys_to_not_convert(network), *(network._keep_in_fp32_modules or ())]
    found = {}
    for name, module in network.named_modules():
        if id(module) not in inside or not should_convert_module(name, whole):
            continue
        if type(module) is Linear:
            shape = (module.out_features, module.in_features)
        elif type(module) is Conv1D and quantization not in _TORCHAO:
            shape = (module.weight.shape[1], module.weight.shape[0])
        else:
            continue
        if _kernel_takes(*shape, quantization, where):
            found[name] = shape
    if quantization in ("nf4", "fp4") and network.num_parameters() < _SMALL:
        return {name: shape for name, shape in found.items() if not _in_attention(name)} or found
    return found


def keeps_attention(network: PreTrainedModel, quantization: str, where: Where) -> bool:
    """Return whether attention stays whole where other layers do not.

    Args:
        network: which may be on the meta device.
        quantization: as `load` takes it.
        where: the device.
    """
    layers = quantized_layers(network, quantization, where)
    return bool(layers) and attention_is_whole(network) and not any(map(_in_attention, layers))


def attention_is_whole(network: PreTrainedModel) -> bool:
    """Return whether bitsandbytes left the linear layers of attention alone.

    Args:
        network: of a loaded model.
    """
    from torch.nn import Linear

    kinds = {
        type(module)
        for name, module in network.base_model.named_modules()
        if _in_attention(name) and isinstance(module, Linear)
    }
    return kinds == {Linear}


def _in_attention(name: str) -> bool:
    return any(part in name.lower() for part in ("attn", "attention"))


def _kernel_takes(outputs: int, inputs: int, quantization: str, where: Where) -> bool:
    if quantization in ("nf4", "fp4") and where.type == "cpu":
        # What bitsandbytes packs for processors with AVX512-BF16; it fails on any other shape.
        return outputs % 32 == 0 and inputs % 64 == 0
    if quantization == "int4":
        return inputs % INT4_GROUP == 0
    return True


def config(
    quantization: str, dtype: torch.dtype, device: torch.device, network: PreTrainedModel
) -> QuantizationConfigMixin | None:
    """Return the quantization config for transformers; None where nothing is quantized.

    Args:
        quantization: as `load` takes it.
        dtype: that products are computed in.
        device: that the weights are quantized on.
        network: the one to be quantized, on the meta device.

    Raises:
        QuantizationError: the network has no layer that could be quantized so.
    """
    from torch.nn import Linear
    from transformers import BitsAndBytesConfig, TorchAoConfig
    from transformers.pytorch_utils import Conv1D

    if quantization == "none":
        return None
    layers = quantized_layers(network, quantization, device)
    if not layers:
        raise QuantizationError(
            f"{_PACKAGES[quantization][0]} finds no linear layer in {type(network).__name__} that "
            f"it can quantize, so quantize={quantization!r} would change nothing. Use 'none'"
            + (", 'int8' or 'nf4'." if quantization in _TORCHAO else ".")
        )
    whole = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (Linear, Conv1D)) and name not in layers
    ]
    if quantization in _TORCHAO:
        return TorchAoConfig(_torchao(quantization, device), modules_to_not_convert=whole)
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=whole,
    )


def _torchao(quantization: str, device: torch.device) -> Any:
    # Its layouts are made for one device each; the settings for torch.compile stay the user's.
    if quantization == "int8wo":
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig(set_inductor_config=False)
    if device.type == "cpu":
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        return PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP, set_inductor_config=False)
    from torchao.quantization import Int4WeightOnlyConfig

    return Int4WeightOnlyConfig(
        group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )

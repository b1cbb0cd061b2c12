"""Chooses the device that a model runs on, and its dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nbllm.checks import shown
from nbllm.errors import ModelError
from nbllm.models.devices.cards import Card, Where

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["choose_device", "choose_dtype", "float16_problem", "reason_of_dtype"]

_DTYPES = {
    "fp32": torch.float32, "float32": torch.float32,
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
    "fp16": torch.float16, "float16": torch.float16,
}  # fmt: skip

# Families of models that do not keep within float16, whose largest number is 65,504.
_T5 = "it overflows (https://github.com/huggingface/transformers/issues/9295)"
_VLLM = "it is numerically unstable (vLLM's ModelConfig refuses it)"
_UNSLOTH = "its activations overflow (unsloth's list FORCE_FLOAT32)"
_QWEN2 = "its attention scores overflow (https://github.com/QwenLM/Qwen3/issues/868)"

_OVERFLOWS = {
    "t5": _T5, "mt5": _T5, "umt5": _T5, "longt5": _T5,
    "gemma2": _VLLM, "gemma3": _VLLM, "gemma3_text": _VLLM, "glm4": _VLLM, "plamo2": _VLLM,
    "gemma3n": _UNSLOTH, "gemma3n_text": _UNSLOTH, "gpt_oss": _UNSLOTH, "qwen3_5": _UNSLOTH,
    "qwen2": _QWEN2, "qwen2_moe": _QWEN2,
}  # fmt: skip

# Published in float16, or run in it wherever there is no bfloat16 (vLLM's default there), without
# such reports.
_KEEPS_WITHIN = {
    "llama", "mistral", "mixtral", "phi", "phi3", "qwen3",
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom",
    "bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "bart", "marian",
}  # fmt: skip


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device asked for; "auto" is a GPU where there is one.

    Args:
        device: as `load` takes it.

    Raises:
        ModelError: it is no device, or not on this machine.
    """
    if not isinstance(device, (str, torch.device)):
        raise ModelError(f"device={shown(device)} is no device. {_instead_of(device)}")
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        where = torch.device(device)
        if where.type == "meta":
            raise RuntimeError("tensors of the meta device have shapes and no numbers")
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"device={str(device)!r} is not usable on this machine: "
            f"{str(error).splitlines()[0]}. Give 'auto', 'cpu' or a device that torch finds here."
        ) from error
    if where.type == "cuda" and where.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return where


def choose_dtype(
    dtype: str | torch.dtype,
    where: Where,
    quantize: str = "none",
    config: PreTrainedConfig | None = None,
) -> torch.dtype:
    """Return the dtype asked for; "auto" is bf16 where the device computes in it.

    Else it is fp16 on a GPU, for a model of a family that keeps within it, else fp32. With int4 it
    is bf16 on every processor: what multiplies by 4-bit weights there is written for it, and reads
    64 tokens in a second with AVX2, where it takes 14 seconds in fp32.

    Args:
        dtype: as `load` takes it.
        where: the device.
        quantize: as `load` takes it.
        config: of the model; without it, as where nothing is known of the model, never fp16.

    Raises:
        ModelError: there is no such dtype.
    """
    if isinstance(dtype, str) and dtype == "auto":
        packed = isinstance(quantize, str) and quantize == "int4" and where.type == "cpu"
        if packed or _computes_in_bf16(where):
            return torch.bfloat16
        if where.type == "cpu" or config is None or float16_problem(config):
            return torch.float32
        return torch.float16
    found = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or found not in _DTYPES.values():
        raise ModelError(
            f"There is no dtype {shown(dtype)} here. Give 'auto', 'fp32', 'bf16' or 'fp16'. For "
            "weights of 8 or 4 bits pass quantize=."
        )
    return found


def _instead_of(device: object) -> str:
    """Say what to pass instead of a value that is no device."""
    if isinstance(device, int) and not isinstance(device, bool):
        return (
            f"Pass 'cuda:{device}' for the GPU of that number, or {str(device)!r} to "
            "nbllm.estimate for a card of that name."
        )
    return "Pass 'auto', 'cpu', 'cuda' or a torch.device."


def reason_of_dtype(where: Where, config: PreTrainedConfig) -> str | None:
    """Return why "auto" is not bf16 on a GPU, in a sentence; None where it is, and on a processor.

    Args:
        where: the device.
        config: of the model.
    """
    if where.type == "cpu" or _computes_in_bf16(where):
        return None
    name = f"the {where.name}" if isinstance(where, Card) else "this GPU"
    if problem := float16_problem(config):
        return f"It computes in float32, since {name} has no bfloat16 and {problem}."
    return f"It computes in float16, since {name} has no bfloat16."


def _computes_in_bf16(where: Where) -> bool:
    """Return whether a device multiplies in bf16; emulated products are slower than fp32."""
    if isinstance(where, Card):
        return where.computes_in_bf16
    if where.type == "cuda":
        # torch's own question is about the current device, which may be another one.
        return bool(torch.version.hip) or torch.cuda.get_device_capability(where) >= (8, 0)
    if where.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    if where.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def float16_problem(config: PreTrainedConfig) -> str | None:
    """Return why float16 is not chosen for a model, as the end of a sentence; None where it may be.

    Args:
        config: of the model.
    """
    family = config.model_type
    if family in _OVERFLOWS:
        return f"in float16 {_OVERFLOWS[family]}"
    if family in _KEEPS_WITHIN or getattr(config, "dtype", None) == torch.float16:
        return None
    return f"nobody is known to run {family} in float16"

"""Where a model runs and in which numbers."""

from __future__ import annotations

import torch

from nbllm.checks import shown
from nbllm.errors import ModelError

__all__ = ["choose_device", "choose_dtype"]

_DTYPES = {
    "fp32": torch.float32, "float32": torch.float32,
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16,
    "fp16": torch.float16, "float16": torch.float16,
}  # fmt: skip


def choose_device(device: str | torch.device) -> torch.device:
    """The device asked for; "auto" is a GPU where there is one.

    Raises ModelError where the device is not on this machine.
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        where = torch.device(device)
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
    dtype: str | torch.dtype, device: torch.device, quantize: str = "none"
) -> torch.dtype:
    """The dtype asked for; "auto" is bf16 where `device` computes in it, else fp32.

    With int4 it is bf16 on every processor: what multiplies by 4-bit weights there is written for
    it, and reads 64 tokens in a second with AVX2, where it takes 14 seconds in fp32.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if isinstance(dtype, str) and dtype == "auto":
        packed = quantize == "int4" and device.type == "cpu"
        return torch.bfloat16 if packed or _computes_in_bf16(device) else torch.float32
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ModelError(
            f"There is no dtype {shown(dtype)} here. Give 'auto', 'fp32', 'bf16' or 'fp16'."
        )
    return _DTYPES[dtype]


def _computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor has bf16 products; emulated ones are slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))

"""Weights in fewer bits: what can be asked for, and whether this device can run it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from nbllm.errors import QuantizationError

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedConfig

__all__ = ["Quantization", "check", "config", "kernel_problem", "settle"]

Quantization = Literal["none", "int8", "nf4"]


def check(quantization: str, device: torch.device) -> None:
    """Raise QuantizationError unless `quantization` is known and runs on `device`."""
    if quantization not in get_args(Quantization):
        raise QuantizationError(
            f"There is no quantization {quantization!r}. Give 'auto', 'none', 'int8' or 'nf4'."
        )
    problem = kernel_problem(quantization, device)
    if problem is None:
        return
    others = [q for q in ("nf4", "int8") if q != quantization and not kernel_problem(q, device)]
    instead = " or ".join(f"quantize={q!r}" for q in ("none", *others))
    raise QuantizationError(
        f"quantize={quantization!r} cannot run on {device.type} here: {problem}. Use {instead}, "
        "another device, or a smaller model."
    )


def settle(quantization: str, config: PreTrainedConfig, source: str, device: torch.device) -> str:
    """What was asked for, or what a checkpoint that was published quantized already has.

    Raises QuantizationError where the two differ.
    """
    published = _published(config)
    if published is None:
        return quantization
    if quantization not in ("auto", "none", published):
        raise QuantizationError(
            f"{source} was published quantized ({published}) and cannot be quantized again to "
            f"{quantization}. Leave quantize out, or take the unquantized model."
        )
    if published in get_args(Quantization):
        check(published, device)
    return published


def _published(config: PreTrainedConfig) -> str | None:
    stated = getattr(config, "quantization_config", None)
    if stated is None:
        return None
    fields: dict[str, Any] = stated if isinstance(stated, dict) else stated.to_dict()
    if fields.get("load_in_8bit"):
        return "int8"
    if fields.get("load_in_4bit"):
        return str(fields.get("bnb_4bit_quant_type", "fp4"))
    return str(fields.get("quant_method"))


@lru_cache
def kernel_problem(quantization: str, device: torch.device) -> str | None:
    """Why `quantization` cannot run on `device`, or None where it can.

    It is tried on one tiny layer, since what bitsandbytes lists as supported and what its
    compiled library holds on a given machine are not always the same.
    """
    if quantization == "none":
        return None
    missing = [p for p in ("bitsandbytes", "accelerate") if importlib.util.find_spec(p) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed (pip install {' '.join(missing)})"
    import torch

    from nbllm.models.quiet import hush_int8_casts, quiet

    hush_int8_casts()
    with quiet():
        try:
            bitsandbytes = _bitsandbytes()
            layer: Any = (
                bitsandbytes.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
                if quantization == "int8"
                else bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4")
            )
            with torch.inference_mode():
                layer.to(device)(torch.ones(1, 64, device=device))
        except Exception as error:  # whatever a missing kernel raises, the answer is no
            return f"bitsandbytes fails on it ({type(error).__name__}: {error})"
    return None


def _bitsandbytes() -> ModuleType:
    """bitsandbytes, which where `kernels` is installed would fetch one of them at import."""
    absent = "kernels" not in sys.modules
    if absent:
        sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("bitsandbytes")
    finally:
        if absent:
            del sys.modules["kernels"]


def config(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What transformers wants to be told; `dtype` is the one that products are computed in."""
    if quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )

"""Checkpoints that were published quantized: recognised, and loaded as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.errors import QuantizationError
from nbllm.models.devices.cards import Card, Where
from nbllm.wording import said

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = [
    "RUN_UNPACKED", "fields_of", "kernel_problem", "method_of", "published", "stored_bytes",
    "unpacked",
]  # fmt: skip

# Formats that transformers runs only unpacked; it would do that by itself in the first pass.
RUN_UNPACKED = ("compressed-tensors",)

# What the packages are called that transformers asks for, where it names another.
_INSTALL = {"gptq": "gptqmodel optimum", "awq": "gptqmodel"}


def published(config: PreTrainedConfig) -> str | None:
    """Return how a checkpoint is quantized: int8, nf4, fp4, gptq, awq, fp8 and so on; None if not.

    Args:
        config: of the model.
    """
    found = fields_of(config)
    return None if found is None else method_of(found)


def fields_of(config: PreTrainedConfig) -> dict[str, Any] | None:
    """Return a copy of the `quantization_config` of a model; None where it has none.

    Args:
        config: of the model.
    """
    stated: Any = getattr(config, "quantization_config", None)
    if stated is None:
        return None
    return dict(stated if isinstance(stated, dict) else stated.to_dict())


def method_of(fields: Mapping[str, Any]) -> str:
    """Return the name of a quantization.

    Args:
        fields: the `quantization_config` of a configuration file.
    """
    if fields.get("load_in_8bit"):
        return "int8"
    if fields.get("load_in_4bit"):
        return str(fields.get("bnb_4bit_quant_type", "fp4"))
    method = fields.get("quant_method")
    return str(getattr(method, "value", method))


def kernel_problem(config: PreTrainedConfig, where: Where) -> str | None:
    """Return why published weights cannot stay packed on a device; None where they can.

    Args:
        config: of the model.
        where: the device.
    """
    import torch
    from transformers.quantizers.auto import AutoHfQuantizer

    from nbllm.models.silence import quiet

    method = published(config) or ""
    if isinstance(where, Card):
        return where.kernel_problem(method, torch.bfloat16)
    try:
        with quiet():
            quantizer = AutoHfQuantizer.from_config(config.quantization_config, pre_quantized=True)
            quantizer.validate_environment(device_map={"": where}, dtype=torch.bfloat16)
    except ImportError as error:
        wanted = _INSTALL.get(method)
        return f"{str(error).strip()}" + (f" (pip install {wanted})" if wanted else "")
    except Exception as error:  # whatever odd values of a configuration lead to
        return said(error)
    if getattr(quantizer.quantization_config, "dequantize", False):
        return f"transformers has no kernel for {method} on {where.type}"
    return None


def unpacked(config: PreTrainedConfig, source: str) -> Any:
    """Return the quantization config that has transformers unpack the weights while reading.

    Args:
        config: of the model.
        source: names it in the message.

    Raises:
        QuantizationError: transformers cannot unpack this format.
    """
    from transformers.quantizers.auto import AutoQuantizationConfig

    from nbllm.models.silence import quiet

    try:
        with quiet():
            settings: Any = AutoQuantizationConfig.from_dict(fields_of(config) or {})
    except Exception as error:  # as above
        raise QuantizationError(
            f"{source} states a quantization that transformers cannot read ({said(error)}). Check "
            "the quantization_config of its config.json."
        ) from error
    if not hasattr(settings, "dequantize") or callable(settings.dequantize):
        raise QuantizationError(
            f"{source} was published quantized ({published(config)}), which cannot be unpacked. "
            "Leave quantize out to load it as it is, or take the unquantized model."
        )
    settings.dequantize = True
    return settings


def stored_bytes(folder: Path) -> int:
    """Return the bytes of the weights on disk, which for packed ones is what they take in memory.

    Args:
        folder: the model's.
    """
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

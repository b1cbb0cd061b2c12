"""The memory of one linear layer in each quantization: stored, while quantized, and in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.models.quantization.published import fields_of
from nbllm.models.quantization.schemes import INT4_GROUP

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from nbllm.models.devices.cards import Where

__all__ = ["published_bytes", "quantizing_bytes", "stored_bytes", "working_bytes"]

# A weight takes 4 bits and, double-quantized, one 8-bit constant for 64 weights plus one
# 32-bit for 256 of those (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).
_NF4_BYTES = 0.5 + (8 + 32 / 256) / 64 / 8

# Bytes a weight at the worst moment of quantizing it, the result included.
_QUANTIZING_ON_CPU = {"int8": 10, "nf4": 14, "fp4": 18, "int4": 8, "int8wo": 8}
_QUANTIZING_ON_GPU = 3  # the weight in 16 bits, and the result

# torchao pads a matrix for its int4 kernel on CUDA (Int4TilePackedTo4dTensor).
_TILE_OUTPUTS, _TILE_INPUTS = 8, 1024


def stored_bytes(
    quantization: str, outputs: int, inputs: int, dtype: torch.dtype, where: Where
) -> int:
    """Return the bytes that stay in memory for a matrix, its constants included.

    Args:
        quantization: as `load` takes it.
        outputs: rows of the matrix.
        inputs: columns of the matrix.
        dtype: of weights that are not quantized.
        where: the device.
    """
    if quantization == "int4" and where.type == "cuda":
        outputs, inputs = _up_to(outputs, _TILE_OUTPUTS), _up_to(inputs, _TILE_INPUTS)
    count = outputs * inputs
    if quantization == "int8":  # one 32-bit constant for each row
        return count + 4 * outputs
    if quantization == "int8wo":  # as above, and an 8-bit zero point
        return count + 5 * outputs
    if quantization == "int4":  # a scale and a zero point in bf16 for each group
        return count // 2 + 4 * count // INT4_GROUP
    if quantization in ("nf4", "fp4"):
        return round(count * _NF4_BYTES)
    return count * dtype.itemsize


def quantizing_bytes(quantization: str, outputs: int, inputs: int, where: Where) -> int:
    """Return the peak in bytes while a matrix is quantized; 0 where it is read as it is.

    Args:
        quantization: as `load` takes it.
        outputs: rows of the matrix.
        inputs: columns of the matrix.
        where: the device.
    """
    if quantization not in _QUANTIZING_ON_CPU:
        return 0
    factor = _QUANTIZING_ON_CPU[quantization] if where.type == "cpu" else _QUANTIZING_ON_GPU
    return factor * outputs * inputs


def working_bytes(
    quantization: str, rows: int, outputs: int, inputs: int, dtype: torch.dtype, where: Where
) -> int:
    """Return the peak of temporary tensors, in bytes, in a product with a matrix.

    Input and result are not counted, except where temporary tensors are freed before the
    result is made, and outweigh it.

    Args:
        quantization: as `load` takes it.
        rows: vectors that are multiplied.
        outputs: rows of the matrix.
        inputs: columns of the matrix.
        dtype: that products are computed in.
        where: the device.
    """
    weights, results = outputs * inputs, rows * outputs
    if quantization == "int8":
        if where.type != "cpu":  # the input in 8 bits, and the sums in 32
            return rows * inputs + 4 * results
        # While the input is quantized: it in 16 bits, two copies in 32, a mask. Afterwards: it
        # in 8 bits, the sums in 32, a copy of them as floats, their scales and the product.
        return max(11 * rows * inputs, rows * inputs + 16 * results)
    if quantization in ("nf4", "fp4"):
        if where.type == "cpu" and _computes_in_4_bits():
            return 7 * weights  # in the first pass bitsandbytes packs the matrix anew
        if where.type != "cpu" and rows == 1:
            return 0
        return weights * dtype.itemsize + 4 * weights // 64  # unpacked, with its constants
    if quantization == "int4" and where.type == "cuda":  # the input, padded as the matrix is
        return rows * _up_to(inputs, _TILE_INPUTS) * dtype.itemsize if inputs % _TILE_INPUTS else 0
    if quantization in ("none", "int4"):
        return 0
    return weights * dtype.itemsize  # unpacked: int8wo, and those that were published quantized


def _up_to(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _computes_in_4_bits() -> bool:
    """Return whether bitsandbytes multiplies 4-bit weights here without unpacking them."""
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def published_bytes(config: PreTrainedConfig, outputs: int, inputs: int) -> int | None:
    """Return the same as `stored_bytes` for a checkpoint that was published quantized.

    Args:
        config: of the network.
        outputs: rows of the matrix.
        inputs: columns of the matrix.

    Returns:
        Bytes; None where its `quantization_config` does not say how many bits a weight has.
    """
    fields = fields_of(config) or {}
    for group in (fields.get("config_groups") or {}).values():  # compressed-tensors
        weights = group.get("weights") or {}
        fields |= {"bits": weights.get("num_bits"), "group_size": weights.get("group_size")}
    method = str(getattr(fields.get("quant_method"), "value", fields.get("quant_method")))
    bits = fields.get("bits") or fields.get("w_bit") or {"fp8": 8, "mxfp4": 4}.get(method)
    if not isinstance(bits, int):
        return None
    size = fields.get("group_size") or fields.get("q_group_size") or {"mxfp4": 32}.get(method)
    groups = -(-inputs // size) if isinstance(size, int) and size > 0 else 1
    # For each group of a row a 16-bit scale and a zero point of as many bits as a weight; for
    # mxfp4 an exponent of 8 bits.
    return outputs * (inputs * bits + groups * (8 if method == "mxfp4" else 16 + bits)) // 8

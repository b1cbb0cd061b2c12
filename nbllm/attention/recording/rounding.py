"""How far two numbers may be apart that would be equal without rounding."""

from __future__ import annotations

import torch

__all__ = ["rounding_tolerance"]

_LARGEST = 1e-3
_LARGEST_TF32 = 5e-3  # a product of TF32 has 10 bits
_LARGEST_HALF = 5e-2
# As torch names what float32 is multiplied in: of a backend, and up to 2.8 of all.
_PRECISIONS = {
    "tf32": _LARGEST_TF32,
    "high": _LARGEST_TF32,
    "bf16": _LARGEST_HALF,
    "medium": _LARGEST_HALF,
}


def rounding_tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """Return the largest relative error that rounding explains.

    It takes in the precision in which the user lets torch multiply float32, such as TF32.

    Args:
        dtype: The dtype that was computed in.
        device: The device that computed it.

    Example:
        >>> rounding_tolerance(torch.bfloat16, torch.device("cpu"))
        0.05
    """
    if dtype == torch.float64:
        return _LARGEST
    if dtype != torch.float32:
        return _LARGEST_HALF
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    settings = getattr(backend, "matmul", None)
    precision = getattr(settings, "fp32_precision", None) or torch.get_float32_matmul_precision()
    return _PRECISIONS.get(precision, _LARGEST)

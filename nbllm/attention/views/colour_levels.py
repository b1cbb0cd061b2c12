"""Colour levels of weights: by their square root or logarithm, full at the largest weight shown.

Pictures travel to the browser as one byte a cell, which holds the logarithm: from it come both
scales. widgets/shared/colour.ts reads it and has the same two scales.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scale", "codes", "full_colour", "levels", "scale_ticks"]

Scale = Literal["sqrt", "log"]

DECADES = 4  # of weights below the largest that the logarithmic scale and the codes tell apart


def full_colour(weights: NDArray[np.float32], sink: int | None) -> float:
    """Return the weight that gets full colour in the picture of a head.

    Args:
        weights: (rows, columns).
        sink: The column that does not count; None for none.

    Returns:
        The largest weight in magnitude; 1 where all are 0.

    Example:
        >>> full_colour(np.array([[0.9, 0.25], [0.7, -0.5]], np.float32), sink=0)
        0.5
    """
    sides = [weights] if sink is None else [weights[:, :sink], weights[:, sink + 1 :]]
    return max(float(np.abs(side).max(initial=0)) for side in sides) or 1.0


def levels(weights: NDArray[np.float32], full: float, scale: Scale) -> NDArray[np.float32]:
    """Return colour levels from 0 (no colour) to 1 (full).

    Args:
        weights: Weights of any shape; their sign does not count.
        full: The weight from which on colour is full.
        scale: "sqrt", or "log", on which `full` / 10,000 and less have no colour.

    Returns:
        float32, of the same shape.

    Example:
        >>> levels(np.array([0.0, 0.25, 1.0, 2.0], np.float32), 1.0, "sqrt").tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    shares = np.minimum(np.abs(weights) / np.float32(full), 1)
    if scale == "sqrt":
        return np.sqrt(shares)
    with np.errstate(divide="ignore"):
        return np.maximum(1 + np.log10(shares) / DECADES, 0).astype(np.float32)


def codes(
    weights: NDArray[np.float32], full: float, *, signed: bool
) -> NDArray[np.uint8] | NDArray[np.int8]:
    """Return weights as one byte each, right to a few percent.

    0 stands for no weight. From 1, which is `full` / 10,000, to 255 (±127 with a sign) at `full`
    the steps are even in the logarithm. Smaller weights become 0.

    Args:
        weights: Weights of any shape.
        full: The weight that gets the largest code.
        signed: Keep the sign.

    Returns:
        uint8, or int8 with a sign, of the same shape.

    Example:
        >>> codes(np.array([0, 1e-4, 1e-2, 1], np.float32), 1.0, signed=False).tolist()
        [0, 1, 128, 255]
    """
    most = 127 if signed else 255
    with np.errstate(divide="ignore"):
        places = 1 + np.log10(np.minimum(np.abs(weights) / np.float32(full), 1)) / DECADES
    steps = np.where(places >= 0, 1 + np.rint(places * (most - 1)), 0)
    return (np.sign(weights) * steps).astype(np.int8) if signed else steps.astype(np.uint8)


def scale_ticks(full: float, scale: Scale) -> tuple[str, str, str]:
    """Return the weights of no colour, half colour and full colour, as text.

    Args:
        full: The weight of full colour.
        scale: "sqrt" or "log".

    Example:
        >>> scale_ticks(0.36, "sqrt")
        ('0', '0.09', '0.36')
    """
    half = full / 4 if scale == "sqrt" else full / 10 ** (DECADES / 2)
    least = "0" if scale == "sqrt" else f"{full / 10**DECADES:.1e}"
    return least, f"{half:.3g}", f"{full:.3g}"

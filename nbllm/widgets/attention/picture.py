"""Encodes attention weights as PNG."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from nbllm.widgets.protocol.attention import LIGHT_COLOURS

__all__ = ["palette", "png", "png_url"]


def palette() -> NDArray[np.uint8]:
    """Return the colour of each level: red, green and blue, uint8, (256, 3)."""
    stops = np.array([[int(code[at : at + 2], 16) for at in (1, 3, 5)] for code in LIGHT_COLOURS])
    places = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), places, stops[:, part]) for part in range(3)]
    return np.stack(channels, 1).round().astype(np.uint8)


def png(levels: NDArray[np.uint8]) -> bytes:
    """Return an indexed PNG.

    Args:
        levels: The colour levels, 0 to 255, (rows, columns).
    """
    height, width = levels.shape
    lines = np.zeros(
        (height, width + 1), np.uint8
    )  # each line begins with its filter type, 0 for none
    lines[:, 1:] = levels
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", palette().tobytes()),
            (b"IDAT", zlib.compress(lines.tobytes())),
            (b"IEND", b""),
        )
    )


def png_url(levels: NDArray[np.uint8]) -> str:
    """Return the same PNG as a data: URL."""
    return "data:image/png;base64," + b64encode(png(levels)).decode("ascii")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

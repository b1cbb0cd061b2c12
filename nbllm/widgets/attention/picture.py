"""A picture of attention weights that needs no kernel, no script and no network."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLOURS", "palette", "png", "png_url"]

# From no weight to full colour; the light map of widgets/shared/colour.ts. After "mako" of
# seaborn: lightness falls evenly, so it reads the same to colour-blind eyes and in print.
COLOURS = (
    *("#f7fbfa", "#def5e5", "#ade3c0", "#6cd3ad", "#43bbad", "#35a1ab"),
    *("#3487a6", "#366da0", "#3d5296", "#403a75", "#35264c"),
)


def palette() -> NDArray[np.uint8]:
    """The colour of each level: (256, 3), red, green, blue."""
    stops = np.array([[int(code[at : at + 2], 16) for at in (1, 3, 5)] for code in COLOURS])
    places = np.linspace(0, 255, len(stops))
    parts = [np.interp(np.arange(256), places, stops[:, part]) for part in range(3)]
    return np.stack(parts, 1).round().astype(np.uint8)


def png(levels: NDArray[np.uint8]) -> bytes:
    """An indexed PNG of levels from 0 (no weight) to 255 (full colour), (rows, columns)."""
    height, width = levels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each line begins with its filter: none
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
    """The same picture as a data: URL."""
    return "data:image/png;base64," + b64encode(png(levels)).decode("ascii")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

"""The matrix of a head as SVG: a drawing with the tokens written at its sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from nbllm.widgets.picture import COLOURS, palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LABELLED", "matrix_svg"]

LABELLED = 64  # tokens a side, up to which each is written
LARGEST_SIDE = 128  # cells; what is pooled to more is a picture, and PNG's business
LEVELS = 32  # of colour: fewer than a picture's, for a drawing of fewer bytes
CELL = 14.0  # of a labelled matrix, in pixels
CELLS = 512.0  # side of one without labels
LETTER = 6.4  # width of one at 11 px, about
LONGEST_LABEL = 18
MARGIN = 12.0


def matrix_svg(
    levels: NDArray[np.uint8],
    title: str,
    legend: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> str:
    """A matrix of levels from 0 (no weight) to 255 (full colour), (rows, columns), as SVG.

    `rows` and `columns` are the tokens to write at its sides, all or none. Cells of one colour
    are one path, so that 64 tokens take some 50 kB.
    """
    height, width = levels.shape
    labels = [[_label(token) for token in side] for side in (rows, columns)]
    cell = CELL if rows else CELLS / max(height, width)
    left, above = (MARGIN + (6 + LETTER * max(map(len, side)) if side else 0.0) for side in labels)
    above += 22  # the title
    size = (
        max(left + cell * width + MARGIN, 2 * MARGIN + LETTER * max(len(title), len(legend))),
        above + cell * height + 24 + MARGIN,
    )
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {size[0]:.0f} {size[1]:.0f}",
            "width": f"{size[0]:.0f}",
            "height": f"{size[1]:.0f}",
            "role": "img",
            "font-family": "system-ui, sans-serif",
            "font-size": "11",
            "fill": "#222",
        },
    )
    SubElement(root, "title").text = _printable(title)
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    _write(root, MARGIN, MARGIN + 9, title, {"font-weight": "600"})
    _write(root, MARGIN, size[1] - MARGIN, legend, {"fill": "#555"})
    for row, label in enumerate(labels[0]):
        _write(root, left - 6, above + cell * (row + 0.75), label, {"text-anchor": "end"})
    for column, label in enumerate(labels[1]):
        x, y = left + cell * (column + 0.75), above - 6
        _write(root, x, y, label, {"transform": f"rotate(-90 {x:.1f} {y:.1f})"})
    place = f"translate({left:.1f} {above:.1f}) scale({cell:.4f})"
    cells = SubElement(root, "g", {"transform": place, "shape-rendering": "crispEdges"})
    _rectangle(cells, width, height, COLOURS[0])
    _paint(cells, levels)
    return tostring(root, encoding="unicode")


def _paint(parent: Element, levels: NDArray[np.uint8]) -> None:
    """One path for each colour, of runs of cells that lie side by side."""
    shown = np.rint(levels / 255 * (LEVELS - 1)).astype(int)
    colours = palette()[np.rint(np.linspace(0, 255, LEVELS)).astype(int)]
    for level in np.unique(shown[shown > 0]):
        edges = np.diff(np.pad(shown == level, ((0, 0), (1, 1))).astype(int), axis=1)
        rows, starts = np.nonzero(edges == 1)
        stops = np.nonzero(edges == -1)[1]
        runs = zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True)
        path = "".join(f"M{start} {row}h{stop - start}v1H{start}z" for row, start, stop in runs)
        red, green, blue = colours[level].tolist()
        SubElement(parent, "path", {"fill": f"#{red:02x}{green:02x}{blue:02x}", "d": path})


def _rectangle(parent: Element, width: int, height: int, fill: str) -> None:
    SubElement(parent, "rect", {"width": str(width), "height": str(height), "fill": fill})


def _write(parent: Element, x: float, y: float, text: str, how: dict[str, str]) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    SubElement(parent, "text", {**place, **how}).text = _printable(text)


def _label(token: str) -> str:
    """A token in one short line, with what is invisible made visible, as in the browser."""
    shown = token.replace("\r", "").replace("\n", "⏎").replace("\t", "⇥").strip() or "␣"
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def _printable(text: str) -> str:
    """Without what XML cannot hold: control characters, as the pictures that Unicode has."""
    return "".join(
        chr(0x2400 + ord(letter))
        if letter < " "
        else "\ufffd"
        if "\ud800" <= letter <= "\udfff" or letter in "\ufffe\uffff"
        else letter
        for letter in text
    )

"""The matrix of a head as SVG: a drawing with the tokens written at its sides."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import numpy as np

from nbllm.escaping import visible
from nbllm.widgets.attention.picture import palette, png_url
from nbllm.widgets.protocol.attention import LIGHT_COLOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_SIDE", "matrix_svg", "picture_size", "svg_url"]

LARGEST_SIDE = 128  # cells; what is pooled to more is a picture, and PNG's business
LEVELS = 32  # of colour: fewer than a picture's, for a drawing of fewer bytes
CELL = 14.0  # of a matrix of few tokens, in pixels
LETTER = 6.4  # width of one at 11 px, about
PITCH = 11.5  # between two tokens that are written
LONGEST_LABEL = 18
MARGIN = 12.0
BAR = 190.0  # width of the colour bar


def matrix_svg(
    shades: NDArray[np.uint8],
    title: str,
    legend: str,
    ticks: tuple[str, str, str],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    largest: float = 900.0,
    as_picture: bool = False,
) -> str:
    """A matrix of colour levels from 0 to 255, (rows, columns), as SVG.

    Each token is written at its side, or every second, third or so where there is less room.

    Args:
        shades: the colour levels.
        title: what stands above the matrix.
        legend: what the colour bar stands for.
        ticks: what stands at the beginning, the middle and the end of the colour bar.
        rows: the tokens of its left side, of which each row of cells may stand for several.
        columns: those of its upper side.
        largest: pixels of its longer side.
        as_picture: draw the cells as a PNG, which takes a tenth of the bytes and is shown as
            fast with many cells as with few, instead of one path for each colour.
    """
    height, width = shades.shape
    cell = min(CELL, largest / max(height, width))
    labels = [_placed(tokens, cell * count) for tokens, count in ((rows, height), (columns, width))]
    left, above = (
        MARGIN + (6 + LETTER * max(len(label) for _, label in side) if side else 0.0)
        for side in labels
    )
    above += 22  # the title
    size = (
        max(left + cell * width + MARGIN, 2 * MARGIN + LETTER * max(len(title), len(legend))),
        above + cell * height + 62,
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
    SubElement(root, "title").text = visible(title)
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    _write(root, MARGIN, MARGIN + 9, title, {"font-weight": "600"})
    _write(root, MARGIN, size[1] - MARGIN, legend, {"fill": "#555"})
    for at, label in labels[0]:
        _write(root, left - 6, above + at + 3.5, label, {"text-anchor": "end"})
    for at, label in labels[1]:
        x, y = left + at + 3.5, above - 6
        _write(root, x, y, label, {"transform": f"rotate(-90 {x:.1f} {y:.1f})"})
    _draw_bar(root, left, above + cell * height + 12, ticks)
    if as_picture:
        box = {"x": f"{left:.1f}", "y": f"{above:.1f}"}
        box |= {"width": f"{cell * width:.1f}", "height": f"{cell * height:.1f}"}
        finer = max(1, round(cell))  # so that no viewer blurs the cells
        url = png_url(shades.repeat(finer, 0).repeat(finer, 1))
        SubElement(root, "image", {**box, "href": url, "preserveAspectRatio": "none"})
        return tostring(root, encoding="unicode")
    place = f"translate({left:.1f} {above:.1f}) scale({cell:.4f})"
    cells = SubElement(root, "g", {"transform": place, "shape-rendering": "crispEdges"})
    _rectangle(cells, width, height, LIGHT_COLOURS[0])
    _paint(cells, shades)
    return tostring(root, encoding="unicode")


def svg_url(drawing: str) -> str:
    """A drawing as a data: URL."""
    return "data:image/svg+xml;base64," + b64encode(drawing.encode()).decode("ascii")


def picture_size(drawing: str) -> tuple[int, int]:
    """Width and height of a drawing, in pixels."""
    root = fromstring(drawing)
    return int(root.attrib["width"]), int(root.attrib["height"])


def _placed(tokens: Sequence[str], length: float) -> list[tuple[float, str]]:
    """The tokens to write along a side of so many pixels, and where: as many as there is room."""
    every = max(1, math.ceil(PITCH * len(tokens) / length))
    return [
        ((place + 0.5) * length / len(tokens), _label(tokens[place]))
        for place in range(0, len(tokens), every)
    ]


def _draw_bar(root: Element, x: float, y: float, ticks: tuple[str, str, str]) -> None:
    """The colours from none to full, and the weights that they stand for."""
    gradient = SubElement(SubElement(root, "defs"), "linearGradient", {"id": "weights"})
    for place, colour in enumerate(LIGHT_COLOURS):
        offset = f"{place / (len(LIGHT_COLOURS) - 1):.2f}"
        SubElement(gradient, "stop", {"offset": offset, "stop-color": colour})
    bar = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{BAR:.0f}", "height": "8"}
    SubElement(root, "rect", {**bar, "fill": "url(#weights)", "stroke": "#999"})
    for part, (tick, anchor) in enumerate(zip(ticks, ("start", "middle", "end"), strict=True)):
        _write(root, x + BAR * part / 2, y + 19, tick, {"text-anchor": anchor, "font-size": "10"})


def _paint(parent: Element, shades: NDArray[np.uint8]) -> None:
    """One path for each colour, of runs of cells that lie side by side."""
    shown = np.rint(shades / 255 * (LEVELS - 1)).astype(int)
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
    SubElement(parent, "text", {**place, **how}).text = visible(text)


def _label(token: str) -> str:
    """A token in one short line, with what is invisible made visible, as in the browser."""
    shown = token.replace("\r", "").replace("\n", "⏎").replace("\t", "⇥").strip() or "␣"
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"

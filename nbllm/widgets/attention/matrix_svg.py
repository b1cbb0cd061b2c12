"""Draws the matrix of a head as SVG, labelled with its tokens."""

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

LARGEST_SIDE = 128  # cells
LEVELS = 32  # of colour: fewer than in a PNG, for a smaller file
CELL = 14.0  # pixels of a cell at most
LETTER = 6.4  # approximate width at 11 px
PITCH = 11.5  # pixels between two labels at least
LONGEST_LABEL = 18
MARGIN = 12.0
BAR_WIDTH = 190.0


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
    """Return a matrix of colour levels as SVG.

    Args:
        shades: The colour levels, 0 to 255, (rows, columns).
        title: The text above the matrix.
        legend: The explanation of the colour bar.
        ticks: The labels at the start, the middle and the end of the colour bar.
        rows: The tokens on the left, of which every n-th is written if there is less room; a row
            of cells may stand for several.
        columns: The tokens at the top.
        largest: The pixels of the longer side.
        as_picture: Whether to embed the cells as a PNG, which takes a tenth of the bytes and
            renders fast with any number of cells, instead of one path per colour.
    """
    height, width = shades.shape
    cell = min(CELL, largest / max(height, width))
    labels = [
        _placed_labels(tokens, cell * count) for tokens, count in ((rows, height), (columns, width))
    ]
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
    _add_text(root, MARGIN, MARGIN + 9, title, {"font-weight": "600"})
    _add_text(root, MARGIN, size[1] - MARGIN, legend, {"fill": "#555"})
    for at, label in labels[0]:
        _add_text(root, left - 6, above + at + 3.5, label, {"text-anchor": "end"})
    for at, label in labels[1]:
        x, y = left + at + 3.5, above - 6
        _add_text(root, x, y, label, {"transform": f"rotate(-90 {x:.1f} {y:.1f})"})
    _draw_bar(root, left, above + cell * height + 12, ticks)
    if as_picture:
        box = {"x": f"{left:.1f}", "y": f"{above:.1f}"}
        box |= {"width": f"{cell * width:.1f}", "height": f"{cell * height:.1f}"}
        finer = max(1, round(cell))  # so that no viewer blurs the cells
        url = png_url(shades.repeat(finer, 0).repeat(finer, 1))
        SubElement(root, "image", {**box, "href": url, "preserveAspectRatio": "none"})
        return tostring(root, encoding="unicode")
    position = f"translate({left:.1f} {above:.1f}) scale({cell:.4f})"
    cells = SubElement(root, "g", {"transform": position, "shape-rendering": "crispEdges"})
    _rectangle(cells, width, height, LIGHT_COLOURS[0])
    _paint(cells, shades)
    return tostring(root, encoding="unicode")


def svg_url(drawing: str) -> str:
    """Return a drawing as a data: URL."""
    return "data:image/svg+xml;base64," + b64encode(drawing.encode()).decode("ascii")


def picture_size(drawing: str) -> tuple[int, int]:
    """Return the width and the height of a drawing, in pixels."""
    root = fromstring(drawing)
    return int(root.attrib["width"]), int(root.attrib["height"])


def _placed_labels(tokens: Sequence[str], length: float) -> list[tuple[float, str]]:
    """Return the labels that fit along a side of `length` pixels, with their positions."""
    every = max(1, math.ceil(PITCH * len(tokens) / length))
    return [
        ((position + 0.5) * length / len(tokens), _label(tokens[position]))
        for position in range(0, len(tokens), every)
    ]


def _draw_bar(root: Element, x: float, y: float, ticks: tuple[str, str, str]) -> None:
    """Draw the colour bar and its labels."""
    gradient = SubElement(SubElement(root, "defs"), "linearGradient", {"id": "weights"})
    for position, colour in enumerate(LIGHT_COLOURS):
        offset = f"{position / (len(LIGHT_COLOURS) - 1):.2f}"
        SubElement(gradient, "stop", {"offset": offset, "stop-color": colour})
    bar = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{BAR_WIDTH:.0f}", "height": "8"}
    SubElement(root, "rect", {**bar, "fill": "url(#weights)", "stroke": "#999"})
    for part, (tick, anchor) in enumerate(zip(ticks, ("start", "middle", "end"), strict=True)):
        _add_text(
            root, x + BAR_WIDTH * part / 2, y + 19, tick, {"text-anchor": anchor, "font-size": "10"}
        )


def _paint(parent: Element, shades: NDArray[np.uint8]) -> None:
    """Draw one path per colour, of runs of cells in a row."""
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


def _add_text(parent: Element, x: float, y: float, text: str, attributes: dict[str, str]) -> None:
    position = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    SubElement(parent, "text", {**position, **attributes}).text = visible(text)


def _label(token: str) -> str:
    """Return a token as one short line, with symbols for invisible characters."""
    shown = token.replace("\r", "").replace("\n", "⏎").replace("\t", "⇥").strip() or "␣"
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"

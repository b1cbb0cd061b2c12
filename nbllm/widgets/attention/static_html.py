"""Renders the attention viewer without a kernel: the selected head as HTML without script."""

from __future__ import annotations

import numpy as np

from nbllm.attention.views.colour_levels import levels
from nbllm.escaping import escape
from nbllm.widgets.attention.export import ExportableView, matrix_drawing
from nbllm.widgets.attention.initial_answers import picture_side
from nbllm.widgets.attention.matrix_svg import picture_size, svg_url
from nbllm.widgets.attention.sources import shrink
from nbllm.wording import counted

__all__ = ["static_html"]

SIDE = 256  # cells of the picture
PIXELS = 460.0


def static_html(view: ExportableView) -> str:
    """Return a picture of the matrix on screen, with a caption, as HTML."""
    source, selection = view.source, view.selection
    rows, columns = range(len(source.queries)), range(len(source.keys))
    size = picture_side(view.handler)
    place = view.stack, view.comparand
    weights, _, full = view.handler.cached_picture(*place, selection, rows, columns, size)
    shades = np.rint(255 * levels(shrink(weights, SIDE), full, view.scale)).astype(np.uint8)
    drawing = matrix_drawing(view, shades, full, largest=PIXELS, as_picture=True)
    head = f"layer {selection.layer}, head {selection.head}"
    if selection.reduce != "head":
        head = f"layer {selection.layer}, the {selection.reduce} of its heads"
    kind = "square root" if view.scale == "sqrt" else "logarithm"
    lines = [
        f"<strong>{escape(view.recording.model)}</strong>: attention of {head} over "
        f"{counted(len(rows), 'token')}. A row is a token that looks, a column one that is "
        f"looked at; colour is the {kind} of the weight, full at the largest, {full:.3g}."
    ]
    if source.signed:
        lines.append("It shows by how much two recordings differ, over their common tokens.")
    elif source.sink is not None:
        share = source.sink_mass(selection, rows).mean()
        lines.append(
            f"{_quoted(source.keys.tokens[source.sink])} takes {share:.0%} of the weight"
            + (
                " and is masked: the rest of each row is made whole again."
                if selection.mask_sink
                else " and is left out of the colour scale."
            )
        )
    if view.token is not None:
        row = source.weights(selection, [view.token], columns)[0]
        strongest = ", ".join(
            f"{_quoted(source.keys.tokens[key])} {row[key]:.3g}"
            for key in np.argsort(-np.abs(row))[:6]
            if row[key]
        )
        query = _quoted(source.queries.tokens[view.token])
        lines.append(f"From {query} (token {view.token}): {strongest}.")
    width, height = picture_size(drawing)
    # Size attributes, for front ends that strip styles.
    return (
        '<figure class="nbllm-attention-static" style="margin:8px 0;max-width:640px">'
        f'<img src="{svg_url(drawing)}" width="{width}" height="{height}" '
        f'alt="Attention matrix of {escape(view.recording.model)}, {head}" '
        'style="max-width:100%;height:auto;border:1px solid #8888">'
        f'<figcaption style="font-size:90%">{" ".join(lines)}</figcaption></figure>'
    )


def _quoted(token: str) -> str:
    """Return a token in quotation marks, as HTML."""
    shown = token.strip(" ").replace("\n", "⏎")
    return f"“{escape(shown)}”"

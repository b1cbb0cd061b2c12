"""An estimate of memory as text, as HTML and as a chart, from its figures and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nbllm.display.card import card
from nbllm.display.table import Table
from nbllm.display.theme import CHART, GREY, STACK
from nbllm.escaping import chart_text, escape, visible
from nbllm.models.estimate.requirement import Requirement
from nbllm.wording import byte_size

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["html", "plain", "plot"]

_HEAD = ("quantize", "context", "batch", "weights", "cache", "activations", "loading", "peak",
         "fits", "most texts")  # fmt: skip
_PARTS = ("weights", "cache", "activations", "more while loading")
# A memory that the highest bar fills less of than this would flatten all bars: it is named only.
_WORTH_A_LINE = 0.25


def plain(title: str, rows: Sequence[Requirement], remarks: Sequence[str]) -> str:
    """Return the table as text, between its title and its remarks.

    Args:
        title: the line above it.
        rows: one per quantization, context and batch.
        remarks: the lines below it.
    """
    return visible("\n".join([title, *_table(rows).lines(), *remarks]))


def html(title: str, rows: Sequence[Requirement], remarks: Sequence[str]) -> str:
    """Return the same as HTML: no script, no class, nothing fetched.

    Args:
        title: the line above it.
        rows: one per quantization, context and batch.
        remarks: the lines below it.
    """
    below = "".join(f"<div>{escape(remark)}</div>" for remark in remarks)
    return card(title, _table(rows).html(), below)


def plot(
    title: str, subtitle: str, rows: Sequence[Requirement], memories: Mapping[str, int]
) -> Figure:
    """Return stacked bars of what is held, with what loading takes beyond it.

    Args:
        title: of the chart.
        subtitle: the line below its title.
        rows: one bar each.
        memories: bytes, by what each is called: what is free, and then the whole. Each is a
            line, unless all bars end far below it.
    """
    from plotly.graph_objects import Figure

    figure = Figure()
    labels = [_label(row) for row in rows]
    for part, colour in zip(_PARTS, STACK, strict=True):
        sizes = [_size(row, part) for row in rows]
        if any(sizes):
            figure.add_bar(
                name=part,
                x=labels,
                y=[size / 1e9 for size in sizes],
                customdata=[byte_size(size) for size in sizes],
                hovertemplate="%{customdata}",
                marker_color=colour,
            )
    highest = max(row.peak for row in rows)
    sides = (("left", "dot"), ("right", "solid"))
    for (text, size), (side, dash) in zip(memories.items(), sides, strict=True):
        if highest < _WORTH_A_LINE * size:
            continue
        figure.add_hline(
            size / 1e9,
            line={"color": GREY, "dash": dash},
            annotation={"text": chart_text(f"{text}: {byte_size(size)}"), "yanchor": "bottom"},
            annotation_position=f"top {side}",
        )
    figure.update_layout(
        **CHART,
        barmode="stack",
        title={"text": chart_text(title), "subtitle": {"text": chart_text(subtitle)}},
        yaxis={"title": "GB", "rangemode": "tozero"},
    )
    return figure


def _table(rows: Sequence[Requirement]) -> Table:
    return Table(list(map(_cells, rows)), _HEAD, columns=["number" for _ in _HEAD])


def _cells(row: Requirement) -> tuple[str, ...]:
    sizes = (row.weights, row.cache, row.activations, row.loading, row.peak)
    return (
        row.quantization,
        f"{row.context:,}",
        f"{row.batch:,}",
        *map(byte_size, sizes),
        row.fits,
        f"{row.most_texts:,}",
    )


def _size(row: Requirement, part: str) -> int:
    return row.peak - row.running if part == "more while loading" else getattr(row, part)


def _label(row: Requirement) -> str:
    return f"{chart_text(row.quantization)}<br>{row.batch:,} × {row.context:,}"

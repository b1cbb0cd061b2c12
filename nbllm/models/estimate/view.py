"""How an Estimate is shown: as text, as HTML and as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.display.theme import CHART, GREY, STYLE
from nbllm.escaping import chart_text, escape, visible
from nbllm.models.memory.budget import BATCH_SHARE, LOAD_SHARE, readable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from nbllm.models.estimate.estimate import Estimate, Requirement

__all__ = ["html", "plain", "plot"]

_HEADS = ("quantize", "context", "batch", "weights", "cache", "activations", "loading", "peak",
          "fits", "most texts")  # fmt: skip
# Told apart by colour-blind readers too, and on light and dark ground.
_COLOURS = {
    "weights": "#4269d0",
    "cache": "#efb118",
    "activations": "#3ca951",
    "more while loading": "#9498a0",
}
# A memory that the highest bar fills less of than this would flatten all bars: it is named only.
_WORTH_A_LINE = 0.25


def plain(estimate: Estimate) -> str:
    """The table as text."""
    table = [_HEADS, *map(_cells, estimate.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in table]
    return visible("\n".join([_title(estimate), *lines, *_below(estimate)]))


def html(estimate: Estimate) -> str:
    """The table as HTML: no script, no class, nothing fetched."""
    heads = "".join(f'<th style="{STYLE["head"]};{STYLE["number"]}">{h}</th>' for h in _HEADS)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td style="{STYLE["cell"]};{STYLE["number"]}">{escape(cell)}</td>'
            for cell in _cells(row)
        )
        + "</tr>"
        for row in estimate.rows
    )
    below = "".join(f"<div>{escape(line)}</div>" for line in _below(estimate))
    return (
        f'<div style="{STYLE["card"]}"><div style="{STYLE["name"]}">{escape(_title(estimate))}'
        f'</div><table style="{STYLE["table"]}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{below}</div>"
    )


def plot(estimate: Estimate) -> Figure:
    """Stacked bars of what is held, with what loading takes beyond it, and the memory as lines."""
    from plotly.graph_objects import Figure

    figure = Figure()
    labels = [_label(row) for row in estimate.rows]
    for part, colour in _COLOURS.items():
        sizes = [_part(row, part) for row in estimate.rows]
        if any(sizes):
            figure.add_bar(
                name=part,
                x=labels,
                y=[size / 1e9 for size in sizes],
                customdata=[readable(size) for size in sizes],
                hovertemplate="%{customdata}",
                marker_color=colour,
            )
    highest = max(row.peak for row in estimate.rows)
    for text, size, side, dash in (
        ("free now", estimate.free, "left", "dot"),
        (f"memory of {_named(estimate)}", estimate.memory, "right", "solid"),
    ):
        if highest < _WORTH_A_LINE * size:
            continue
        figure.add_hline(
            size / 1e9,
            line={"color": GREY, "dash": dash},
            annotation={"text": chart_text(f"{text}: {readable(size)}"), "yanchor": "bottom"},
            annotation_position=f"top {side}",
        )
    figure.update_layout(
        **CHART,
        barmode="stack",
        title={
            "text": chart_text(_title(estimate)),
            "subtitle": {"text": chart_text(f"texts × tokens of each. {_memory(estimate)}")},
        },
        yaxis={"title": "GB", "rangemode": "tozero"},
    )
    return figure


def _part(row: Requirement, part: str) -> int:
    return row.peak - row.running if part == "more while loading" else getattr(row, part)


def _cells(row: Requirement) -> tuple[str, ...]:
    sizes = (row.weights, row.cache, row.activations, row.loading, row.peak)
    return (
        row.quantization,
        f"{row.context:,}",
        f"{row.batch:,}",
        *map(readable, sizes),
        row.fits,
        f"{row.most_texts:,}",
    )


def _label(row: Requirement) -> str:
    return f"{chart_text(row.quantization)}<br>{row.batch:,} × {row.context:,}"


def _title(estimate: Estimate) -> str:
    millions = f"{estimate.parameters / 1e6:,.0f} M parameters"
    return f"{estimate.name}: {millions}, {estimate.kind}, {estimate.dtype}"


def _below(estimate: Estimate) -> list[str]:
    """The lines under the table."""
    on_top = " Peaks come on top of what is in use now." if estimate.here else ""
    return [
        f"{_memory(estimate)}{on_top}",
        *_legend(estimate),
        f"Loaded with quantize='auto': {estimate.auto}",
        *estimate.notes,
    ]


def _legend(estimate: Estimate) -> list[str]:
    """How two columns are meant, which take other shares of the memory than "auto" does."""
    several = estimate.devices > 1
    spread = ", spread: over all of them with device_map='auto'" if several else ""
    on_one = "; on one of them where one text fits there, else over all" if several else ""
    return [
        f"fits: whether the peak is within what is free{spread}. quantize='auto' keeps weights and "
        f"cache within {LOAD_SHARE:.0%} of the memory.",
        f"most texts: of that context in one batch, in the {BATCH_SHARE:.0%} of what the weights "
        f"leave free that a run takes{on_one}.",
    ]


def _memory(estimate: Estimate) -> str:
    has = readable(estimate.memory)
    if not estimate.here:
        return f"{estimate.device}: {has} per card, {readable(estimate.free)} of it free for use."
    return f"This {estimate.device} has {has}, {readable(estimate.free)} of it free."


def _named(estimate: Estimate) -> str:
    return f"this {estimate.device}" if estimate.here else estimate.device

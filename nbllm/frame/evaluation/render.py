"""Renders the summary of an evaluation as text, HTML and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.display.card import card, remarks
from nbllm.display.table import Table
from nbllm.display.theme import BLUE, CHART, GREY, translucent
from nbllm.escaping import chart_text, visible
from nbllm.frame.evaluation.summary import Measure, Summary
from nbllm.stats import Bin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["html", "label_plot", "measures_plot", "text"]

_HEAD = ("", "value", "95 % interval", "baseline", "at random")


def text(summary: Summary) -> str:
    """Return the summary as text."""
    lines = [summary.heading, "", *_table(summary).lines(), "", summary.remark]
    return visible("\n".join(lines))


def html(summary: Summary) -> str:
    """Return the summary as HTML, without scripts or remote resources."""
    return card(summary.heading, _table(summary).html(), remarks(summary.remark))


def _table(summary: Summary) -> Table:
    """Return the measures as a table; the column of random choice only if it has values."""
    columns = len(_HEAD) if summary.has_chance else len(_HEAD) - 1
    rows = [_cells(measure)[:columns] for measure in summary.measures]
    return Table(rows, _HEAD[:columns])


def _cells(measure: Measure) -> tuple[str, ...]:
    references = ["" if x is None else _number(x) for x in (measure.baseline, measure.chance)]
    value, low, high = map(_number, measure.value)
    return measure.title, value, f"{low} to {high}", *references


def _number(value: float) -> str:
    return f"{value:.1f}" if value > 1 else f"{value:.3f}"


def label_plot(
    summary: Summary, labels: Sequence[str], counts: NDArray[np.int64], bins: Sequence[Bin]
) -> Figure:
    """Return a chart of the confusion matrix and, with a score, of the score's reliability.

    Args:
        summary: The summary of the evaluation, for the title.
        labels: The labels of both axes.
        counts: The number of rows by true label and answer, shape (labels, labels).
        bins: The reliability of the score; empty without a score.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2 if bins else 1, horizontal_spacing=0.15)
    names = [chart_text(label) for label in labels]
    figure.add_heatmap(
        x=names,
        y=names,
        z=counts,
        texttemplate="%{z:,}",
        colorscale=[[0, translucent(BLUE, 0.05)], [1, BLUE]],
        showscale=False,
        hovertemplate="true %{y}, answered %{x}: %{z:,}<extra></extra>",
        row=1,
        col=1,
    )
    figure.update_xaxes(title="answer", type="category", row=1, col=1)
    figure.update_yaxes(title="truth", type="category", autorange="reversed", row=1, col=1)
    if bins:
        rows = sum(b.rows for b in bins)
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, row=1, col=2
        )
        figure.add_scatter(
            x=[b.confidence for b in bins],
            y=[b.right for b in bins],
            mode="lines+markers",
            marker={"color": BLUE, "size": [6 + 24 * b.rows / rows for b in bins]},
            line={"color": BLUE},
            customdata=[b.rows for b in bins],
            hovertemplate="score %{x:.2f}: right in %{y:.2f} of %{customdata:,}<extra></extra>",
            row=1,
            col=2,
        )
        figure.update_xaxes(title="score", range=[0, 1.02], row=1, col=2)
        figure.update_yaxes(title="share right", range=[0, 1.02], row=1, col=2)
    return _styled(figure, summary)


def measures_plot(summary: Summary) -> Figure:
    """Return a chart of each measure with its interval and its baseline."""
    from plotly.graph_objects import Figure

    names = [chart_text(measure.title) for measure in summary.measures]
    values = [measure.value for measure in summary.measures]
    figure = Figure()
    figure.add_scatter(
        x=[value.value for value in values],
        y=names,
        error_x={
            "array": [value.high - value.value for value in values],
            "arrayminus": [value.value - value.low for value in values],
        },
        mode="markers",
        marker={"color": BLUE, "size": 10},
        name="answers",
    )
    figure.add_scatter(
        x=[measure.baseline for measure in summary.measures],
        y=names,
        mode="markers",
        marker={"color": GREY, "size": 10, "symbol": "diamond-open"},
        name=chart_text(f"baseline: {summary.baseline}"),
    )
    if summary.has_chance:
        figure.add_scatter(
            x=[measure.chance for measure in summary.measures],
            y=names,
            mode="markers",
            marker={"color": GREY, "size": 10, "symbol": "x-thin-open"},
            name="at random",
        )
    figure.update_yaxes(autorange="reversed")
    return _styled(figure, summary).update_layout(showlegend=True)


def _styled(figure: Figure, summary: Summary) -> Figure:
    return figure.update_layout(
        **CHART,
        title=chart_text(summary.heading),
        title_font_size=14,
        showlegend=False,
        legend={"orientation": "h", "y": -0.2},
        height=420,
    )

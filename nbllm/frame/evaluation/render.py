"""How an evaluation is shown: as text, as HTML, and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.display.theme import CHART, GREY, STYLE
from nbllm.escaping import chart_text, escape, visible

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from nbllm.frame.evaluation.base import Evaluation, LabelEvaluation, Measure

__all__ = ["html", "label_plot", "measures_plot", "text"]

_BLUE = "#0072B2"  # of Okabe and Ito (https://jfly.uni-koeln.de/color/)
_HEAD = ("", "value", "95 % interval", "baseline", "at random")


def text(evaluation: Evaluation) -> str:
    """The summary as text."""
    lines = _lines(evaluation)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return visible("\n".join([_heading(evaluation), "", *table, "", _remark(evaluation)]))


def html(evaluation: Evaluation) -> str:
    """The summary as HTML: no script, nothing fetched."""
    head, *lines = _lines(evaluation)
    return (
        f"<div style='{STYLE['card']}'><div style='{STYLE['name']}'>"
        f"{escape(_heading(evaluation))}</div>"
        f"<table style='{STYLE['table']}'>{_row('th', 'head', head)}"
        + "".join(_row("td", "cell", line) for line in lines)
        + f"</table><div style='{STYLE['about']}'>{escape(_remark(evaluation))}</div></div>"
    )


def _row(tag: str, style: str, cells: Sequence[str]) -> str:
    aligned = ("text", *["number"] * (len(cells) - 1))
    return (
        "<tr>"
        + "".join(
            f"<{tag} style='{STYLE[style]};{STYLE[align]}'>{escape(cell)}</{tag}>"
            for cell, align in zip(cells, aligned, strict=True)
        )
        + "</tr>"
    )


def _heading(evaluation: Evaluation) -> str:
    return f"{evaluation.output} against {evaluation.truth}, {evaluation.count:,} {evaluation.unit}"


def _lines(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """The head and each measure; without the last column where nothing can be drawn."""
    lines = [_HEAD, *map(_line, evaluation.measures)]
    drawn = any(measure.chance is not None for measure in evaluation.measures)
    return lines if drawn else [line[:-1] for line in lines]


def _line(measure: Measure) -> tuple[str, ...]:
    name = measure.name if measure.label is None else f"{measure.name} of {measure.label}"
    beside = ["" if x is None else _number(x) for x in (measure.baseline, measure.chance)]
    value, low, high = map(_number, measure.value)
    return name, value, f"{low} to {high}", *beside


def _number(value: float) -> str:
    return f"{value:.1f}" if value > 1 else f"{value:.3f}"


def _remark(evaluation: Evaluation) -> str:
    remark = f"The baseline is {evaluation.baseline}."
    if evaluation.unanswered:
        remark += f" Left out: {evaluation.unanswered:,} with a truth and no answer."
    return f"{remark} {evaluation.remark}".rstrip()


def label_plot(evaluation: LabelEvaluation) -> Figure:
    """The confusion matrix and, where there is a score, how often it is right."""
    from plotly.subplots import make_subplots

    bins = evaluation.bins
    figure = make_subplots(1, 2 if bins else 1, horizontal_spacing=0.15)
    labels = [chart_text(label) for label in evaluation.labels]
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=evaluation.counts,
        texttemplate="%{z:,}",
        colorscale=[[0, "rgba(0,114,178,0.05)"], [1, _BLUE]],
        showscale=False,
        hovertemplate="true %{y}, answered %{x}: %{z:,}<extra></extra>",
        row=1,
        col=1,
    )
    figure.update_xaxes(title="answer", type="category", row=1, col=1)
    figure.update_yaxes(title="truth", type="category", autorange="reversed", row=1, col=1)
    if bins:
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, row=1, col=2
        )
        figure.add_scatter(
            x=[b.confidence for b in bins],
            y=[b.right for b in bins],
            mode="lines+markers",
            marker={"color": _BLUE, "size": [6 + 24 * b.rows / evaluation.count for b in bins]},
            line={"color": _BLUE},
            customdata=[b.rows for b in bins],
            hovertemplate="score %{x:.2f}: right in %{y:.2f} of %{customdata:,}<extra></extra>",
            row=1,
            col=2,
        )
        figure.update_xaxes(title="score", range=[0, 1.02], row=1, col=2)
        figure.update_yaxes(title="share right", range=[0, 1.02], row=1, col=2)
    return _styled(figure, evaluation)


def measures_plot(evaluation: Evaluation) -> Figure:
    """Each measure with its interval, and its baseline."""
    from plotly.graph_objects import Figure

    names = [chart_text(_line(measure)[0]) for measure in evaluation.measures]
    values = [measure.value for measure in evaluation.measures]
    figure = Figure()
    figure.add_scatter(
        x=[value.value for value in values],
        y=names,
        error_x={
            "array": [value.high - value.value for value in values],
            "arrayminus": [value.value - value.low for value in values],
        },
        mode="markers",
        marker={"color": _BLUE, "size": 10},
        name="answers",
    )
    figure.add_scatter(
        x=[measure.baseline for measure in evaluation.measures],
        y=names,
        mode="markers",
        marker={"color": GREY, "size": 10, "symbol": "diamond-open"},
        name=chart_text(f"baseline: {evaluation.baseline}"),
    )
    if any(measure.chance is not None for measure in evaluation.measures):
        figure.add_scatter(
            x=[measure.chance for measure in evaluation.measures],
            y=names,
            mode="markers",
            marker={"color": GREY, "size": 10, "symbol": "x-thin-open"},
            name="at random",
        )
    figure.update_yaxes(autorange="reversed")
    return _styled(figure, evaluation).update_layout(showlegend=True)


def _styled(figure: Figure, evaluation: Evaluation) -> Figure:
    return figure.update_layout(
        **CHART,
        title=chart_text(_heading(evaluation)),
        title_font_size=14,
        showlegend=False,
        legend={"orientation": "h", "y": -0.2},
        height=420,
    )

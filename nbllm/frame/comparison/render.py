"""Renders a comparison as text, HTML and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from nbllm.display.card import card, terms
from nbllm.display.table import ColumnFormat, Table
from nbllm.display.theme import BLUE, CHART, GREEN, LIGHT_GREY, VERMILION, translucent
from nbllm.escaping import chart_text, escape, visible
from nbllm.frame.comparison.summary import (
    Agreement,
    ComparisonMeasure,
    ComparisonSummary,
    Differences,
    Formatter,
    format_share,
)
from nbllm.stats import Estimate
from nbllm.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["Points", "html", "margins_plot", "similarities_plot", "text"]

_HEAD = ("", "a", "b", "b against a")
_CELL = 160  # maximum characters of a table cell
_LABEL = 24  # maximum characters of a cell that is not wrapped

_COLOURS = {
    "same answer": BLUE,
    "different answers": VERMILION,
    "both right": BLUE,
    "both wrong": LIGHT_GREY,
    "only a right": VERMILION,
    "only b right": GREEN,
}


class Points(NamedTuple):
    """Rows as points of a chart."""

    a: NDArray[np.float64]  # margins of the first model, shape (rows,)
    b: NDArray[np.float64]  # margins of the second, negative where its answer differs
    texts: Sequence[tuple[Any, Any, Any]]  # input and both answers of each row


def text(summary: ComparisonSummary) -> str:
    """Return the summary as text."""
    table = Table(_rows(summary), _HEAD, columns=["text" for _ in _HEAD])
    models = [f"  a  {summary.a}", f"  b  {summary.b}"]
    lines = [summary.heading, *models, "", *table.lines(), "", *summary.remarks]
    return visible("\n".join(lines))


def html(summary: ComparisonSummary, differences: Differences) -> str:
    """Return the summary and some rows that differ as HTML, without scripts or remote resources."""
    remark = f"{counted(differences.count, 'row differs', 'rows differ')}."
    table = ""
    if differences.count:
        remark += " The most surprising of them:"
        columns: list[ColumnFormat] = [
            _column_format(cells) for cells in zip(*differences.rows, strict=True)
        ]
        rows = [list(map(_short, row)) for row in differences.rows]
        table = Table(rows, differences.head, columns=columns).html()
    return card(
        summary.heading,
        terms({"a": summary.a, "b": summary.b}),
        Table(_rows(summary), _HEAD, columns=["text", "text", "text", "long"]).html(),
        *(f"<div>{escape(line)}</div>" for line in (*summary.remarks, remark)),
        table,
    )


def _column_format(cells: Sequence[Any]) -> ColumnFormat:
    """Return the format of a column: numbers, labels, or long texts."""
    if all(isinstance(cell, float | int | None) for cell in cells):
        return "number"
    return "long" if any(len(str(cell)) > _LABEL for cell in cells) else "text"


def _short(value: Any) -> str:
    cell = format_share(value) if isinstance(value, float) else str(value)
    return cell if len(cell) <= _CELL else f"{cell[: _CELL - 3]}..."


def _rows(summary: ComparisonSummary) -> list[tuple[str, str, str, str]]:
    """Return the cells of each measure; agreements by margin follow the overall agreement."""
    first, *rest = (
        (m.name, _format(m.a, m.formatter), _format(m.b, m.formatter), _format_both(m))
        for m in summary.measures
    )
    by_margin = [
        (
            f"  where a's margin > {found.margin:g} ({counted(found.rows, 'row')})",
            "",
            "",
            _format(found.share, format_share),
        )
        for found in summary.agreements
    ]
    return [first, *by_margin, *rest]


def _format_both(measure: ComparisonMeasure) -> str:
    formatter = measure.formatter
    if measure.relation == "b − a":
        formatter = _signed(formatter)
    elif measure.relation == "b / a":
        formatter = "× {:.2f}".format
    return ", ".join(filter(None, (_format(measure.both, formatter), measure.remark)))


def _format(estimate: Estimate | None, formatter: Formatter) -> str:
    if estimate is None:
        return ""
    if isnan(estimate.value):
        return "–"
    value = formatter(estimate.value)
    if isnan(estimate.low):
        return value
    return f"{value} [{formatter(estimate.low)}, {formatter(estimate.high)}]"


def _signed(formatter: Formatter) -> Formatter:
    return lambda value: ("−" if value < 0 else "+") + formatter(abs(value))


def margins_plot(
    names: Mapping[str, str], groups: Mapping[str, Points], agreements: Sequence[Agreement]
) -> Figure:
    """Return a chart of the rows by both margins, and of agreement by the margin of `a`.

    Args:
        names: The names of the models, by "a" and "b".
        groups: The rows by outcome, such as "same answer".
        agreements: The agreements, by increasing margin of `a`.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.12)
    _add_rows(figure, groups)
    _add_agreement(figure, agreements)
    return _styled(figure, names)


def similarities_plot(names: Mapping[str, str], similarities: NDArray[np.float64]) -> Figure:
    """Return a histogram of the similarity of both answers.

    Args:
        names: The names of the models, by "a" and "b".
        similarities: The similarity of both answers, 0 to 1, shape (rows,).
    """
    from plotly.graph_objects import Figure, Histogram

    figure = Figure(Histogram(x=similarities, xbins={"start": 0, "end": 1.05, "size": 0.05}))
    figure.update_traces(marker_color=_COLOURS["same answer"])
    figure.update_xaxes(title="words in common of both answers", range=[0, 1.05])
    figure.update_yaxes(title="rows")
    return _styled(figure, names)


def _styled(figure: Figure, names: Mapping[str, str]) -> Figure:
    figure.update_layout(
        **CHART,
        title="<br>".join(chart_text(f"{side}: {name}") for side, name in names.items()),
        title_font_size=14,
        legend={"orientation": "h", "y": -0.2},
        height=480,
        margin={"t": 80},
    )
    return figure


def _add_rows(figure: Figure, groups: Mapping[str, Points]) -> None:
    for name, points in groups.items():
        figure.add_scatter(
            x=points.a,
            y=points.b,
            mode="markers",
            name=f"{name} ({len(points.a):,})",
            marker={"color": _COLOURS[name], "size": 6, "opacity": 0.6},
            text=[
                chart_text(f"{_short(subject)} | a: {a}, b: {b}") for subject, a, b in points.texts
            ],
            hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_hline(y=0, line={"color": LIGHT_GREY, "width": 1}, row=1, col=1)
    figure.update_xaxes(title="margin of a", row=1, col=1)
    figure.update_yaxes(title="margin of b; below 0: another answer", row=1, col=1)


def _add_agreement(figure: Figure, agreements: Sequence[Agreement]) -> None:
    """Add a line of agreement by the margin of `a`, with the interval as a band."""
    margins = [found.margin for found in agreements]
    shares = [found.share for found in agreements]
    colour = _COLOURS["same answer"]
    figure.add_scatter(
        x=[*margins, *reversed(margins)],
        y=[*(share.high for share in shares), *(share.low for share in reversed(shares))],
        fill="toself",
        fillcolor=translucent(colour, 0.2),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=margins,
        y=[share.value for share in shares],
        mode="lines+markers",
        line={"color": colour},
        customdata=[found.rows for found in agreements],
        hovertemplate="margin > %{x:.2f}: %{y:.3f} of %{customdata:,} rows<extra></extra>",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.update_xaxes(title="where the margin of a is above", row=1, col=2)
    figure.update_yaxes(title="share with the same answer", row=1, col=2)

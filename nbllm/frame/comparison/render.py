"""A comparison as text, as HTML and as a chart, from its summary and its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from nbllm.display.card import card, terms
from nbllm.display.table import Column, Table
from nbllm.display.theme import BLUE, CHART, GREEN, LIGHT_GREY, VERMILION, translucent
from nbllm.escaping import chart_text, escape, visible
from nbllm.frame.comparison.summary import Agreement, Differences, Form, Measure, Summary, share
from nbllm.stats import Estimate
from nbllm.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["Points", "html", "margins_plot", "similarities_plot", "text"]

_HEAD = ("", "a", "b", "b against a")
_CELL = 160  # characters of a text in a table
_LABEL = 24  # of a cell that need not be broken into lines

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

    a: NDArray[np.float64]  # the margin of each model, shape (rows,)
    b: NDArray[np.float64]  # below zero where it gives another answer
    texts: Sequence[tuple[Any, Any, Any]]  # the input, and both answers


def text(summary: Summary) -> str:
    """Return the summary as text."""
    table = Table(_rows(summary), _HEAD, columns=["text" for _ in _HEAD])
    sides = [f"  a  {summary.a}", f"  b  {summary.b}"]
    lines = [summary.heading, *sides, "", *table.lines(), "", *summary.remarks]
    return visible("\n".join(lines))


def html(summary: Summary, differences: Differences) -> str:
    """Return the summary and some rows that differ as HTML: no script, nothing fetched."""
    found = f"{counted(differences.count, 'row differs', 'rows differ')}."
    some = ""
    if differences.count:
        found += " The most surprising of them:"
        columns: list[Column] = [_form(cells) for cells in zip(*differences.rows, strict=True)]
        rows = [list(map(_short, row)) for row in differences.rows]
        some = Table(rows, differences.head, columns=columns).html()
    return card(
        summary.heading,
        terms({"a": summary.a, "b": summary.b}),
        Table(_rows(summary), _HEAD, columns=["text", "text", "text", "long"]).html(),
        *(f"<div>{escape(remark)}</div>" for remark in (*summary.remarks, found)),
        some,
    )


def _form(cells: Sequence[Any]) -> Column:
    """Return the form of a column of values: numbers, labels, or texts of several lines."""
    if all(isinstance(cell, float | int | None) for cell in cells):
        return "number"
    return "long" if any(len(str(cell)) > _LABEL for cell in cells) else "text"


def _short(value: Any) -> str:
    written = share(value) if isinstance(value, float) else str(value)
    return written if len(written) <= _CELL else f"{written[: _CELL - 3]}..."


def _rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Measure, a, b and both; agreement where `a` is sure goes below agreement."""
    first, *rest = (
        (m.name, _written(m.a, m.form), _written(m.b, m.form), _of_both(m))
        for m in summary.measures
    )
    sure = [
        (
            f"  where a's margin > {found.margin:g} ({counted(found.rows, 'row')})",
            "",
            "",
            _interval(*found.share, share),
        )
        for found in summary.sure
    ]
    return [first, *sure, *rest]


def _of_both(measure: Measure) -> str:
    form = {"b − a": _signed(measure.form), "b / a": _times}.get(measure.relation, measure.form)
    return ", ".join(filter(None, (_written(measure.both, form), measure.remark)))


def _written(estimate: Estimate | None, form: Form) -> str:
    return "" if estimate is None else _interval(*estimate, form)


def _interval(value: float, low: float, high: float, form: Form) -> str:
    if isnan(value):
        return "–"
    return form(value) if isnan(low) else f"{form(value)} [{form(low)}, {form(high)}]"


def _signed(form: Form) -> Form:
    return lambda value: ("−" if value < 0 else "+") + form(abs(value))


def _times(value: float) -> str:
    return f"× {value:.2f}"


def margins_plot(
    names: Mapping[str, str], groups: Mapping[str, Points], agreements: Sequence[Agreement]
) -> Figure:
    """Return a chart of the rows by both margins, and of agreement by the margin of `a`.

    Args:
        names: of the models, by "a" and "b".
        groups: the rows by outcome, such as "same answer".
        agreements: by margin of `a`.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.12)
    _add_rows(figure, groups)
    _add_agreement(figure, agreements)
    return _styled(figure, names)


def similarities_plot(names: Mapping[str, str], similarities: NDArray[np.float64]) -> Figure:
    """Return a histogram of how much two texts of a row have in common.

    Args:
        names: of the models, by "a" and "b".
        similarities: 0 to 1, shape (rows,).
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
                chart_text(f"{_short(subject)} | a: {of_a}, b: {of_b}")
                for subject, of_a, of_b in points.texts
            ],
            hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_hline(y=0, line={"color": LIGHT_GREY, "width": 1}, row=1, col=1)
    figure.update_xaxes(title="margin of a", row=1, col=1)
    figure.update_yaxes(title="margin of b; below 0: another answer", row=1, col=1)


def _add_agreement(figure: Figure, agreements: Sequence[Agreement]) -> None:
    """Agreement where `a` is sure, with its interval as a band."""
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

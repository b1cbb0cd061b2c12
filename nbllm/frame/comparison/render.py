"""How a comparison is shown: as text, as HTML, and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.display.theme import CHART
from nbllm.escaping import chart_text, escape, visible
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    from nbllm.frame.comparison.result import Comparison, Measure
    from nbllm.stats import Estimate

__all__ = ["html", "plain", "plot", "share", "text"]

_SHOWN = 5  # rows that differ, in HTML
_CELL = 160  # characters of a text in it

# Of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind eyes can tell apart.
_COLOURS = {
    "same answer": "#0072B2",
    "different answers": "#D55E00",
    "both right": "#0072B2",
    "both wrong": "#999999",
    "only a right": "#D55E00",
    "only b right": "#009E73",
}

Form = Callable[[float], str]


def share(value: float) -> str:
    """A proportion."""
    return f"{value:.3f}"


def plain(value: float) -> str:
    """Any other number, in three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def text(comparison: Comparison) -> str:
    """The summary as text."""
    lines = [("", "a", "b", "b against a"), *_lines(comparison)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    sides = [f"  a  {comparison.a.name}", f"  b  {comparison.b.name}"]
    told = [_heading(comparison), *sides, "", *table, "", *_remarks(comparison)]
    return visible("\n".join(told))


def html(comparison: Comparison) -> str:
    """The summary and some rows that differ as HTML: no script, nothing fetched."""
    head = ("", f"a: {comparison.a.name}", f"b: {comparison.b.name}", "b against a")
    differences = nw.from_native(comparison.differences, eager_only=True)
    names = [name for name in differences.columns if name not in ("a_run", "b_run")]
    found = f"{counted(len(differences), 'row differs', 'rows differ')}."
    if len(differences):
        shown = differences.select(names).head(_SHOWN).rows()
        found += f" The most surprising of them:{_table(names, shown)}"
    return (
        f"<div><b>{escape(_heading(comparison))}</b>{_table(head, _lines(comparison))}"
        + "".join(f"<div>{escape(remark)}</div>" for remark in _remarks(comparison))
        + f"<div>{found}</div></div>"
    )


def _heading(comparison: Comparison) -> str:
    columns = ", ".join(map(repr, comparison.columns))
    return f"{comparison.verb} of {columns}, {counted(comparison.count, 'row')}"


def _lines(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Measure, a, b and both; agreement where `a` is sure goes under agreement."""
    first, *rest = (
        (m.name, _written(m.a, m.form), _written(m.b, m.form), _of_both(m))
        for m in comparison.measures
    )
    if not comparison.gives_labels:
        return [first, *rest]
    rows = nw.from_native(comparison.by_margin, eager_only=True).rows(named=True)
    sure = [
        (
            f"  where a's margin > {row['margin_above']:g} ({counted(row['rows'], 'row')})",
            "",
            "",
            _interval(row["agreement"], row["low"], row["high"], share),
        )
        for row in rows
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


def _remarks(comparison: Comparison) -> list[str]:
    """What is to be known about the figures."""
    a, b = comparison.a.report, comparison.b.report
    found = [
        f"Of {counted(a.rows, 'row')} {a.blank:,} are blank; {a.failed:,} failed with a, "
        f"{b.failed:,} with b. The intervals hold with {100 * comparison.confidence:g} %."
    ]
    judged = int(comparison.judged.sum())
    if comparison.truth is not None and judged < comparison.count:
        found.append(f"Accuracy is of the {counted(judged, 'row')} that have a truth.")
    if a.known or b.known:
        found.append(
            f"{counted(a.known, 'text')} with a and {b.known:,} with b came from the ledger; time "
            f"is of the {a.computed:,} and {b.computed:,} computed here, where they are as many."
        )
    return found


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    style = "style='text-align:left;vertical-align:top'"
    names = "".join(f"<th {style}>{escape(name)}</th>" for name in head)
    rows = "".join(
        "<tr>" + "".join(f"<td {style}>{escape(_short(value))}</td>" for value in line) + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"


def _short(value: Any) -> str:
    written = share(value) if isinstance(value, float) else str(value)
    return written if len(written) <= _CELL else f"{written[: _CELL - 3]}..."


def plot(comparison: Comparison) -> Figure:
    """As `Comparison.plot` describes it."""
    sides = (("a", comparison.a), ("b", comparison.b))
    figure = _margins(comparison) if comparison.gives_labels else _similarities(comparison)
    figure.update_layout(
        **CHART,
        title="<br>".join(chart_text(f"{side}: {run.name}") for side, run in sides),
        title_font_size=14,
        legend={"orientation": "h", "y": -0.2},
        height=480,
        margin={"t": 80},
    )
    return figure


def _margins(comparison: Comparison) -> Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.12)
    _add_rows(figure, comparison)
    _add_agreement(figure, comparison)
    return figure


def _add_rows(figure: Figure, comparison: Comparison) -> None:
    """Each row by both margins, that of `b` below zero where it gives another answer."""
    a, b = comparison.floats("a_margin"), comparison.floats("b_margin")
    b = np.where(comparison.agree, b, -b)
    texts, of_a, of_b = map(comparison.values, (comparison.columns[0], "a", "b"))
    for name, chosen in _groups(comparison).items():
        rows = np.flatnonzero(chosen)
        figure.add_scatter(
            x=a[rows],
            y=b[rows],
            mode="markers",
            name=f"{name} ({len(rows):,})",
            marker={"color": _COLOURS[name], "size": 6, "opacity": 0.6},
            text=[chart_text(f"{_short(texts[n])} | a: {of_a[n]}, b: {of_b[n]}") for n in rows],
            hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
            row=1,
            col=1,
        )
    figure.add_hline(y=0, line={"color": "#999999", "width": 1}, row=1, col=1)
    figure.update_xaxes(title="margin of a", row=1, col=1)
    figure.update_yaxes(title="margin of b; below 0: another answer", row=1, col=1)


def _groups(comparison: Comparison) -> dict[str, NDArray[np.bool_]]:
    """The rows that are shown, by what there is to say of them."""
    answered, agree = comparison.answered, comparison.agree
    if comparison.truth is None:
        return {"same answer": answered & agree, "different answers": answered & ~agree}
    judged, a, b = comparison.judged, comparison.right("a"), comparison.right("b")
    return {
        "both right": judged & a & b,
        "both wrong": judged & ~a & ~b,
        "only a right": judged & a & ~b,
        "only b right": judged & ~a & b,
    }


def _add_agreement(figure: Figure, comparison: Comparison) -> None:
    """Agreement where `a` is sure, with its interval as a band."""
    margins = [step / 20 for step in range(20) if comparison.sure(step / 20).any()]
    estimates = [comparison.agreement_above(margin) for margin in margins]
    colour = _COLOURS["same answer"]
    figure.add_scatter(
        x=[*margins, *reversed(margins)],
        y=[*(e.high for e in estimates), *(e.low for e in reversed(estimates))],
        fill="toself",
        fillcolor="rgba(0,114,178,0.2)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=margins,
        y=[estimate.value for estimate in estimates],
        mode="lines+markers",
        line={"color": colour},
        customdata=[int(comparison.sure(margin).sum()) for margin in margins],
        hovertemplate="margin > %{x:.2f}: %{y:.3f} of %{customdata:,} rows<extra></extra>",
        showlegend=False,
        row=1,
        col=2,
    )
    figure.update_xaxes(title="where the margin of a is above", row=1, col=2)
    figure.update_yaxes(title="share with the same answer", row=1, col=2)


def _similarities(comparison: Comparison) -> Figure:
    from plotly.graph_objects import Figure, Histogram

    alike = comparison.floats("similarity")[comparison.answered]
    figure = Figure(Histogram(x=alike, xbins={"start": 0, "end": 1.05, "size": 0.05}))
    figure.update_traces(marker_color=_COLOURS["same answer"])
    figure.update_xaxes(title="words in common of both answers", range=[0, 1.05])
    figure.update_yaxes(title="rows")
    return figure

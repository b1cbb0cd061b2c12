"""Renders the explorer without a kernel: the first rows of its query, as HTML without script."""

from __future__ import annotations

from collections.abc import Sequence

from nbllm.display.table import ColumnFormat, Table
from nbllm.display.theme import STYLE
from nbllm.escaping import escape
from nbllm.widgets.explorer.answers import Answers
from nbllm.widgets.explorer.query import Query
from nbllm.widgets.explorer.rows import row_name
from nbllm.wording import counted

__all__ = ["static_html"]

ROWS = 50
_COLUMNS = 7
_TEXT = 120  # characters of a text: about two lines of the table
_SHORT = 32  # characters of any other cell, which has one line
_LONG_ROLES = ("text", "error")


def static_html(answers: Answers, query: Query, rows: Sequence[int]) -> str:
    """Return the first 50 rows of a query as HTML, with counts of the labels and of the failures.

    Args:
        answers: The answered frame.
        query: The filter and the sort.
        rows: The positions of the rows that match the query, in its order.
    """
    first = list(rows[:ROWS])
    roles = {name: answers.roles[name] for name in _names(answers)}
    cells = [
        answers.columns[name].cells(first, _TEXT if _is_long(answers, name, role) else _SHORT)
        for name, role in roles.items()
    ]
    formats: list[ColumnFormat] = [
        "long" if _is_long(answers, name, role) else "text" for name, role in roles.items()
    ]
    table = Table(
        [
            (row_name(answers, row), *(column[place] or "" for column in cells))
            for place, row in enumerate(first)
        ],
        ("", *roles),
        columns=["text", *formats],
    )
    about = _about(answers, query, len(rows), len(roles))
    # As wide as the page, since a table as narrow as possible breaks texts into short lines.
    return (
        f"<div class='nbllm-explorer-static' style='{STYLE['card']};display:block;max-width:100%'>"
        f"<div style='{STYLE['name']}'>{escape(answers.output)}</div>"
        f"<div style='{STYLE['about']}'>{escape(about)}</div>"
        "<div style='max-height:30em;overflow:auto' tabindex='0'>"
        f"{table.compact_html()}</div></div>"
    )


def _names(answers: Answers) -> list[str]:
    """Return the columns to show: those of the run first, without an empty column of errors."""
    names = [
        name
        for name, role in answers.roles.items()
        if role != "run" and not (role == "error" and answers.columns[name].missing.all())
    ]
    return names[:_COLUMNS]


def _is_long(answers: Answers, name: str, role: str) -> bool:
    """Return whether a column has texts of several lines."""
    return role in _LONG_ROLES or (role == "answer" and not answers.labels)


def _about(answers: Answers, query: Query, matched: int, columns: int) -> str:
    counts = [counted(len(answers), "row")]
    shown = answers.label_counts()
    counts += [f"{count:,} {label}" for label, count in shown.items()]
    for name, mask in (("failed", answers.failed), ("not asked", answers.unasked)):
        if mask.any():
            counts.append(f"{int(mask.sum()):,} {name}")
    if answers.truth is not None and answers.labels:
        counts.append(f"{int(answers.wrong.sum()):,} other than {answers.truth.name}")
    sentences = [", ".join(counts) + "."]
    if filters := query.filters():
        sentences.append(f"Only {', '.join(filters)}: {counted(matched, 'row')}.")
    if query.sort is not None:
        order = "descending" if query.descending else "ascending"
        sentences.append(f"Sorted by {query.sort}, {order}.")
    if matched > ROWS:
        sentences.append(f"The first {ROWS} are below.")
    if len(answers.roles) > columns:
        more = counted(len(answers.roles) - columns, "more column is", "more columns are")
        sentences.append(f"{more} in the frame.")
    return " ".join([*sentences, "Run the cell to sort, filter and correct them."])

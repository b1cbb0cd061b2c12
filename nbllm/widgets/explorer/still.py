"""The explorer without its kernel: the first rows as HTML, without script."""

from __future__ import annotations

from html import escape

from nbllm.models.theme import STYLE
from nbllm.widgets.explorer.answers import Answers
from nbllm.wording import counted

__all__ = ["still"]

ROWS = 50
_COLUMNS = 8
_CUT = 160  # characters of a cell


def still(answers: Answers) -> str:
    """The first 50 rows, how many there are of each label, and how many failed."""
    rows = range(min(len(answers), ROWS))
    names = list(answers.roles)[:_COLUMNS]
    cells = [answers.columns[name].cells(rows, _CUT) for name in names]
    head = _line("th", ("", *names))
    body = "".join(
        _line("td", (answers.named(row), *(column[row] or "" for column in cells))) for row in rows
    )
    return (
        f"<div class='nbllm-explorer-still' style='{STYLE['card']}'>"
        f"<div style='{STYLE['name']}'>{escape(answers.output)}</div>"
        f"<div style='{STYLE['about']}'>{escape(_about(answers))}</div>"
        "<div style='max-height:30em;overflow:auto' tabindex='0'>"
        f"<table style='{STYLE['table']};text-align:left'>{head}{body}</table></div></div>"
    )


def _about(answers: Answers) -> str:
    counts = [counted(len(answers), "row")]
    shown = answers.counts_of_labels()
    counts += [f"{count:,} {label}" for label, count in shown.items()]
    for name, mask in (("failed", answers.failed), ("not asked", answers.unasked)):
        if mask.any():
            counts.append(f"{int(mask.sum()):,} {name}")
    if answers.truth is not None and answers.labels:
        counts.append(f"{int(answers.wrong.sum()):,} other than {answers.truth.name}")
    about = ", ".join(counts) + "."
    if len(answers) > ROWS:
        about += f" The first {ROWS} are below."
    if len(answers.roles) > _COLUMNS:
        about += f" {counted(len(answers.roles) - _COLUMNS, 'more column is', 'more columns are')} in the frame."
    return f"{about} Run the cell to sort, filter and correct them."


def _line(tag: str, cells: tuple[str, ...]) -> str:
    # A style of each cell would be most of what a saved notebook holds.
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}" for cell in cells) + "</tr>"

"""Tables as text and as HTML, from plain cells that are escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nbllm.display.theme import BLUE, STYLE
from nbllm.escaping import escape

__all__ = ["Bar", "Cell", "Column", "Table"]

# "text" stays on one line, "long" wraps, "number" is aligned to the right.
Column = Literal["text", "long", "number"]

_BAR = "height:0.8em;margin-top:0.35em;border-radius:2px"
_BAR_WIDTH = "width:14em"
_ROW_NAME = "font-weight:400;max-width:18em;overflow:hidden;text-overflow:ellipsis"


class Bar(NamedTuple):
    """A cell that is a bar of a bar chart."""

    share: float  # of the widest, 0 to 1


Cell = str | Bar


@dataclass(frozen=True)
class Table:
    """Rows of cells, shown as text and as HTML.

    Attributes:
        rows: the cells of each row, as many in each.
        head: the names of the columns; empty for a table without a head.
        columns: the form of each column; by default text first, then numbers.
        caption: a line above it.
        label: what a screen reader calls a table without a caption.
        named_rows: whether the first cell of each row is a heading of it.
        fills: whether it is as wide as what it stands in, and not only as its cells.
    """

    rows: Sequence[Sequence[Cell]]
    head: Sequence[str] = ()
    columns: Sequence[Column] = ()
    caption: str = ""
    label: str = ""
    named_rows: bool = False
    fills: bool = True

    def lines(self) -> list[str]:
        """Return the table as lines of text, its columns below each other; bars are left out.

        The lines are not yet safe for a terminal (`nbllm.escaping.visible`).
        """
        table = [list(map(_plain, row)) for row in ([self.head] if self.head else [])]
        table += [list(map(_plain, row)) for row in self.rows]
        if not table:
            return []
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        forms = self._forms(len(widths))
        return [
            "  ".join(
                cell.rjust(width) if form == "number" else cell.ljust(width)
                for cell, width, form in zip(row, widths, forms, strict=True)
            ).rstrip()
            for row in table
        ]

    def html(self) -> str:
        """Return the table as HTML: no script, no class, nothing fetched."""
        width = "" if self.fills else ";width:auto"
        label = f' aria-label="{escape(self.label)}"' if self.label else ""
        caption = (
            f'<caption style="{STYLE["caption"]}">{escape(self.caption)}</caption>'
            if self.caption
            else ""
        )
        head = f"<thead><tr>{self._head()}</tr></thead>" if self.head else ""
        body = "".join(f'<tr style="background:none">{self._row(row)}</tr>' for row in self.rows)
        return (
            f'<table style="{STYLE["table"]}{width}"{label}>{caption}{head}'
            f"<tbody>{body}</tbody></table>"
        )

    def compact_html(self) -> str:
        """Return the table as HTML for many rows: attributes of cells instead of styles.

        Styles would be most of what a saved notebook holds, and are stripped by some that show it.
        """
        lines = [_compact("th", self.head, ["text" for _ in self.head])] if self.head else []
        lines += [_compact("td", map(_plain, row), self._forms(len(row))) for row in self.rows]
        style = f"{STYLE['table']};text-align:left"
        return f'<table cellpadding="4" style="{style}">{"".join(lines)}</table>'

    def _head(self) -> str:
        return "".join(
            f'<th scope="col" style="{STYLE["head"]};{STYLE[form]}">{escape(name)}</th>'
            for name, form in zip(self.head, self._forms(len(self.head)), strict=True)
        )

    def _row(self, cells: Sequence[Cell]) -> str:
        row = zip(cells, self._forms(len(cells)), strict=True)
        return "".join(
            _row_name(_plain(cell), form) if self.named_rows and n == 0 else _cell(cell, form)
            for n, (cell, form) in enumerate(row)
        )

    def _forms(self, count: int) -> Sequence[Column]:
        numbers: list[Column] = ["number"] * (count - 1)
        return self.columns or ["text", *numbers]


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else ""


def _cell(cell: Cell, form: Column) -> str:
    if isinstance(cell, Bar):
        bar = f'<div style="{_BAR};background:{BLUE};width:{100 * cell.share:.1f}%"></div>'
        return f'<td style="{STYLE["cell"]};{_BAR_WIDTH}">{bar}</td>'
    return f'<td style="{STYLE["cell"]};{STYLE[form]}">{escape(cell)}</td>'


def _row_name(name: str, form: Column) -> str:
    style = f"{STYLE['cell']};{STYLE[form]};{_ROW_NAME}"
    return f'<th scope="row" style="{style}">{escape(name)}</th>'


def _compact(tag: str, cells: Iterable[str], forms: Sequence[Column]) -> str:
    return "<tr>" + "".join(
        f"<{tag}{'' if form == 'long' else ' nowrap'}>{escape(cell)}"
        for cell, form in zip(cells, forms, strict=True)
    )

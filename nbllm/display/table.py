"""Renders tables as text and as HTML; all cells are escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nbllm.display.theme import BLUE, STYLE
from nbllm.escaping import escape

__all__ = ["Bar", "Cell", "ColumnFormat", "Table"]

# "text" stays on one line, "long" wraps, "number" is aligned to the right.
ColumnFormat = Literal["text", "long", "number"]

_BAR = "height:0.8em;margin-top:0.35em;border-radius:2px"
_BAR_WIDTH = "width:14em"
_ROW_NAME = "font-weight:400;max-width:18em;overflow:hidden;text-overflow:ellipsis"


class Bar(NamedTuple):
    """A cell with a bar of a bar chart."""

    share: float  # of the longest bar, 0 to 1


Cell = str | Bar


@dataclass(frozen=True)
class Table:
    """Rows of cells, shown as text and as HTML.

    Attributes:
        rows: The cells of each row.
        head: The names of the columns; empty for a table without a header row.
        columns: The format of each column; by default "text" first, then "number".
        caption: A line above the table.
        label: The label for screen readers of a table without a caption.
        named_rows: Whether the first cell of each row is its heading.
        full_width: Whether the table has its container's width instead of its cells'.
    """

    rows: Sequence[Sequence[Cell]]
    head: Sequence[str] = ()
    columns: Sequence[ColumnFormat] = ()
    caption: str = ""
    label: str = ""
    named_rows: bool = False
    full_width: bool = True

    def lines(self) -> list[str]:
        """Return the table as lines of aligned text, without bars.

        The lines are not safe for a terminal; see `nbllm.escaping.visible`.
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
        width = "" if self.full_width else ";width:auto"
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
        """Return the table as HTML for many rows, with attributes of cells instead of styles.

        Styles would be most of a saved notebook, and some viewers strip them.
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

    def _forms(self, count: int) -> Sequence[ColumnFormat]:
        numbers: list[ColumnFormat] = ["number"] * (count - 1)
        return self.columns or ["text", *numbers]


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else ""


def _cell(cell: Cell, form: ColumnFormat) -> str:
    if isinstance(cell, Bar):
        bar = f'<div style="{_BAR};background:{BLUE};width:{100 * cell.share:.1f}%"></div>'
        return f'<td style="{STYLE["cell"]};{_BAR_WIDTH}">{bar}</td>'
    return f'<td style="{STYLE["cell"]};{STYLE[form]}">{escape(cell)}</td>'


def _row_name(name: str, form: ColumnFormat) -> str:
    style = f"{STYLE['cell']};{STYLE[form]};{_ROW_NAME}"
    return f'<th scope="row" style="{style}">{escape(name)}</th>'


def _compact(tag: str, cells: Iterable[str], forms: Sequence[ColumnFormat]) -> str:
    return "<tr>" + "".join(
        f"<{tag}{'' if form == 'long' else ' nowrap'}>{escape(cell)}"
        for cell, form in zip(cells, forms, strict=True)
    )

"""Tables as text and as HTML."""

import re
from html.parser import HTMLParser

import pytest

from nbllm.display.table import Bar, Table

CELLS = [("soup", "3"), ("a <b>pie</b>", "12")]


class Cells(HTMLParser):
    """The text of each cell by its tag, with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, dict[str, str | None]]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("th", "td", "caption"):
            self.found.append((tag, "", dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, text, attributes = self.found[-1]
        self.found[-1] = (tag, text + data, attributes)

    def texts(self, tag: str) -> list[str]:
        return [text for found, text, _ in self.found if found == tag]


def test_lines_stand_below_each_other() -> None:
    table = Table(CELLS, ("dish", "price"))
    assert table.lines() == [
        "dish          price",
        "soup              3",
        "a <b>pie</b>     12",
    ]
    assert Table(CELLS, columns=("number", "text")).lines()[0] == "        soup  3"
    assert Table([]).lines() == []
    assert Table([], ("dish", "price")).lines() == ["dish  price"]


def test_html_holds_the_same_cells_and_no_markup_of_theirs() -> None:
    found = Cells(Table(CELLS, ("dish", "<i>"), caption="<b>menu").html())
    assert found.texts("caption") == ["<b>menu"]
    assert found.texts("th") == ["dish", "<i>"]
    assert found.texts("td") == [cell for row in CELLS for cell in row]
    assert set(found.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert all(a["scope"] == "col" for tag, _, a in found.found if tag == "th")
    alignments = [re.findall(r"text-align:(\w+)", str(a["style"]))[-1] for _, _, a in found.found]
    assert alignments == ["left", *["left", "right"] * 3]


def test_a_named_row_has_a_heading() -> None:
    rows = [("<b>soup", Bar(0.5), "3")]
    html = Table(rows, label="<b>menu", named_rows=True, full_width=False).html()
    found = Cells(html)
    assert found.texts("th") == ["<b>soup"] and found.texts("td") == ["", "3"]
    assert found.found[0][2]["scope"] == "row" and "width:50.0%" in html
    assert 'aria-label="&lt;b&gt;menu"' in html and "<b>" not in html
    assert "thead" not in found.tags and "caption" not in found.tags
    assert Table(rows).lines() == ["<b>soup    3"]


def test_a_compact_table_has_no_style_in_its_cells() -> None:
    html = Table(CELLS, ("dish", "price"), columns=("long", "text")).compact_html()
    assert "<tr><th nowrap>dish<th nowrap>price<tr><td>soup<td nowrap>3<tr>" in html
    assert html.count("style=") == 1 and "<b>" not in html


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        Table([("a", "b"), ("c",)]).lines()

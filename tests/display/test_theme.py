"""Charts that can be read on a light page and on a dark one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
import pytest

import nbllm
from nbllm.display.theme import CHART


@pytest.fixture
def themed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pio.templates, "default", pio.templates.default)
    nbllm.use_chart_theme()


def colours(layout: go.Layout) -> list[str]:
    """Of all that a page shows through."""
    return [layout.paper_bgcolor, layout.plot_bgcolor, layout.modebar.bgcolor]


def test_a_chart_in_the_theme_has_no_ground_of_its_own_nor_has_its_toolbar(themed) -> None:
    template = pio.templates["plotly_white"].layout, pio.templates["nbllm"].layout
    assert colours(template[1]) == ["rgba(0,0,0,0)"] * 3
    assert template[1].font.color == template[1].modebar.activecolor == "#888888"


def test_nor_has_one_of_our_own() -> None:
    layout = go.Figure().update_layout(**CHART).layout
    assert colours(layout) == ["rgba(0,0,0,0)"] * 3


def written(pattern: str) -> Iterator[str]:
    """The modules outside of display whose strings hold what the pattern matches."""
    package = Path(nbllm.__file__).parent
    for path in package.rglob("*.py"):
        inside = path.relative_to(package)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
        if inside.parts[0] != "display" and any(
            isinstance(text, str) and re.search(pattern, text) for text in texts
        ):
            yield inside.as_posix()


def test_tables_and_lists_of_terms_are_written_in_display_alone() -> None:
    assert sorted(written("<(?:table|tr|td|th|dl|dt|dd)\\b")) == []


def test_colours_are_written_in_display_alone() -> None:
    """But for the colours of an attention matrix, which the browser's half has too."""
    assert sorted(written("#[0-9a-fA-F]{6}\\b|rgba?\\([0-9]")) == ["widgets/protocol/attention.py"]

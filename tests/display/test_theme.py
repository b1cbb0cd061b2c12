"""Charts that can be read on a light page and on a dark one."""

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

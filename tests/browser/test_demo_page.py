"""The HTML that `make demo` writes shows all of it with the network off and no kernel."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser

DEMO = Path(__file__).parents[2] / "notebooks" / "demo.py"
CELLS = [
    "import pandas as pd, plotly.express as px, nbllm",
    "table = pd.DataFrame({'review': ['A delight.'], 'label': ['positive']})\ntable",
    "px.bar(table, x='label', y=[1])",
    "nbllm.inspect(nbllm.load(), 'The plot was thin, but I loved it.')",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, smollm2) -> tuple[str, Path]:
    """The table and the page of a notebook, made by the demo."""
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None and spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    folder = tmp_path_factory.mktemp("demo")
    cells = [new_code_cell(source) for source in CELLS]
    cells[1].metadata["tags"] = ["demo-table"]
    nbformat.write(new_notebook(cells=cells), folder / "small.ipynb")
    notebook = demo.execute(folder / "small.ipynb")
    page = folder / "small.html"
    page.write_text(demo.html(notebook), encoding="utf-8")
    return demo.table(notebook), page


def test_table_is_printed_as_text(executed) -> None:
    table, _ = executed
    assert table.split() == ["review", "label", "0", "A", "delight.", "positive"]


def test_page_shows_table_chart_and_attention_offline(executed, chromium) -> None:
    _, path = executed
    context = chromium.new_context()
    asked, errors = [], []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.route("http*://**", lambda route: route.abort())
    page.goto(path.as_uri())
    page.get_by_role("table").wait_for()
    page.wait_for_selector(".js-plotly-plot .main-svg")
    picture = page.get_by_role("img", name="Attention matrix of smollm2")
    assert picture.evaluate("(image) => image.naturalWidth") > 0
    assert [url for url in asked if url.startswith("http")] == []
    assert errors == []
    context.close()

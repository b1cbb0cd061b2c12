"""What a saved notebook shows where there is no kernel: with its styles, and without them.

GitHub and others leave out styles, classes and scripts.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

import nbllm
from tests.conftest import tiny_model

pytestmark = pytest.mark.browser

TEXT = "The soup was warm <b>and</b> the staff 我们喜欢 were kind, so we stayed until they closed. "
STYLES = re.compile(r"""\s(?:style|class)=(?:"[^"]*"|'[^']*')""")


@pytest.fixture(params=["with styles", "without styles"])
def open_still(request, chromium) -> Iterator[Callable[[str, int], Any]]:
    """Opens a still in a page of some width, as it was saved."""
    pages = []

    def opened(still: str, width: int) -> Any:
        page = chromium.new_page(viewport={"width": width, "height": 700})
        pages.append(page)
        shown = STYLES.sub("", still) if request.param == "without styles" else still
        page.set_content(f"<!doctype html><body style='font:13px sans-serif'>{shown}")
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.mark.parametrize("repeated", [1, 12], ids=["every token", "as many as there is room for"])
def test_the_matrix_can_be_seen_with_its_tokens(open_still, repeated) -> None:
    view = nbllm.inspect(tiny_model("causal"), TEXT * repeated)
    page = open_still(view._static_html(), 1100)
    image = page.locator("img")
    image.evaluate("(image) => image.decode()")
    box = image.bounding_box()
    assert 400 <= box["width"] <= 1100 and 300 <= box["height"] <= 900
    # At its own shape, and of the size that it was drawn for.
    natural = image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert [round(box["width"]), round(box["height"])] == pytest.approx(natural, abs=3)
    # Beside the first row and above the first column something is written.
    dark = image.evaluate(
        """(image) => {
            const canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth;
            canvas.height = image.naturalHeight;
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 30, 60, canvas.height - 130);
            let count = 0;
            for (let at = 0; at < data.length; at += 4) count += data[at] < 128;
            return count;
        }"""
    )
    assert dark > 100


@pytest.mark.parametrize("width", [1440, 1100])
def test_the_rows_of_the_explorer_have_a_line_or_two(open_still, width) -> None:
    frame = pd.DataFrame({"review": [f"{TEXT}{n}" for n in range(30)], "stars": range(30)})
    answered = frame.llm.sentiment(
        "review", model=tiny_model("causal"), probabilities=True, ledger=False
    )
    view = answered.llm.explore()
    view.sort, view.descending = "stars", True
    page = open_still(view._static_html(), width)
    heights = page.locator("tr").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    assert len(heights) == 31 and max(heights) <= 75
    first = page.locator("tr td:first-child").all_inner_texts()
    assert first == [str(row) for row in range(29, -1, -1)]
    table = page.locator("table").bounding_box()
    assert table["width"] > 0.8 * width

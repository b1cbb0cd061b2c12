"""The attention view in Notebook 7, brought there by its cell magic."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WIDGET = ".nbllm-attention"
MATRIX = f"{WIDGET} .matrix canvas"
TEXT = "The soup was warm, and <b>the staff</b> were kind."
BLANK = """(canvas) => {
    const blank = document.createElement('canvas');
    [blank.width, blank.height] = [canvas.width, canvas.height];
    return blank.toDataURL();
}"""


@pytest.fixture
def notebook7(open_lab, chromium, notebook7_server):
    with open_lab(chromium, notebook7_server) as page:
        yield page


def test_the_magics_view_is_painted_and_speaks_with_the_kernel(notebook7, tiny_folder) -> None:
    load = f"%load_ext nbllm\nimport nbllm\nllm = nbllm.load({str(tiny_folder('causal'))!r})"
    notebook7.write("magic.ipynb", load, f"%%attention --model llm --layer 1 --head 2\n{TEXT}")
    notebook7.open("magic.ipynb")
    notebook7.page_errors.clear()  # Notebook's own settings may stumble while they load
    notebook7.run_all()
    page = notebook7.page
    page.wait_for_selector(f"{WIDGET} [data-shown], {WIDGET}[data-shown]")
    expect(page.locator(".nbllm-attention-static")).to_be_hidden()
    canvas = page.locator(MATRIX).first
    before = notebook7.pixels(MATRIX)
    assert before != canvas.evaluate(BLANK)

    page.locator(f"{WIDGET} [role=gridcell][aria-selected=true]").click()
    page.keyboard.press("ArrowUp")
    notebook7.wait_for_value("[Out[2].layer, Out[2].head]", [1, 1])
    page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).toDataURL() !== before",
        arg=[MATRIX, before],
    )
    expect(page.locator(f"{WIDGET} .words b")).to_have_count(0)
    expect(page.locator(f"{WIDGET} .words")).to_contain_text(
        "<b>the staff</b>", use_inner_text=True
    )
    notebook7.screenshot("notebook7")

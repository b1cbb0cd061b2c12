"""The quickstart as a reader has it: run in JupyterLab, with the widget used by hand."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WIDGET = ".nbllm-attention"
# The explanation is a cell's value; the kernel keeps those in Out.
WHY = "next(value for value in Out.values() if type(value).__name__ == 'Explanation')"
VIEW = f"{WHY}.attention"


@pytest.fixture(scope="module")
def quickstart(open_lab, chromium, lab_server) -> Iterator:
    """The notebook, run from top to bottom, with the opened row on screen."""
    with open_lab(chromium, lab_server) as lab:
        lab.open("00_quickstart.ipynb")
        lab.run_all(timeout_s=600)
        lab.show_cell(".llm.explain(")
        lab.page.wait_for_selector(f"{WIDGET} [role=gridcell][aria-selected=true]")
        take_pictures(lab)
        yield lab


def take_pictures(lab) -> None:
    """The row as it was opened, light and dark, for the README and for a person to look at."""
    small = lab.page.viewport_size
    lab.page.set_viewport_size({"width": 1340, "height": 1460})
    lab.page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.theme(theme)
        lab.show_cell(".llm.explain(")
        lab.page.wait_for_timeout(1500)  # the pictures are drawn anew
        lab.screenshot(f"quickstart-{theme.split()[-1].lower()}")
    lab.page.set_viewport_size(small)


def test_the_rows_words_are_painted_above_the_view(quickstart) -> None:
    words = quickstart.page.locator(".nbllm-explanation")
    expect(words).to_have_count(1)
    label = quickstart.evaluate(f"{WHY}.contrast.label")
    assert words.inner_text().startswith(f"{label} 0.")
    assert words.locator("span[title]").count() == quickstart.evaluate(f"len({WHY}.words())")
    above, below = words.bounding_box(), quickstart.page.locator(WIDGET).bounding_box()
    assert above["y"] < below["y"]
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        quickstart.theme(theme)
        quickstart.page.wait_for_timeout(500)
        assert quickstart.violations(".nbllm-explanation") == []


def test_a_head_for_each_layer_and_head_of_the_model(quickstart) -> None:
    layers, heads = quickstart.evaluate(f"[len({VIEW}.recording.layers), {VIEW}.recording.heads]")
    assert quickstart.page.locator(f"{WIDGET} [role=gridcell]").count() == layers * heads == 270


def test_clicking_a_head_changes_it_in_the_kernel(quickstart) -> None:
    quickstart.page.get_by_label("layer 7, head 3", exact=True).click()
    quickstart.wait_for_value(f"[{VIEW}.layer, {VIEW}.head]", [7, 3])
    quickstart.page.keyboard.press("ArrowRight")
    quickstart.wait_for_value(f"[{VIEW}.layer, {VIEW}.head]", [8, 3])


def test_the_kernel_changes_the_head_on_screen(quickstart) -> None:
    quickstart.evaluate(f"{VIEW}.set_trait('layer', 12)")
    selected = quickstart.page.locator(f"{WIDGET} [role=gridcell][aria-selected=true]")
    head = quickstart.evaluate(f"{VIEW}.head")
    quickstart.page.wait_for_selector(
        f"{WIDGET} [role=gridcell][aria-selected=true][aria-label='layer 12, head {head}']"
    )
    expect(selected).to_have_count(1)


def test_choosing_a_word_chooses_its_token_in_the_kernel(quickstart) -> None:
    quickstart.page.locator(f"{WIDGET} .words .mark [role=option]").nth(2).click()
    quickstart.wait_for_value(
        f"{VIEW}.token", quickstart.evaluate(f"{VIEW}.recording.field_spans[0].start") + 2
    )


def test_the_matrix_tells_the_weight_that_the_kernel_has(quickstart) -> None:
    quickstart.page.get_by_label("layer 0, head 0", exact=True).click()
    quickstart.wait_for_value(f"[{VIEW}.layer, {VIEW}.head]", [0, 0])
    canvas = quickstart.page.locator(f"{WIDGET} .matrix canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    quickstart.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.8)
    quickstart.page.wait_for_selector(f"{WIDGET} .readout .weight")
    said = quickstart.page.locator(f"{WIDGET} .readout").inner_text()
    found = re.search(r" (\d+) → .* (\d+): <?(\d\.\d+)", said, re.DOTALL)
    assert found, said
    query, key, weight = int(found[1]), int(found[2]), float(found[3])
    exact = quickstart.evaluate(f"float({VIEW}.recording.weights(0, 0)[{query}, {key}])")
    assert weight == pytest.approx(exact, abs=1e-3)


def test_the_table_and_the_chart_are_shown(quickstart) -> None:
    quickstart.show_cell("text_sentiment_score")
    table = quickstart.page.locator(".jp-RenderedHTMLCommon table").filter(
        has_text="text_sentiment_score"
    )
    table.first.wait_for()
    assert {"positive", "negative"} & set(table.first.inner_text().split())
    quickstart.show_cell("px.strip")
    quickstart.page.wait_for_selector(".js-plotly-plot .main-svg")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_in_the_widget(quickstart, theme: str) -> None:
    quickstart.theme(theme)
    quickstart.show_cell(".llm.explain(")
    quickstart.page.wait_for_selector(f"{WIDGET} [role=gridcell][aria-selected=true]")
    quickstart.page.wait_for_timeout(500)  # the theme's stylesheet and the redraw
    assert quickstart.violations(WIDGET) == []


def test_the_theme_recolours_text_and_pictures(quickstart) -> None:
    seen = {}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        quickstart.theme(theme)
        quickstart.show_cell(".llm.explain(")
        quickstart.page.wait_for_selector(f"{WIDGET} [role=gridcell][aria-selected=true]")
        quickstart.page.wait_for_timeout(1000)  # the pictures are drawn anew
        seen[theme] = [
            quickstart.colour(WIDGET, "color"),
            quickstart.pixels(f"{WIDGET} .heads canvas"),
            quickstart.pixels(f"{WIDGET} .matrix canvas"),
        ]
    light, dark = seen.values()
    assert all(before != after for before, after in zip(light, dark, strict=True))


def test_nothing_left_the_machine_and_no_page_error(quickstart) -> None:
    assert quickstart.left_the_machine == []
    assert quickstart.page_errors == []

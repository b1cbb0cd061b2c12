"""A view's HTML file, opened from disk in a Chromium without a network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from nbllm.attention.recording.capture import record
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.widgets.attention.view import AttentionView, inspect
from nbllm.widgets.protocol.attention import PAGE_FORMAT
from tests.conftest import tiny_model

pytestmark = pytest.mark.browser

WIDGET = ".nbllm-attention"
MATRIX = f"{WIDGET} .matrix canvas"
SELECTED = f"{WIDGET} [role=gridcell][aria-selected=true]"
NOT_HERE = "view.to_html(path, heads="
TEXT = "The soup was warm, and the staff were kind, so we stayed until they closed."
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"


@dataclass
class Opened:
    """A page from disk, and what it asked for or got wrong."""

    page: Any
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def pixels(self) -> str:
        found: str = self.page.locator(MATRIX).first.evaluate("(canvas) => canvas.toDataURL()")
        return found

    def wait_for_other_pixels(self, before: str) -> None:
        self.page.wait_for_function(
            "([selector, before]) => document.querySelector(selector).toDataURL() !== before",
            arg=[MATRIX, before],
        )


@pytest.fixture
def open_page(chromium, tmp_path) -> Iterator[Callable[..., Opened]]:
    """Writes a view as a page and opens it; at the end it asked for nothing but itself."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1100}, offline=True)
    made = []

    def opened(view: AttentionView, **options: Any) -> Opened:
        path: Path = view.to_html(tmp_path / "view.html", **options).path
        found = Opened(context.new_page())
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on(
            "console",
            lambda said: found.errors.append(said.text) if said.type == "error" else None,
        )
        found.page.goto(path.as_uri())
        found.page.wait_for_selector(SELECTED)
        made.append((path.as_uri(), found))
        return found

    yield opened
    for url, found in made:
        assert [other for other in found.asked if other != url and not is_inline(other)] == []
        assert found.errors == []
    context.close()


def is_inline(url: str) -> bool:
    return url.startswith(("data:", "blob:"))


def test_the_keyboard_switches_the_head_and_the_picture_changes(open_page, tiny_llama) -> None:
    view = inspect(tiny_llama, TEXT)
    view.layer, view.head = 1, 2
    opened = open_page(view)
    selected = opened.page.locator(SELECTED)
    assert selected.get_attribute("aria-label").startswith("layer 1, head 2")
    opened.wait_for_other_pixels("data:,")
    before = opened.pixels()
    selected.focus()
    opened.page.keyboard.press("ArrowLeft")
    opened.wait_for_other_pixels(before)
    assert opened.page.locator(SELECTED).get_attribute("aria-label").startswith("layer 0, head 2")
    expect(opened.page.locator("footer")).to_contain_text(
        "exact weights of 8 heads", use_inner_text=True
    )
    opened.page.screenshot(path=artifact("page"), full_page=True)


def test_a_page_of_another_format_says_so(chromium, tmp_path, tiny_llama) -> None:
    path = inspect(tiny_llama, TEXT).to_html(tmp_path / "view.html").path
    text = path.read_text(encoding="utf-8").replace(f'"format": {PAGE_FORMAT},', '"format": 99,')
    path.write_text(text, encoding="utf-8")
    page = chromium.new_page()
    page.goto(path.as_uri())
    said = f"has format 99; its script reads format {PAGE_FORMAT}"
    expect(page.locator("main")).to_contain_text(said, use_inner_text=True)
    assert page.locator(WIDGET).count() == 0
    page.close()


def test_a_token_can_be_chosen(open_page, tiny_llama) -> None:
    opened = open_page(inspect(tiny_llama, TEXT))
    opened.page.locator(f"{WIDGET} .words [data-unit='5']").click()
    opened.page.wait_for_selector(f"{WIDGET} .words [data-unit='5'][aria-selected=true]")
    opened.page.wait_for_selector(f"{WIDGET}[data-shown$='/5']")
    expect(opened.page.locator(f"{WIDGET} .status")).to_be_hidden()
    expect(opened.page.locator(f"{WIDGET} .detail")).to_contain_text(
        "does not hold it", use_inner_text=True
    )


def test_what_is_not_stored_is_said_and_nothing_else_shown_for_it(open_page, tiny_llama) -> None:
    view = inspect(tiny_llama, TEXT)
    view.layer, view.head = 0, 1
    opened = open_page(view, heads=[(0, 1)])
    status = opened.page.locator(f"{WIDGET} .status")
    opened.page.wait_for_selector(f"{WIDGET}[data-shown^='0/1/']")
    expect(status).to_be_hidden()
    opened.page.locator(SELECTED).focus()
    opened.page.keyboard.press("ArrowRight")
    status.get_by_text(NOT_HERE).wait_for()
    expect(opened.page.locator(f"{WIDGET} .lines *")).to_have_count(0)
    expect(opened.page.locator(f"{WIDGET} .matrix.empty")).to_have_count(1)
    opened.page.keyboard.press("ArrowLeft")
    status.wait_for(state="hidden")
    expect(opened.page.locator(f"{WIDGET} .lines path").first).to_be_attached()
    expect(opened.page.locator(f"{WIDGET} .matrix.empty")).to_have_count(0)


def test_zooming_shows_the_exact_part(open_page, tiny_llama) -> None:
    view = inspect(tiny_llama, TEXT)
    view.window = (0, 8, 0, 6)
    opened = open_page(view)
    opened.page.wait_for_selector(f"{WIDGET}[data-shown]")
    opened.wait_for_other_pixels("data:,")
    expect(opened.page.locator(f"{WIDGET} .status")).to_be_hidden()


def test_script_in_tokens_stays_text(open_page, tiny_llama) -> None:
    ids = tuple(tiny_llama.tokenizer("abc", add_special_tokens=False).input_ids)
    spans = ((0, len(HOSTILE)),) + ((len(HOSTILE), len(HOSTILE)),) * (len(ids) - 1)
    opened = open_page(inspect(tiny_llama, Prompt(ids, HOSTILE, spans, (FieldSpan("x", 0, 1),))))
    expect(opened.page.locator(f"{WIDGET} .words")).to_contain_text(HOSTILE, use_inner_text=True)
    assert opened.page.evaluate("window.ran") is None
    expect(opened.page.locator(f"{WIDGET} img")).to_have_count(0)


def test_a_long_text_is_shown_pooled_with_the_lines_it_opens_at(open_page, tiny_llama) -> None:
    opened = open_page(inspect(tiny_llama, TEXT * 20), budget=600_000)
    opened.page.wait_for_selector(f"{WIDGET}[data-shown]")
    expect(opened.page.locator(f"{WIDGET} .status")).to_be_hidden()
    expect(opened.page.locator(f"{WIDGET} .lines path").first).to_be_attached()
    before = opened.pixels()
    opened.page.locator(SELECTED).focus()
    opened.page.keyboard.press("ArrowUp")
    opened.wait_for_other_pixels(before)


def test_a_comparison_shows_its_three_matrices(open_page, tiny_llama) -> None:
    texts = (TEXT, TEXT.replace("warm", "cold"))
    opened = open_page(inspect(*(record(tiny_llama, text) for text in texts)))
    opened.page.wait_for_selector(f"{WIDGET}[data-shown]")
    expect(opened.page.locator(f"{WIDGET} .matrix:not(.empty) canvas")).to_have_count(3)
    opened.page.locator(SELECTED).focus()
    opened.page.keyboard.press("ArrowLeft")
    opened.page.wait_for_selector(f"{WIDGET}[data-shown^='0/']")
    expect(opened.page.locator(f"{WIDGET} .status")).to_be_hidden()


def test_an_encoder_decoder_shows_all_its_parts(open_page) -> None:
    view = inspect(tiny_model("seq2seq"), "the staff were kind", target="so we stayed")
    opened = open_page(view)
    opened.page.wait_for_selector(f"{WIDGET}[data-shown]")
    part = opened.page.get_by_label("Part")
    expect(part).to_have_value("cross")
    for name in ("encoder", "decoder"):
        before = opened.pixels()
        part.select_option(name)
        opened.wait_for_other_pixels(before)
        expect(opened.page.locator(f"{WIDGET} .lines path").first).to_be_attached()
        expect(opened.page.locator(f"{WIDGET} .status")).to_be_hidden()


def artifact(name: str) -> Path:
    folder = Path(__file__).parent / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.png"

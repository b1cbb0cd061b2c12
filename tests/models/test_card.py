"""What a model shows of itself."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from nbllm.models.model import Model


@pytest.fixture
def model(tiny_llama: Model) -> Model:
    return replace(
        tiny_llama, name="<script>alert(1)</script>", licence='"MIT" & <b>more</b>', source="a<b>"
    )


def test_the_card_tells_all_that_it_should(tiny_llama: Model) -> None:
    tiny_llama.licence = "Apache-2.0"
    text, html = repr(tiny_llama), tiny_llama._repr_html_()
    for fact in (
        "tiny-causal", "causal", "0.1 M", "2 × 4", "none", "cpu", "float32", "2,048 tokens",
        "Apache-2.0", "000000000000", "made in the test",
    ):  # fmt: skip
        assert fact in text and fact in html
    assert re.search(r"bytes +\d+ kB", text)


def test_nothing_in_it_is_markup_of_the_model(model: Model) -> None:
    tags: list[str] = []
    words: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

        def handle_data(self, data: str) -> None:
            words.append(data)

    Reader().feed(model._repr_html_())
    assert set(tags) == {"div", "dl", "dt", "dd"}
    assert {"<script>alert(1)</script>", '"MIT" & <b>more</b>', "a<b>"} <= set(words)


def test_its_colours_are_the_themes_with_a_fallback(tiny_llama: Model) -> None:
    html = tiny_llama._repr_html_()
    colours = re.findall(r"[;\"](?:color|background|border):[^;\"]*", html)
    assert colours
    assert all("var(--jp-" in c and "," in c for c in colours)
    assert "http" not in html and "url(" not in html

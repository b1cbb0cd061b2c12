"""All that nbllm shows of texts that mean harm, as a browser parses it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.test_escaping import CASES, HARMFUL, SLOW, World, harmless

pytestmark = pytest.mark.browser

# A page of its own, with a script, is opened in test_page.py.
FAST = [name for name in CASES if name not in SLOW]
ELEMENTS = """() => [...document.body.querySelectorAll('*')].map(
    (element) => [element.localName, ...element.getAttributeNames().sort()].join(' '))"""


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    return World(tmp_path, monkeypatch)


def test_no_element_and_no_attribute_comes_from_a_text(chromium: Any, world: World) -> None:
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.on("pageerror", lambda error: asked.append(str(error)))
    elements = []
    harmful = [*HARMFUL[:5], "".join(HARMFUL)]  # some are cut where they are shown
    for texts in (harmful, [harmless(text) for text in harmful]):
        shown = [
            html
            for name in FAST
            for text in texts
            for kind, html in CASES[name][1](world, text)
            if kind == "html"
        ]
        page.set_content(f"<!doctype html><body>{''.join(shown)}")
        elements.append(page.evaluate(ELEMENTS))
    page.close()
    assert len(elements[0]) > 3_000
    assert elements[0] == elements[1]
    assert not [one for one in asked if not one.startswith("data:image/")]

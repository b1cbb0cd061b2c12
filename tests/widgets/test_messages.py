"""What a page says to a view may be anything: a saved page holds whatever its writer put there."""

from __future__ import annotations

import json
import time
from typing import Any

import pandas as pd
import pytest

import nbllm
from nbllm.models.model import Model
from nbllm.widgets.explorer.view import Explorer

WRONG = [
    None, True, -1, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\ud800", [], [1], [[]],
    [0, 10**30], [0, 1e9], {}, {"x": 1}, "[" * 50_000,
]  # fmt: skip
QUERY = {
    "text": "a", "labels": ["positive"], "truths": ["positive"], "score": [0, 1], "only": "wrong",
    "sort": "review", "descending": True,
}  # fmt: skip
WHERE = {"part": "causal", "side": "a", "layer": 0, "head": 0, "how": "head", "mask_sink": False}
SPANS = {"rows": [0, 2], "columns": [0, 2]}
ASKED = [
    {"kind": "rows", "query": QUERY, "start": 0, "stop": 2},
    {"kind": "counts", "query": QUERY},
    {"kind": "numbers", "query": QUERY, "start": 0, "stop": 2},
    {"kind": "place", "query": QUERY, "row": 0},
    {"kind": "row", "row": 0},
    {"kind": "correct", "row": 0, "label": "negative"},
    {"kind": "outline", **WHERE},
    {"kind": "thumbnails", **WHERE},
    {"kind": "own_measure", **WHERE, "name": "n", "version": 0},
    {"kind": "picture", **WHERE, **SPANS, "size": 8},
    {"kind": "tile", **WHERE, **SPANS},
    {"kind": "dimensions", **WHERE, "pair": [0, 0]},
]


@pytest.fixture
def views(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """An explorer and an attention view, and what they say."""
    frame = pd.DataFrame({"review": ["a b", "c"], "truth": ["positive", "negative"]})
    answered = frame.llm.sentiment("review", model=tiny_llama)
    said: list[Any] = []
    made = [answered.llm.explore(truth="truth"), nbllm.inspect(tiny_llama, "The soup was warm.")]
    for view in made:
        monkeypatch.setattr(view, "send", lambda content, buffers=None: said.append(content))
    return made, said


def test_every_message_is_answered(views: tuple[list[Any], list[Any]]) -> None:
    (explorer, attention), said = views
    assert isinstance(explorer, Explorer)
    started = time.process_time()
    for asked in ASKED:
        nested = [("query", name) for name in QUERY] if "query" in asked else []
        for path in [(), *((name,) for name in asked), *nested]:
            for wrong in WRONG:
                message: Any = {**asked, "key": 1}
                if not path:
                    message = wrong
                elif len(path) == 1:
                    message[path[0]] = wrong
                else:
                    message["query"] = {**QUERY, path[1]: wrong}
                for view in (explorer, attention):
                    said.clear()
                    view._answer(view, message, [])
                    assert len(said) == 1
                    assert len(json.dumps(said[0], default=str)) < 200_000
    attention._answer(attention, {"questions": WRONG}, [])
    assert time.process_time() - started < 30

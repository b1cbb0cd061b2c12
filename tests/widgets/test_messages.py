"""What a page says to a view may be anything: a saved page holds whatever its writer put there."""

from __future__ import annotations

import json
import time
from typing import Any

import pandas as pd
import pytest

import nbllm
from nbllm.models.model import Model
from nbllm.widgets.attention.sources import Selection
from nbllm.widgets.explorer.view import Explorer

WRONG = [
    None, True, -1, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\ud800", [], [1], [[]],
    [0, 10**30], [0, 1e9], {}, {"x": 1}, "[" * 50_000,
]  # fmt: skip
QUERY = {
    "text": "a", "labels": ["positive"], "truths": ["positive"], "score": [0, 1], "only": "wrong",
    "sort": "review", "descending": True,
}  # fmt: skip
WHERE = {
    "stack": "causal",
    "comparand": "a",
    "layer": 0,
    "head": 0,
    "reduce": "head",
    "mask_sink": False,
}
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
    {"kind": "dimensions", **WHERE, "query": 0, "key": 0},
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
                request: Any = {**asked}
                if not path:
                    request = wrong
                elif len(path) == 1:
                    request[path[0]] = wrong
                else:
                    request["query"] = {**QUERY, path[1]: wrong}
                for view in (explorer, attention):
                    said.clear()
                    view._handle_custom_msg({"requests": [{"id": 3, "request": request}]}, [])
                    [message] = said
                    assert [answer["id"] for answer in message["answers"]] == [3]
                    assert len(json.dumps(message, default=str)) < 200_000
    assert time.process_time() - started < 30


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
def test_what_is_no_message_of_requests_is_answered_too(
    views: tuple[list[Any], list[Any]], wrong: Any
) -> None:
    made, said = views
    for message in (wrong, {"requests": wrong}, {"requests": WRONG}, {"requests": [{"id": wrong}]}):
        for view in made:
            said.clear()
            view._handle_custom_msg(message, [])
            [answered] = said
            assert all(one["error"] and not one["buffers"] for one in answered["answers"])
            assert len(json.dumps(answered)) < 200_000


def test_answers_have_the_numbers_of_their_requests_and_their_own_buffers(
    views: tuple[list[Any], list[Any]],
) -> None:
    (_, attention), said = views
    attention.send = lambda content, buffers=(): said.append((content, buffers))
    tile = {"kind": "tile", **WHERE, **SPANS}
    requests = [tile, {"kind": "contents"}, {**tile, "head": 99}, {**tile, "rows": [1, 2]}]
    numbered = [{"id": 2**52 + n, "request": one} for n, one in enumerate(requests)]
    said.clear()
    attention._handle_custom_msg({"requests": numbered}, [])
    [(message, buffers)] = said
    assert [one["id"] - 2**52 for one in message["answers"]] == [0, 1, 2, 3]
    assert [one["buffers"] for one in message["answers"]] == [1, 0, 0, 1]
    assert "head 99" in message["answers"][2]["error"]
    assert [bytes(each) for each in buffers] == [
        attention.source.weights(Selection(0, 0), rows, range(2)).tobytes()
        for rows in (range(2), range(1, 2))
    ]

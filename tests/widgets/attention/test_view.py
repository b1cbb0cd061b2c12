"""The Python half of the attention viewer: traits, answers, and the static picture."""

import copy
import dataclasses
import json
import re
import struct
import zlib
from base64 import b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import traitlets

import nbllm.widgets.attention.handler as handler
import nbllm.widgets.bundle as bundle
from nbllm.attention.analysis.ablation import head_importance
from nbllm.attention.recording.capture import record
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.errors import NbllmError, SelectionError
from nbllm.models.model import Model
from nbllm.widgets.attention.initial_answers import picture_side
from nbllm.widgets.attention.picture import png
from nbllm.widgets.attention.sources import Selection
from nbllm.widgets.attention.view import AttentionView, inspect
from nbllm.widgets.protocol.attention import LIGHT_COLOURS
from tests.conftest import seeded, tiny_model

TEXT = "The soup was warm <img src=x onerror=alert(1)> and the staff were kind."


@pytest.fixture
def view(tiny_llama) -> AttentionView:
    return inspect(tiny_llama, TEXT)


@pytest.fixture
def ask(view, monkeypatch):
    """Sends a request as the browser does; gives the answer and its buffer."""

    def ask(**request):
        sent = []
        monkeypatch.setattr(
            view, "send", lambda content, buffers=None: sent.append((content, buffers))
        )
        request = {"stack": "causal", "comparand": "a", **request}
        view._handle_custom_msg({"requests": [{"id": 5, "request": request}]}, [])
        [(message, buffers)] = sent
        json.dumps(message)  # what cannot ride in a message must not
        [answer] = message["answers"]
        assert answer["id"] == 5 and answer["buffers"] == len(buffers)
        content = answer["content"] if answer["error"] is None else answer
        return content, bytes(buffers[0]) if buffers else None

    return ask


def test_it_opens_at_the_last_token_in_the_upper_layers(view) -> None:
    assert view.token == len(view.recording) - 1
    assert view.layer == 1


def test_inspect_takes_a_recording(tiny_llama, view) -> None:
    recording = record(tiny_llama, TEXT)
    assert inspect(recording).recording is recording
    with pytest.raises(TypeError, match="has its text already"):
        inspect(recording, TEXT)
    with pytest.raises(TypeError, match="was given no text"):
        inspect(tiny_llama)


def test_selection_is_set_from_python(view) -> None:
    view.layer, view.head, view.token = 0, np.int64(3), 4
    assert (view.layer, view.head, view.token) == (0, 3, 4)
    assert type(view.head) is int
    view.token = None
    assert view.token is None


@pytest.mark.parametrize(("name", "value"), [("layer", 2), ("head", -1), ("token", 10_000)])
def test_a_selection_out_of_range(view, name, value) -> None:
    before = getattr(view, name)
    with pytest.raises(SelectionError, match=rf"{name} {value} is not in this recording"):
        setattr(view, name, value)
    assert getattr(view, name) == before


def test_a_selection_that_is_no_number(view) -> None:
    with pytest.raises(traitlets.TraitError):
        view.layer = "first"
    with pytest.raises(traitlets.TraitError):
        view.layer = 0.5


def test_all_that_is_shown_is_set_from_python(view) -> None:
    view.reduce, view.mask_sink, view.words, view.measure = "max", True, True, "entropy"
    view.key, view.window = 3, [0, 10, 2, 8]
    assert view.window == (0, 10, 2, 8)
    assert view.selection == Selection(view.layer, view.head, "max", mask_sink=True)
    view.window = None
    with pytest.raises(SelectionError, match="no measure 'beauty'"):
        view.measure = "beauty"


def test_heads_are_sorted_by_measures_of_ones_own(ask, view, tiny_llama) -> None:
    importance = head_importance(tiny_llama, TEXT)
    view.measures = importance
    assert view.measures is importance
    view.measure = "importance"
    version = view.measured["causal"]["importance"]
    _, data = ask(kind="own_measure", name="importance", version=version)
    expected = importance.pivot(index="layer", columns="head", values="importance")
    np.testing.assert_allclose(np.frombuffer(data, "<f4").reshape(2, 4), expected, rtol=1e-6)

    one = pl.DataFrame({"layer": [1], "head": [2], "mine": [0.5], "name": ["x"]})
    view.measures = one  # polars, of one head alone
    assert view.measure is None  # what it was sorted by is gone
    assert set(view.measured["causal"]) == {"mine"}
    assert view.measured["causal"]["mine"] > version
    grid = np.frombuffer(ask(kind="own_measure", name="mine", version=2)[1], "<f4").reshape(2, 4)
    assert grid[1, 2] == 0.5 and np.isnan(grid).sum() == 7
    view.measures = None
    assert view.measured == {"causal": {}}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"layer": [0], "value": [1.0]}, "no column head"),
        ({"layer": [0], "head": [0], "name": ["a"]}, "no column of numbers"),
        ({"layer": [0], "head": [4], "value": [1.0]}, "not of the model shown"),
        ({"layer": [7], "head": [0], "value": [1.0]}, "not of the model shown"),
        ({"layer": [0, 0], "head": [1, 1], "value": [1.0, 2.0]}, "several rows of one head"),
    ],
)
def test_a_table_that_holds_no_measure_of_the_heads(view, columns, said) -> None:
    with pytest.raises(SelectionError, match=said):
        view.measures = pd.DataFrame(columns)
    assert view.measures is None and view.measured == {}


@pytest.mark.parametrize("window", [(0, 10, 5, 5), (-1, 4, 0, 4), (0, 1, 0, 10_000)])
def test_a_window_out_of_range(view, window) -> None:
    with pytest.raises(SelectionError, match="not within the matrix"):
        view.window = window
    assert view.window is None


def test_a_stack_or_comparand_that_is_not_there(view) -> None:
    with pytest.raises(SelectionError, match="The stacks are causal, the comparands a"):
        view.stack = "cross"
    with pytest.raises(SelectionError):
        view.comparand = "b"
    assert (view.stack, view.comparand) == ("causal", "a")


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [("how", "reduce", "max"), ("part", "stack", "causal"), ("side", "comparand", "a")],
)
def test_an_old_name_works_and_names_the_new_one(view, old, new, value) -> None:
    with pytest.warns(DeprecationWarning, match=f"view.{old} is now view.{new}"):
        setattr(view, old, value)
    assert getattr(view, new) == value
    with pytest.warns(DeprecationWarning, match=f"view.{new}") as warned:
        assert getattr(view, old) == value
    assert [Path(one.filename) for one in warned] == [Path(__file__)]


def test_two_recordings_open_at_their_difference(tiny_llama) -> None:
    before, after = record(tiny_llama, "It was good."), record(tiny_llama, "It was not good.")
    view = inspect(before, after)
    assert (view.comparand, view.recording) == ("difference", before)
    assert len(view.source.queries) == len(before)
    view.comparand = "b"
    assert view.recording is after
    view.token = len(after) - 1
    view.comparand = "a"  # which is shorter
    assert view.token is None
    assert "how much two recordings differ" in inspect(before, after)._static_html()


def test_the_parts_of_an_encoder_decoder_may_differ_in_size() -> None:
    view = inspect(unequal(), "The soup was warm and the staff were kind.", target="Warm.")
    assert (view.stack, view.source.causal) == ("cross", False)
    view.stack = "encoder"
    assert view.source.layer_numbers == (0, 1, 2)
    view.layer, view.token, view.window = 2, len(view.recording) - 1, (0, len(view.recording), 0, 9)
    view.stack = "decoder"
    assert (view.layer, view.token, view.window) == (0, None, None)


def unequal() -> Model:
    """Three layers that read, and one that writes."""
    model = tiny_model("seq2seq")
    config = copy.deepcopy(model.network.config)
    config.encoder_layers, config.decoder_layers = 3, 1
    return dataclasses.replace(model, network=seeded(type(model.network), config))


def test_state_holds_no_weights(view) -> None:
    state = {
        name: value for name, value in view.get_state().items() if name not in ("_esm", "_css")
    }
    assert len(json.dumps(state, default=str)) < 2000


def test_a_request_is_answered_with_numbers(ask, view) -> None:
    _, data = ask(kind="tile", layer=1, head=2, rows=[5, 9], columns=[0, 7])
    tile = np.frombuffer(data, "<f4").reshape(4, 7)
    np.testing.assert_allclose(tile, view.recording.weights(1, 2)[5:9, :7], rtol=0, atol=2e-6)


def test_the_picture_of_the_output_is_not_computed_again_for_the_browser(
    view, ask, monkeypatch
) -> None:
    view._static_html()
    monkeypatch.setattr(handler, "picture", None)
    size = picture_side(view.handler)
    message, _ = ask(
        kind="picture", layer=view.layer, head=view.head, rows=None, columns=None, size=size
    )
    assert message["height"] == len(view.recording)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "tile", "layer": 9, "head": 0, "rows": [0, 1], "columns": [0, 1]}, "layer 9"),
        ({"kind": "tile", "layer": 0}, "head"),
        ({"kind": "__class__"}, "__class__"),
        ({}, "None"),
    ],
)
def test_a_request_without_sense_is_answered(ask, asked, said) -> None:
    answer, data = ask(**asked)
    assert said in answer["error"] and data is None


def test_the_static_form_needs_no_script(view) -> None:
    data, _ = view._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id
    still = data["text/html"]
    assert len(still) < 150_000
    assert "<script" not in still and "http" not in still
    assert f"layer {view.layer}, head {view.head}" in still


def test_the_picture_is_an_output_of_its_own(view, outputs_of) -> None:
    picture, widget = outputs_of(view)
    assert 'class="nbllm-attention-static"' in picture["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in widget
    assert "text/html" not in widget
    # The live view hides the picture by this name.
    assert ".nbllm-attention-static" in (bundle.STATIC / "attention.css").read_text()


@pytest.mark.parametrize("window", [None, (2, 8, 0, 8)])
def test_the_first_answers_come_unasked_while_the_view_is_shown(
    view, ask, outputs_of, window
) -> None:
    view.window = window
    told = []
    view.observe(lambda change: told.append(change["new"]), "_initial_answers")
    outputs_of(view)
    coming, known, drawn, gone = told
    assert gone is None  # a view that opens later asks
    json.dumps(told)  # no buffers, which nbclient would keep
    for entries in (coming, known, drawn):
        asked = [entry["request"] for entry in entries]
        assert [each["kind"] for each in asked] == ["contents", "outline", "picture", "tile"]
        count = len(view.recording)
        assert asked[-1]["rows"] == (count - 21, count)  # around the last token
    assert [entry["content"] for entry in coming] == [None] * 4
    answers = [*known[:2], *drawn[2:]]
    for entry in answers:
        content, data = ask(**entry["request"])
        assert entry["content"] == content
        assert entry["numbers"] == (data and b64encode(data).decode())


def test_of_a_comparison_the_first_answers_are_of_all_its_sides(tiny_llama, outputs_of) -> None:
    view = inspect(record(tiny_llama, "The soup was warm."), record(tiny_llama, "The soup was."))
    told = []
    view.observe(lambda change: told.append(change["new"]), "_initial_answers")
    outputs_of(view)
    asked = [entry["request"] for entry in told[0]]
    sides = {
        kind: [e["comparand"] for e in asked if e["kind"] == kind] for kind in ("outline", "tile")
    }
    assert sides == {"outline": ["a", "b", "difference"], "tile": ["difference"]}
    pictures = [each for each in asked if each["kind"] == "picture"]
    assert {(each["comparand"], each["size"]) for each in pictures} == {
        ("difference", 300),
        ("a", 300),
        ("b", 300),
    }
    told.clear()
    view.window = (0, 3, 0, 3)
    outputs_of(view)
    [picture] = [each["request"] for each in told[0] if each["request"]["kind"] == "picture"]
    assert (picture["comparand"], picture["rows"], picture["columns"]) == (
        "difference",
        (0, 3),
        (0, 3),
    )


def test_a_view_that_could_not_be_drawn_asks_again(view, outputs_of, monkeypatch) -> None:
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(handler, "picture", fail)
    with pytest.raises(MemoryError):
        outputs_of(view)
    assert view._initial_answers is None


def test_the_static_form_shows_markup_as_text(tiny_llama) -> None:
    name = "<img onerror=alert(1)>"
    ids = tuple(tiny_llama.tokenizer("abc", add_special_tokens=False).input_ids)
    spans = ((0, len(name)),) * len(ids)
    hostile = inspect(tiny_llama, Prompt(ids, name, spans, (FieldSpan("x", 0, 1),)))
    still = hostile._repr_mimebundle_()[0]["text/html"]
    assert "<img onerror" not in still
    assert "&lt;img onerror=alert(1)&gt;" in still


def test_png_holds_the_levels_and_the_map() -> None:
    levels = np.array([[0, 128, 255], [7, 0, 1]], np.uint8)
    data = png(levels)
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            name + body
        )
        chunks[name] = body
        at += 12 + size
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 0, 128, 255, 0, 7, 0, 1])
    assert chunks[b"PLTE"][:3] == bytes.fromhex(LIGHT_COLOURS[0][1:])
    assert chunks[b"PLTE"][-3:] == bytes.fromhex(LIGHT_COLOURS[-1][1:])


def test_the_bundle_is_small_and_fetches_nothing() -> None:
    script = (bundle.STATIC / "attention.js").read_text()
    assert len(script.encode()) <= 150_000
    assert set(re.findall(r"https?://[^\"'`\s]+", script)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in (bundle.STATIC / "attention.css").read_text()


def test_a_missing_bundle_says_how_to_build_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(bundle, "STATIC", tmp_path)
    with pytest.raises(NbllmError, match="make setup"):
        bundle.bundle("attention.js")

"""The Python half of the attention viewer: traits, answers, and the static picture."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import traitlets

import nbllm.widgets.attention as attention
from nbllm.attention.capture import record
from nbllm.engine.prompt import Mark, Prompt
from nbllm.errors import NbllmError, SelectionError
from nbllm.widgets.attention import AttentionView, inspect
from nbllm.widgets.picture import COLOURS, png

TEXT = "The soup was warm <img src=x onerror=alert(1)> and the staff were kind."
ROOT = Path(__file__).parents[2]


@pytest.fixture
def view(tiny_llama) -> AttentionView:
    return inspect(tiny_llama, TEXT)


@pytest.fixture
def ask(view, monkeypatch):
    """Sends a question as the browser does; gives the answer and its buffer."""

    def ask(**question):
        sent = []
        monkeypatch.setattr(
            view, "send", lambda content, buffers=None: sent.append((content, buffers))
        )
        view._handle_custom_msg({**question, "key": "k"}, [])
        [(content, buffers)] = sent
        json.dumps(content)  # what cannot ride in a message must not
        assert content.pop("key") == "k"
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
    with pytest.raises(TypeError, match="needs the text"):
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


def test_state_holds_no_weights(view) -> None:
    state = {
        name: value for name, value in view.get_state().items() if name not in ("_esm", "_css")
    }
    assert len(json.dumps(state, default=str)) < 1500


def test_the_outline(ask, view) -> None:
    outline, _ = ask(kind="outline")
    assert outline["tokens"] == view.recording.tokens
    assert (outline["layers"], outline["heads"]) == (2, 4)
    assert outline["opened"][:3] == [view.token, view.layer, view.head]


def test_a_tile_is_exact(ask, view) -> None:
    _, data = ask(kind="tile", layer=1, head=2, rows=[5, 9], columns=[0, 7])
    tile = np.frombuffer(data, "<f4").reshape(4, 7)
    np.testing.assert_allclose(tile, view.recording.weights(1, 2)[5:9, :7], rtol=0, atol=2e-6)


def test_a_picture_is_pooled_to_the_screen(ask, view) -> None:
    answer, data = ask(kind="picture", layer=0, head=1, size=8)
    picture = np.frombuffer(data, "<u2").reshape(8, 8) / 65535
    weights = view.recording.weights(0, 1)
    assert answer["side"] == 8
    assert picture.max() == pytest.approx(weights.max(), abs=1e-5)
    answer, data = ask(kind="picture", layer=0, head=1, size=5000)
    assert answer["side"] == len(weights)
    whole = np.frombuffer(data, "<u2").reshape(weights.shape) / 65535
    np.testing.assert_allclose(whole, weights, atol=1e-5)


def test_thumbnails_of_a_layer(ask) -> None:
    answer, data = ask(kind="thumbnails", layer=1)
    assert len(data) == 4 * answer["side"] ** 2


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"kind": "tile", "layer": 9, "head": 0, "rows": [0, 1], "columns": [0, 1]}, "layer 9"),
        ({"kind": "tile", "layer": 0, "head": 0, "rows": [0, 99], "columns": [0, 1]}, "token"),
        ({"kind": "tile", "layer": 0, "head": 0, "rows": [0, 9999], "columns": [0, 9999]}, "most"),
        ({"kind": "tile", "layer": 0}, "rows"),
        ({"kind": "__class__"}, "__class__"),
        ({}, "None"),
    ],
)
def test_a_bad_question_is_answered(ask, question, said) -> None:
    answer, data = ask(**question)
    assert said in answer["error"] and data is None


def test_the_static_form_needs_no_script(view) -> None:
    data, _ = view._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id
    still = data["text/html"]
    assert len(still) < 150_000
    assert "<script" not in still and "http" not in still
    assert f"layer {view.layer}, head {view.head}" in still


def test_the_picture_is_an_output_of_its_own(view, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(attention, "publish_display_data", lambda data, *_: shown.append(set(data)))
    view._ipython_display_()
    assert shown[0] == {"text/html"}
    assert "application/vnd.jupyter.widget-view+json" in shown[1]
    assert "text/html" not in shown[1]
    # The live view hides the picture by this name.
    assert 'class="nbllm-attention-still"' in view._still()
    assert ".nbllm-attention-still" in (attention.STATIC / "attention.css").read_text()


def test_the_static_form_shows_markup_as_text(tiny_llama) -> None:
    name = "<img onerror=alert(1)>"
    ids = tuple(tiny_llama.tokenizer("abc", add_special_tokens=False).input_ids)
    spans = ((0, len(name)),) * len(ids)
    hostile = inspect(tiny_llama, Prompt(ids, name, spans, (Mark("x", 0, 1),)))
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
    assert chunks[b"PLTE"][:3] == bytes.fromhex(COLOURS[0][1:])
    assert chunks[b"PLTE"][-3:] == bytes.fromhex(COLOURS[-1][1:])


def test_python_and_browser_share_one_colour_map() -> None:
    source = (ROOT / "widgets" / "shared" / "colour.ts").read_text()
    light = re.search(r"LIGHT = \[(.*?)\]", source, re.DOTALL)
    assert tuple(re.findall(r"#\w{6}", light[1])) == COLOURS


def test_the_bundle_is_small_and_fetches_nothing() -> None:
    script = (attention.STATIC / "attention.js").read_text()
    assert len(script.encode()) <= 150_000
    assert set(re.findall(r"https?://[^\"'`\s]+", script)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in (attention.STATIC / "attention.css").read_text()


def test_a_missing_bundle_says_how_to_build_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(attention, "STATIC", tmp_path)
    with pytest.raises(NbllmError, match="make setup"):
        attention._bundle("attention.js")

"""Views taken out of the notebook: table, picture, drawing, page, and a notebook without kernel."""

import base64
import json
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import traitlets

from nbllm.attention.recording.capture import record
from nbllm.attention.views.colour_levels import scale_ticks
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.errors import SelectionError
from nbllm.widgets.attention.matrix_svg import matrix_svg
from nbllm.widgets.attention.picture import palette
from nbllm.widgets.attention.view import AttentionView, inspect
from nbllm.widgets.page import AnswerStore
from nbllm.widgets.protocol.attention import PAGE_FORMAT
from tests.conftest import tiny_model

TEXT = "The soup was warm, and the staff were kind."
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x07"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def view(tiny_llama) -> AttentionView:
    return inspect(tiny_llama, TEXT)


@pytest.fixture
def long_view(tiny_llama) -> AttentionView:
    return inspect(tiny_llama, TEXT * 30)


@pytest.fixture
def hostile(tiny_llama) -> AttentionView:
    ids = tuple(tiny_llama.tokenizer("abc", add_special_tokens=False).input_ids)
    spans = ((0, len(HOSTILE)),) * len(ids)
    return inspect(tiny_llama, Prompt(ids, HOSTILE, spans, (FieldSpan("x", 0, 1),)))


def content(path) -> dict:
    text = path.read_text(encoding="utf-8")
    [found] = re.findall(r'<script type="application/json" id="nbllm-content">(.*?)</script>', text)
    return json.loads(found)


def stored(path) -> dict:
    """The numbers of each stored answer, by its request."""
    answers = content(path)["answers"]
    return {
        json.dumps(entry["request"]): zlib.decompress(
            base64.b64decode(answers["blocks"][entry["block"]])
        )
        for entry in answers["entries"]
        if "block" in entry
    }


def kinds(path) -> dict[str, int]:
    asked = [entry["request"]["kind"] for entry in content(path)["answers"]["entries"]]
    return {kind: asked.count(kind) for kind in asked}


# -- to_frame


def test_the_frame_holds_each_weight_once(view) -> None:
    frame = view.to_frame()
    assert [*frame.columns] == [
        *("layer", "head", "query", "key", "query_token", "key_token", "weight"),
    ]
    weights = view.recording.weights(view.layer, view.head)
    again = np.zeros_like(weights)
    again[frame["query"], frame["key"]] = frame["weight"]
    np.testing.assert_array_equal(again, weights)
    assert not frame.duplicated(["query", "key"]).any()
    assert (frame["key"] <= frame["query"]).all()  # the future is left out
    np.testing.assert_allclose(frame.groupby("query")["weight"].sum(), 1, atol=1e-5)
    row = frame.iloc[-1]
    assert row["query_token"] == view.recording.tokens[row["query"]]
    assert row["key_token"] == view.recording.tokens[row["key"]]


def test_the_frame_of_chosen_heads_queries_and_weights(view) -> None:
    frame = view.to_frame(heads=[(1, 3), (0, 2)], queries=[5, 2], above=0.1)
    assert frame[["layer", "head"]].drop_duplicates().values.tolist() == [[1, 3], [0, 2]]
    assert {*frame["query"]} <= {5, 2} and frame["weight"].min() > 0.1
    weights = view.recording.weights(0, 2)[[5, 2]]
    assert len(frame[frame["layer"] == 0]) == (weights > 0.1).sum()


def test_the_frame_of_an_encoder_holds_both_directions(tiny_encoder) -> None:
    frame = inspect(tiny_encoder, "the staff were kind").to_frame()
    assert (frame["key"] > frame["query"]).any()


def test_the_frame_is_what_is_on_screen(view) -> None:
    view.reduce = "mean"
    frame = view.to_frame(queries=[4])
    assert {*frame["head"]} == {"mean"}
    mean = np.mean([view.recording.weights(view.layer, head)[4] for head in range(4)], axis=0)
    np.testing.assert_allclose(frame["weight"], mean[frame["key"]], atol=1e-6)


def test_no_weight_above_gives_an_empty_frame(view) -> None:
    frame = view.to_frame(above=1.0)
    assert len(frame) == 0 and "weight" in frame
    assert len(view.to_frame(queries=[])) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": [(0, 4)]}, "no layer 0, head 4"),
        ({"heads": [(2, 0)]}, "no layer 2, head 0"),
        ({"queries": [10_000]}, "tokens 0 to"),
        ({"queries": [-1]}, "tokens 0 to"),
    ],
)
def test_a_frame_of_what_is_not_there(view, options, said) -> None:
    with pytest.raises(SelectionError, match=said):
        view.to_frame(**options)


def test_a_frame_too_large_is_refused(view, monkeypatch) -> None:
    monkeypatch.setattr("nbllm.widgets.attention.to_frame.MAX_ROWS", 10)
    with pytest.raises(SelectionError, match="leave small weights out"):
        view.to_frame()


# -- to_png and to_svg


def test_png_holds_the_matrix(view, tmp_path) -> None:
    data = view.to_png(tmp_path / "head.png")
    assert (tmp_path / "head.png").read_bytes() == data
    count = len(view.recording)
    width, height = struct.unpack(">II", data[16:24])
    assert width == height == count * (1024 // count)
    start = data.index(b"IDAT")
    (size,) = struct.unpack(">I", data[start - 4 : start])
    lines = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + size]), np.uint8)
    step = 1024 // count
    levels = lines.reshape(height, width + 1)[::step, 1::step]
    weights = view.recording.weights(view.layer, view.head)
    # Levels rise with weights, up to the weight of full colour.
    order = np.argsort(weights, axis=None, kind="stable")
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()
    assert levels.max() == 255 and (levels[weights == 0] == 0).all()


def test_png_of_a_long_text_is_pooled(tiny_llama) -> None:
    long = inspect(tiny_llama, TEXT * 60)
    assert len(long.recording) > 1024
    assert struct.unpack(">II", long.to_png()[16:24]) == (1024, 1024)


def test_svg_writes_each_token_and_paints_each_weight(view, tmp_path) -> None:
    drawing = view.to_svg(tmp_path / "head.svg")
    assert (tmp_path / "head.svg").read_text(encoding="utf-8") == drawing
    assert len(drawing) < 100_000
    root = ET.fromstring(drawing)
    count = len(view.recording)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert f"layer {view.layer}, head {view.head}" in texts[0]
    labels = [token.strip() for token in view.recording.tokens]
    assert texts[2 : 2 + count] == labels and texts[2 + count : 2 + 2 * count] == labels
    weights = view.recording.weights(view.layer, view.head)
    assert texts[2 + 2 * count :] == [*scale_ticks(float(weights.max()), "sqrt")]


def test_svg_of_a_long_text_is_pooled_and_light(long_view) -> None:
    drawing = long_view.to_svg()
    assert len(drawing) < 300_000
    texts = [*ET.fromstring(drawing).iter(f"{SVG}text")][2:-3]
    count = len(long_view.recording)
    assert count > 128 and 20 < len(texts) < count  # as many tokens as there is room for
    places = [float(text.get("y")) for text in texts if text.get("text-anchor") == "end"]
    assert min(np.diff(places)) >= 11


def test_png_and_svg_are_on_the_scale_of_the_view(view) -> None:
    made = {}
    for scale in ("sqrt", "log"):
        view.scale = scale
        made[scale] = view.to_png(), view.to_svg(), view._static_html()
    assert all(a != b for a, b in zip(*made.values(), strict=True))
    assert "square root" in made["sqrt"][1] and "logarithm" in made["log"][1]
    assert "logarithm of the weight" in made["log"][2]
    with pytest.raises(traitlets.TraitError):
        view.scale = "linear"


def test_svg_paints_cells_where_they_are() -> None:
    shades = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    root = ET.fromstring(matrix_svg(shades, "title", "legend", ("0", "1", "2")))
    [path] = root.iter(f"{SVG}path")
    assert path.get("d") == "M1 0h2v1H1zM0 1h1v1H0z"
    assert path.get("fill") == "#" + palette()[255].tobytes().hex()


def test_svg_shows_markup_and_control_characters_as_text(hostile) -> None:
    drawing = hostile.to_svg()
    assert "<script" not in drawing and "<img" not in drawing
    texts = [element.text for element in ET.fromstring(drawing).iter(f"{SVG}text")]
    assert texts[2] == "</script><script>…"
    assert (
        matrix_svg(np.zeros((1, 1), np.uint8), "\x07\ud800", "", ("", "", "")).count("␇\ufffd") == 2
    )


# -- to_html


def test_a_page_of_a_short_text_holds_every_weight(view, tmp_path) -> None:
    page = view.to_html(tmp_path / "view.html")
    assert page.path == tmp_path / "view.html"
    assert page.size == page.path.stat().st_size
    assert "exact weights of 8 heads" in repr(page)
    answers = stored(page.path)
    count = len(view.recording)
    for layer in range(2):
        for head in range(4):
            asked = {
                **{"kind": "tile", "stack": "causal", "comparand": "a"},
                **{"layer": layer, "head": head, "reduce": "head", "mask_sink": False},
                **{"rows": [0, count], "columns": [0, count]},
            }
            weights = np.frombuffer(answers[json.dumps(asked)], "<f4").reshape(count, count)
            expected = view.recording.weights(layer, head)
            np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_a_page_answers_as_the_kernel_does(view, tmp_path) -> None:
    for entry in content(view.to_html(tmp_path / "view.html").path)["answers"]["entries"]:
        answered, _ = view.handler.answer(entry["request"])
        assert entry["content"] == json.loads(json.dumps(answered))


def test_a_page_keeps_what_was_on_screen(view, tmp_path) -> None:
    view.layer, view.head, view.token = 0, 3, 2
    state = content(view.to_html(tmp_path / "view.html").path)["state"]
    assert (state["layer"], state["head"], state["token"]) == (0, 3, 2)
    assert (state["stack"], state["comparand"], state["reduce"]) == ("causal", "a", "head")
    assert not any(name.startswith("_") for name in state) and "layout" not in state


def test_a_page_has_a_format_number(view, tmp_path) -> None:
    assert content(view.to_html(tmp_path / "view.html").path)["format"] == PAGE_FORMAT


def test_a_page_of_chosen_heads(view, tmp_path) -> None:
    view.layer, view.head = 1, 0
    page = view.to_html(tmp_path / "view.html", heads=[(0, 1), (1, 2)])
    assert kinds(page.path)["picture"] >= 2
    entries = content(page.path)["answers"]["entries"]
    heads = {
        (entry["request"]["layer"], entry["request"]["head"])
        for entry in entries
        if entry["request"]["kind"] == "tile"
    }
    assert heads == {(0, 1), (1, 2), (1, 0)}  # the last is on screen
    assert kinds(page.path)["thumbnails"] == 2


def test_a_page_keeps_to_its_budget(long_view, tmp_path) -> None:
    whole = long_view.to_html(tmp_path / "whole.html")
    small = long_view.to_html(tmp_path / "small.html", budget=200_000)
    script = whole.size - len(json.dumps(content(whole.path)))
    assert small.size - script <= 200_000 + 5_000  # the state and the sentence
    assert "of 8 heads" in small.about
    sides = {
        entry["content"]["height"]
        for entry in content(small.path)["answers"]["entries"]
        if entry["request"]["kind"] == "picture"
    }
    assert max(sides) < len(long_view.recording)


def test_the_head_on_screen_is_stored_first(long_view, tmp_path) -> None:
    long_view.layer, long_view.head = 1, 2
    entries = content(long_view.to_html(tmp_path / "view.html").path)["answers"]["entries"]
    first = next(e["request"] for e in entries if e["request"]["kind"] == "picture")
    assert (first["layer"], first["head"]) == (1, 2)


def test_a_budget_for_nothing_is_refused(view, tmp_path) -> None:
    with pytest.raises(SelectionError, match="budget of 100 bytes is too small"):
        view.to_html(tmp_path / "view.html", budget=100)
    assert not (tmp_path / "view.html").exists()


@pytest.mark.parametrize("heads", [[], [(0, 9)]])
def test_a_page_of_heads_that_are_not_there(view, tmp_path, heads) -> None:
    with pytest.raises(SelectionError):
        view.to_html(tmp_path / "view.html", heads=heads)


def test_a_page_of_a_comparison(tiny_llama, tmp_path) -> None:
    a, b = (record(tiny_llama, text) for text in (TEXT, "The soup was cold."))
    page = inspect(a, b).to_html(tmp_path / "view.html", heads=[(0, 1)])
    assert kinds(page.path)["outline"] == 3
    entries = content(page.path)["answers"]["entries"]
    asked = [e["request"] for e in entries if e["request"]["kind"] == "picture"]
    assert {q["comparand"] for q in asked if q["head"] == 1} == {"a", "b", "difference"}


def test_a_page_of_an_encoder_decoder_holds_all_its_parts(tmp_path) -> None:
    page = inspect(tiny_model("seq2seq"), "the staff were kind", target="so we").to_html(
        tmp_path / "view.html"
    )
    entries = content(page.path)["answers"]["entries"]
    asked = [e["request"] for e in entries if e["request"]["kind"] == "picture"]
    assert {q["stack"] for q in asked} == {"encoder", "decoder", "cross"}


def test_a_page_opens_as_the_view_was(view, tmp_path) -> None:
    view.reduce = "max"
    page = view.to_html(tmp_path / "view.html", heads=[(0, 1)])
    asked = [entry["request"] for entry in content(page.path)["answers"]["entries"]]
    assert {"picture", "tile"} <= {q["kind"] for q in asked if q.get("reduce") == "max"}


def test_no_text_ends_the_script_or_fetches(hostile, tmp_path) -> None:
    text = hostile.to_html(tmp_path / "view.html").path.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    assert "onerror" in text and "<img" not in text
    assert set(re.findall(r"https?://[^\"'`\s]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_numbers_that_answer_two_questions_are_stored_once() -> None:
    numbers = np.arange(1000, dtype="<f4")
    answers = AnswerStore(lambda request: ({}, numbers), budget=10_000)
    assert answers.store({"kind": "a"})
    first = answers.size
    assert answers.store({"kind": "b"})
    assert answers.size - first < 100
    content = json.loads(answers.json())
    assert [entry["block"] for entry in content["entries"]] == [0, 0]
    assert len(content["blocks"]) == 1


# -- the notebook without its kernel


@pytest.mark.long
def test_an_executed_notebook_grows_by_a_picture(tiny_folder, tmp_path) -> None:
    cell = f"""
import nbllm
model = nbllm.load({str(tiny_folder("causal"))!r})
nbllm.inspect(model, {TEXT!r} * 30)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    before = len(nbformat.writes(notebook))
    nbclient.NotebookClient(notebook, timeout=120).execute()  # and the widgets' state
    assert len(nbformat.writes(notebook)) - before <= 200_000
    shown = [output.data for output in notebook.cells[0].outputs if "data" in output]
    stills = [data["text/html"] for data in shown if "text/html" in data]
    assert len(stills) == 1
    assert "data:image/svg+xml;base64," in stills[0] and "<script" not in stills[0]


def test_a_page_can_sort_by_measures_of_ones_own(tiny_llama, tmp_path) -> None:
    view = inspect(tiny_llama, "The soup was warm.")
    heads = {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "mine": [1.0, 2.0, 3.0, 4.0]}
    view.measures = pd.DataFrame(heads)
    view.measure = "mine"
    page = content(view.to_html(tmp_path / "view.html").path)
    assert page["state"]["measured"] == view.measured == {"causal": {"mine": 1}}
    asked = [entry["request"] for entry in page["answers"]["entries"]]
    where = {"stack": "causal", "comparand": "a"}
    assert {"kind": "own_measure", **where, "name": "mine", "version": 1} in asked

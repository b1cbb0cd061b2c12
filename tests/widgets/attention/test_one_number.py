"""A cell has one weight, wherever it is read: picture, tile, lines, frame, drawing, recording."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.attention.recording.recording import Recording
from nbllm.attention.views.colour_levels import codes
from nbllm.widgets.attention.sources import RecordingSource
from nbllm.widgets.attention.view import AttentionView
from tests.attention.conftest import random_recording, recording_of  # noqa: F401

SINK = 0
COUNT = 60
HOW = ("head", "mean", "max")
WHERE = {"stack": "causal", "comparand": "a"}


@pytest.fixture(params=["of a usual model", "nearly all on the sink", "with sinks of its own"])
def view(request, random_recording) -> AttentionView:  # noqa: F811
    recording: Recording = random_recording(
        COUNT, causal=True, sinks=request.param == "with sinks of its own"
    )
    if request.param == "nearly all on the sink":
        # As SmolLM2's layer 18, head 7: what is left of a row is some millionths.
        for layer in recording.layers:
            layer.query[:, :, 0], layer.key[:, :, 0] = 6, 0
            layer.key[:, SINK, 0] = torch.linspace(4.5, 7, len(layer.key))
    made = AttentionView(recording)
    source = made.source
    assert isinstance(source, RecordingSource)
    source.sink = SINK
    return made


def expected(recording: Recording, layer: int, head: int, masked: bool) -> np.ndarray:
    """In float64, from the textbook's formula."""
    made = recording.layer(layer)
    key = made.key[head // (made.heads // made.key.shape[0])].double().numpy()
    scores = made.query[head].double().numpy() @ key.T * made.scale
    scores[np.triu_indices(COUNT, 1)] = -np.inf
    powers = np.exp(scores - scores.max(1, keepdims=True))
    own = 0.0
    if made.sinks is not None:
        own = np.exp(made.sinks[head].double().numpy() - scores.max(1, keepdims=True))
    whole = powers.sum(1, keepdims=True) + own
    if not masked:
        return powers / whole
    powers[:, SINK] = 0
    rest = powers.sum(1, keepdims=True) + own
    # Of a row of which less than a millionth is left, nothing is.
    return np.where(rest / whole > 1e-6, powers / np.maximum(rest, 1e-300), 0)


@pytest.mark.parametrize("reduce", HOW)
@pytest.mark.parametrize("masked", [False, True], ids=["with its sink", "sink masked"])
@pytest.mark.parametrize("seen", [False, True], ids=["first look", "seen before"])
def test_a_cell_has_one_weight(view: AttentionView, reduce: str, masked: bool, seen: bool) -> None:
    view.layer, view.head, view.reduce, view.mask_sink = 1, 2, reduce, masked
    ask, recording = view.handler.answer, view.recording
    selection = {**WHERE, "layer": 1, "head": 2, "reduce": reduce, "mask_sink": masked}
    heads = range(recording.heads) if reduce != "head" else [2]
    each = np.stack([expected(recording, 1, head, masked) for head in heads])
    right = each.max(0) if reduce == "max" else each.mean(0)
    near = {"rtol": 2e-4, "atol": 2e-6}
    whole, few = {"rows": [0, COUNT], "columns": [0, COUNT]}, {"rows": [7, 9], "columns": [0, 9]}
    if seen:
        ask({"kind": "picture", **selection, **whole, "size": 400})

    def tile(rows: list[int], columns: list[int]) -> np.ndarray:
        return ask({"kind": "tile", **selection, "rows": rows, "columns": columns})[1]

    # Tiles: one cell, the rows of the lines, all.
    np.testing.assert_allclose(tile([9, 10], [4, 5]), right[9:10, 4:5], **near)
    np.testing.assert_allclose(tile(*few.values()), right[7:9, :9], **near)
    np.testing.assert_allclose(tile(*whole.values()), right, **near)
    # Pictures: exact, of a window, pooled.
    message, exact = ask({"kind": "picture", **selection, **whole, "size": 400})
    assert message["exact"]
    np.testing.assert_allclose(exact, right, **near)
    np.testing.assert_allclose(
        ask({"kind": "picture", **selection, **few, "size": 400})[1], right[7:9, :9], **near
    )
    pooled, _, full = view.handler.cached_picture(
        "causal", "a", view.selection, range(COUNT), range(COUNT), 7
    )
    edges = [COUNT * at // 7 for at in range(8)]
    blocks = [
        [right[a:b, c:d].max() for c, d in itertools.pairwise(edges)]
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(pooled, blocks, **near)
    message, sent = ask({"kind": "picture", **selection, **whole, "size": 7})
    assert (sent == codes(pooled, full, signed=False)).all()
    # Full colour is the largest outside of the sink, whatever it is pooled to or zoomed to.
    largest = np.delete(right, SINK, axis=1).max()
    assert message["full"] == full == pytest.approx(largest or 1, rel=2e-4)
    assert ask({"kind": "picture", **selection, **few, "size": 7})[0]["full"] == pytest.approx(
        full, rel=1e-5
    )
    # The frame, of what is on screen and of named heads; words joined or not.
    for view.words in (False, True):
        frame = view.to_frame()
        again = np.zeros((COUNT, COUNT))
        again[frame["query"], frame["key"]] = frame["weight"]
        np.testing.assert_allclose(again, right, **near)
    if reduce == "head":
        named = view.to_frame(heads=[(1, 2)])
        assert named.equals(frame)
        masked_key = SINK if masked else None
        np.testing.assert_allclose(recording.weights(1, 2, masked=masked_key), right, **near)
        np.testing.assert_allclose(
            recording.weights(1, 2, [9], [4, 5], masked=masked_key), right[9:10, 4:6], **near
        )


def test_a_difference_has_the_difference_of_the_two(random_recording) -> None:  # noqa: F811
    first, second = random_recording(COUNT, causal=True), random_recording(COUNT, causal=True)
    for layer in second.layers:
        layer.query.mul_(1.3)
    view = AttentionView(first, second)
    view.layer, view.head, view.comparand = 1, 2, "difference"
    for side in ("a", "b"):
        view.handler.recording_source("causal", side).sink = SINK
    for masked in (False, True):
        selection = replace(view.selection, mask_sink=masked)
        right = expected(second, 1, 2, masked) - expected(first, 1, 2, masked)
        whole = range(COUNT), range(COUNT)
        source = view.source
        np.testing.assert_allclose(source.weights(selection, *whole), right, atol=4e-6)
        drawn, _, _ = view.handler.cached_picture("causal", "difference", selection, *whole, 400)
        np.testing.assert_allclose(drawn, right, atol=4e-6)


def test_of_the_head_that_looks_at_nothing_but_the_sink(smollm2) -> None:
    view = AttentionView(record(smollm2, "Two hours of shouting, and not a line to remember."))
    view.layer, view.head, view.mask_sink = 18, 7, True
    source, count = view.source, range(len(view.recording))
    assert source.sink == 0
    plain = view.recording.weights(18, 7)
    assert plain[1:, 1:].max() < 0.05 and (plain[:, 0] > 0.9).all()
    picture, _, full = view.handler.cached_picture("causal", "a", view.selection, count, count, 400)
    tile = source.weights(view.selection, count, count)
    np.testing.assert_allclose(tile, picture, rtol=1e-4, atol=1e-6)
    rows = picture.sum(1)
    assert ((np.abs(rows - 1) < 1e-4) | (rows == 0)).all() and full <= 1

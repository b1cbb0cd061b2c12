"""Pictures, edges and scores against the whole matrix, in float64 where that is made here."""

import numpy as np
import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.attention.views import tiles
from nbllm.attention.views.colour_levels import codes
from nbllm.attention.views.tiles import (
    combined,
    dimension_scores,
    pooled,
    sampled_rows,
    thumbnails,
    top_edges,
)
from nbllm.errors import SelectionError

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."


def largest(matrix: np.ndarray, side: int) -> np.ndarray:
    """The largest of each block, one block after another."""
    edges = [
        [block * length // min(side, length) for block in range(min(side, length) + 1)]
        for length in matrix.shape
    ]
    return np.array(
        [
            [
                matrix[top:bottom, left:right].max()
                for left, right in zip(edges[1], edges[1][1:], strict=False)
            ]
            for top, bottom in zip(edges[0], edges[0][1:], strict=False)
        ]
    )


def whole(recording, layer: int, head: int) -> np.ndarray:
    """The weights of a head in float64, from the textbook's formula."""
    made = recording.layer(layer)
    key_head = head // (made.heads // made.key.shape[0])
    scores = made.query[head].double().numpy() @ made.key[key_head].double().numpy().T
    scores *= made.scale
    back = np.subtract.outer(np.arange(scores.shape[0]), np.arange(scores.shape[1]))
    if made.causal:
        scores[back < 0] = -np.inf
    if made.window is not None:
        scores[np.abs(back) >= made.window] = -np.inf
    powers = np.exp(scores)
    sink = 0.0 if made.sinks is None else np.exp(made.sinks[head].double().numpy())
    return powers / (powers.sum(1, keepdims=True) + sink)


@pytest.fixture(params=["few rows at a time", "all at once"])
def blocks(request, monkeypatch) -> None:
    if request.param == "few rows at a time":
        monkeypatch.setattr("nbllm.attention.recording.layer.SCORES_AT_ONCE", 1000)


KINDS = {
    "both ways": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 20},
    "window both ways": {"window": 20},
    "sinks": {"causal": True, "sinks": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 16, 33, 100, 512])
def test_a_pooled_head_is_the_largest_of_each_block(blocks, random_recording, kind, side) -> None:
    recording = random_recording(100, **KINDS[kind])
    picture = pooled(recording, 1, 2, side=side)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture, largest(whole(recording, 1, 2), side), atol=1e-6)


def test_a_pooled_head_of_cross_attention_has_its_own_rows_and_columns(
    blocks, random_recording
) -> None:
    recording = random_recording(30, 77)
    picture = pooled(recording, 0, 3, side=50)
    assert picture.shape == (30, 50)
    np.testing.assert_allclose(picture, largest(whole(recording, 0, 3), 50), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_of_a_head_is_that_part_of_it(blocks, random_recording, kind) -> None:
    recording = random_recording(100, **KINDS[kind])
    picture = pooled(recording, 0, 1, rows=(31, 98), columns=(3, 64), side=20)
    part = whole(recording, 0, 1)[31:98, 3:64]
    np.testing.assert_allclose(picture, largest(part, 20), atol=1e-6)


def test_a_pooled_head_of_a_model_is_that_of_eager_attention(tiny_llama, eager_weights) -> None:
    recording = record(tiny_llama, TEXT)
    eager = eager_weights(tiny_llama.network, recording.ids)
    for layer in range(2):
        for head in range(4):
            picture = pooled(recording, layer, head, side=9)
            np.testing.assert_allclose(picture, largest(eager[layer][head], 9), atol=1e-5)


def test_half_precision_is_computed_in_float32(random_recording) -> None:
    recording = random_recording(100, causal=True, dtype=torch.bfloat16)
    np.testing.assert_allclose(
        pooled(recording, 0, 0, side=16), largest(whole(recording, 0, 0), 16), atol=1e-6
    )


def test_pooling_keeps_a_single_hot_key(recording_of) -> None:
    weights = np.full((100, 100), 1e-9)
    weights[57, 33] = 0.9
    weights[:, 99] = 1 - weights[:, :99].sum(1)
    small = pooled(recording_of(weights[None, None]), 0, 0, side=16)
    # Block b of 16 begins at b * 100 // 16, as the browser reckons.
    row, column = 57 * 16 // 100, 33 * 16 // 100
    assert small[row, column] == pytest.approx(0.9, rel=1e-5)
    assert (small[:, :15] > 1e-6).sum() == 1


def test_a_masked_sink_is_gone_and_rows_are_whole_again(recording_of) -> None:
    weights = np.tile([0.9, 0.06, 0.03, 0.01], (4, 1))
    weights[3] = [1, 0, 0, 0]  # nothing is left of this row
    recording = recording_of(weights[None, None])
    expected = np.tile([0, 0.6, 0.3, 0.1], (4, 1))
    expected[3] = 0
    np.testing.assert_allclose(pooled(recording, 0, 0, masked=0), expected, atol=1e-5)
    np.testing.assert_allclose(combined(recording, 0, masked=0), expected, atol=1e-5)
    with pytest.raises(SelectionError, match="token 4 is not in"):
        pooled(recording, 0, 0, masked=4)


@pytest.mark.parametrize("kind", KINDS)
def test_masking_is_exact_where_the_sink_takes_nearly_all(blocks, random_recording, kind) -> None:
    recording = random_recording(60, **KINDS[kind])
    # Key 5 is what every query of every head looks at.
    for layer in recording.layers:
        layer.query[:, :, 0], layer.key[:, :, 0], layer.key[:, 5, 0] = 6, 0, 5
    weights = whole(recording, 0, 1)
    assert weights[5:, 5].max() > 0.9999
    left = 1 - weights[:, [5]]
    weights[:, 5] = 0
    expected = np.divide(weights, left, out=np.zeros_like(weights), where=left > 1e-6)
    picture = pooled(recording, 0, 1, masked=5)
    np.testing.assert_allclose(picture, expected, atol=1e-5)
    part = pooled(recording, 0, 1, rows=(20, 50), columns=(3, 44), masked=5, side=11)
    np.testing.assert_allclose(part, largest(expected[20:50, 3:44], 11), atol=1e-5)


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_combined(blocks, random_recording, how, kind) -> None:
    recording = random_recording(60, **KINDS[kind])
    heads = np.stack([whole(recording, 1, head) for head in range(4)])
    together = heads.mean(0) if how == "mean" else heads.max(0)
    np.testing.assert_allclose(
        combined(recording, 1, how, side=25), largest(together, 25), atol=1e-6
    )
    part = combined(recording, 1, how, rows=(20, 60), columns=(5, 31), side=7)
    np.testing.assert_allclose(part, largest(together[20:60, 5:31], 7), atol=1e-6)


def test_thumbnails_are_codes_of_which_the_largest_outside_of_the_sink_is_full(
    recording_of,
) -> None:
    reads = np.tile(np.r_[0.7, np.full(4, 0.1 / 8), 0.2, np.full(4, 0.1 / 8)], (10, 1))
    even = np.full((10, 10), 0.1)
    found = thumbnails(recording_of(np.stack([[reads, even]])), 0, sink=0, size=24)
    assert found.shape == (2, 10, 10) and found.dtype == np.uint8
    assert (found[0][:, [0, 5]] == 255).all()
    assert found[0, 0, 1] == round(1 + 254 * (1 + np.log10(reads[0, 1] / 0.2) / 4))
    assert (found[1] == 255).all()  # an even head is even


def test_thumbnails_of_a_long_text_are_of_sampled_rows(random_recording, monkeypatch) -> None:
    short = random_recording(100, causal=True)
    assert sampled_rows(short) == list(range(100))
    monkeypatch.setattr(tiles, "MOST_THUMBNAIL_ROWS", 40)
    rows = sampled_rows(short)
    assert len(rows) == 40 and rows[0] == 0 and rows[-1] == 99
    found = thumbnails(short, 1, sink=None, size=10).astype(int)
    for head in range(4):
        weights = whole(short, 1, head)[rows]
        expected = codes(largest(weights, 10), weights.max(), signed=False).astype(int)
        # float32 may round a code differently.
        assert np.abs(found[head] - expected).max() <= 1


def test_rows_are_sampled_by_the_length_of_a_text(random_recording) -> None:
    assert len(sampled_rows(random_recording(1024, heads=1, key_heads=1))) == 256
    assert len(sampled_rows(random_recording(2048, heads=1, key_heads=1))) == 128
    assert len(sampled_rows(random_recording(5000, heads=1, key_heads=1))) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_top_edges_are_the_largest_weights(blocks, random_recording, kind) -> None:
    recording = random_recording(100, **KINDS[kind])
    edges = top_edges(recording, 0, 2, 50)
    weights = whole(recording, 0, 2)
    np.testing.assert_allclose(edges["weight"], np.sort(weights, axis=None)[::-1][:50], atol=1e-6)
    np.testing.assert_allclose(
        edges["weight"], weights[edges["query"], edges["key"]], rtol=1e-4, atol=1e-6
    )
    assert not edges.duplicated(["query", "key"]).any()


def test_top_edges_without_the_sink_and_of_a_window(blocks, random_recording) -> None:
    recording = random_recording(60, causal=True)
    weights = whole(recording, 0, 0)
    weights[:, 7] = 0
    edges = top_edges(recording, 0, 0, 10, without=7)
    np.testing.assert_allclose(edges["weight"], np.sort(weights, axis=None)[::-1][:10], atol=1e-6)
    part = top_edges(recording, 0, 0, 5, without=7, rows=(20, 30), columns=(4, 12))
    assert part["query"].between(20, 29).all() and part["key"].between(4, 11).all()
    expected = np.sort(weights[20:30, 4:12], axis=None)[::-1][:5]
    np.testing.assert_allclose(part["weight"], expected, atol=1e-6)


def test_what_a_query_cannot_see_is_no_edge(random_recording) -> None:
    recording = random_recording(4, causal=True)
    edges = top_edges(recording, 0, 0, 100)
    assert len(edges) == 10
    assert (edges["key"] <= edges["query"]).all()
    assert top_edges(recording, 0, 0, 5, rows=(0, 1), without=0).empty


def test_dimensions_add_up_to_the_score(random_recording) -> None:
    recording = random_recording(12, 9, head_dim=8)
    scores = dimension_scores(recording, 1, 3, 11, 8)
    assert scores.shape == (8,) and scores.dtype == np.float32
    layer = recording.layers[1]
    query, key = layer.query[3, 11].double(), layer.key[1, 8].double()
    np.testing.assert_allclose(scores, (query * key).numpy() / np.sqrt(8), rtol=1e-5)
    logs = np.log(recording.weights(1, 3)[11])
    other = dimension_scores(recording, 1, 3, 11, 0)
    assert scores.sum() - other.sum() == pytest.approx(logs[8] - logs[0], rel=1e-4)


def test_one_token(random_recording) -> None:
    recording = random_recording(1, causal=True)
    assert pooled(recording, 0, 0).tolist() == [[1.0]]
    assert combined(recording, 0).tolist() == [[1.0]]
    assert thumbnails(recording, 0, sink=None, size=24).shape == (4, 1, 1)
    assert thumbnails(recording, 0, sink=0, size=24).shape == (4, 1, 1)
    assert top_edges(recording, 0, 0, 3).values.tolist() == [[0, 0, 1]]


def test_what_is_not_in_the_recording_is_refused(random_recording) -> None:
    recording = random_recording(10, 6)
    with pytest.raises(SelectionError, match="layer 2 is not in this recording"):
        pooled(recording, 2, 0)
    with pytest.raises(SelectionError, match="head 4 is not in this recording"):
        top_edges(recording, 0, 4, 5)
    with pytest.raises(SelectionError, match="layer 9 is not in this recording"):
        thumbnails(recording, 9, sink=None, size=8)
    with pytest.raises(SelectionError, match=r"rows 3 to 3 .* rows 0 to 10"):
        pooled(recording, 0, 0, rows=(3, 3))
    with pytest.raises(SelectionError, match=r"columns 0 to 7 .* columns 0 to 6"):
        combined(recording, 0, columns=(0, 7))
    with pytest.raises(SelectionError, match="token 10 is not"):
        dimension_scores(recording, 0, 0, 10, 0)
    with pytest.raises(SelectionError, match="columns 6 to 7"):
        dimension_scores(recording, 0, 0, 0, 6)
    with pytest.raises(ValueError, match="reduce='sum' is none of"):
        combined(recording, 0, "sum")
    with pytest.raises(ValueError, match="side=0 is no whole"):
        pooled(recording, 0, 0, side=0)
    with pytest.raises(ValueError, match="k=0 is no whole"):
        top_edges(recording, 0, 0, 0)


def test_the_number_of_threads_is_as_before(random_recording) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pooled(random_recording(10), 0, 0)
        assert torch.get_num_threads() == 2
        with pytest.raises(SelectionError):
            pooled(random_recording(10), 7, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_old_names_work_for_one_release(random_recording) -> None:
    recording = random_recording(10)
    with pytest.warns(DeprecationWarning, match="^how= is now reduce=;"):
        old = combined(recording, 0, how="max")
    assert np.array_equal(old, combined(recording, 0, reduce="max"))
    with pytest.warns(DeprecationWarning, match=r"Recording\.reconstruction_errors"):
        assert recording.gaps == recording.reconstruction_errors
    assert recording.closure() == recording.reconstruction_error()

"""Sources: the sink masked out, two recordings matched and subtracted, long texts pooled."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

import nbllm.widgets.attention.sources as sources
from nbllm.attention.recording.capture import record
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.widgets.attention.sources import (
    DifferenceSource,
    RecordingSource,
    Selection,
    largest_weight,
    match_tokens,
    picture,
)

TEXT = "The soup was warm, and the staff were kind."
ONE = Selection(layer=1, head=2)


@pytest.fixture
def source(tiny_llama) -> RecordingSource:
    made = RecordingSource(record(tiny_llama, TEXT))
    made.sink = 0  # a tiny random model has none of its own
    return made


def every(source) -> tuple[range, range]:
    return range(len(source.queries)), range(len(source.keys))


@pytest.mark.parametrize("reduce", ["head", "mean", "max"])
def test_a_masked_sink_leaves_whole_rows(source, reduce) -> None:
    selection = dataclasses.replace(ONE, reduce=reduce, mask_sink=True)
    heads = range(4) if reduce != "head" else [ONE.head]
    whole = np.stack([source.recording.weights(1, head) for head in heads])
    left = whole[:, 1:, 1:] / (1 - whole[:, 1:, :1])
    expected = left.max(0) if reduce == "max" else left.mean(0)
    weights = source.weights(selection, *every(source))
    assert_allclose(weights[1:, 1:], expected, rtol=1e-4, atol=1e-6)
    assert (weights[:, 0] == 0).all()
    assert (weights[0] == 0).all()  # the first token sees nothing but the sink
    assert_allclose(source.sink_mass(selection, range(3)), whole[:, :3, 0].mean(0), atol=1e-6)
    assert_allclose(
        picture(source, selection, *every(source), 500)[0], weights, rtol=1e-4, atol=1e-6
    )


def test_a_difference_is_over_the_tokens_that_both_have(tiny_llama, source) -> None:
    other = RecordingSource(record(tiny_llama, TEXT.replace("warm", "not warm at all")))
    difference = DifferenceSource(source, other)
    before, after = difference.places
    assert [source.queries.ids[place] for place in before] == [
        other.queries.ids[place] for place in after
    ]
    assert len(before) == len(source.queries)
    expected = (
        other.recording.weights(1, 2)[np.ix_(after, after)]
        - source.recording.weights(1, 2)[np.ix_(before, before)]
    )
    assert_allclose(difference.weights(ONE, *every(difference)), expected, atol=2e-6)
    small, _ = picture(difference, ONE, *every(difference), 5)
    edges = [len(before) * at // 5 for at in range(6)]
    block = expected[edges[3] : edges[4], edges[1] : edges[2]].ravel()
    assert small[3, 1] == pytest.approx(block[np.abs(block).argmax()], abs=2e-6)
    assert small.min() < 0 < small.max()
    whole = picture(difference, ONE, *every(difference), 500)[0]
    assert largest_weight(difference, ONE, whole) == pytest.approx(np.abs(expected).max(), abs=2e-6)


def test_the_same_recording_does_not_differ(source) -> None:
    difference = DifferenceSource(source, source)
    assert not difference.weights(ONE, *every(difference)).any()


def test_different_tokenizers_are_refused(tiny_llama, source) -> None:
    row = source.queries
    shifted = dataclasses.replace(row, ids=tuple(token + 1 for token in row.ids))
    with pytest.raises(UnsupportedModelError, match="different tokenizers"):
        match_tokens(row, shifted)
    renamed = dataclasses.replace(row, text="x" + row.text, tokens=tuple(row.tokens[::-1]))
    with pytest.raises(UnsupportedModelError, match="different tokenizers"):
        match_tokens(row, renamed)


def test_texts_without_a_common_token_are_refused(tiny_llama) -> None:
    first, second = (record(tiny_llama, text).queries for text in ("aaa", "§§"))
    with pytest.raises(UnsupportedModelError, match="no token in common"):
        match_tokens(first, second)


def test_recordings_of_other_layers_are_refused(tiny_llama) -> None:
    first, second = (RecordingSource(record(tiny_llama, TEXT, layers=[at])) for at in (0, 1))
    with pytest.raises(SelectionError, match="no layer in common"):
        DifferenceSource(first, second)


def test_heads_of_a_long_text_are_sampled(source, monkeypatch) -> None:
    mean = dataclasses.replace(ONE, reduce="mean")
    rows, columns = every(source)
    assert not picture(source, mean, rows, columns, 6)[1]
    monkeypatch.setattr(sources, "CELLS_PER_PICTURE", 100)
    small, sampled = picture(source, mean, rows, columns, 6)
    assert sampled
    first = [len(rows) * at // 6 for at in range(6)]
    whole = source.weights(mean, first, columns)
    assert_allclose(small[:, 0], whole[:, : len(columns) // 6].max(1), atol=2e-6)
    one, sampled = picture(source, ONE, rows[:5], columns[:5], 6)  # few enough cells
    assert not sampled
    assert_allclose(one, source.recording.weights(1, 2)[:5, :5], atol=2e-6)

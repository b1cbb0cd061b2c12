"""What the browser asks for, answered: exact, pooled to the screen, and never too much."""

import itertools
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nbllm.attention.analysis.measures import head_measures
from nbllm.attention.recording.capture import record
from nbllm.attention.views.colour_levels import codes
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.widgets.attention.handler import LARGEST_EXACT, MEASURES, RequestHandler

TEXT = "The soup was warm 👍🏽, and the staff were kind."
WHERE = {"stack": "causal", "comparand": "a"}


@pytest.fixture
def recording(tiny_llama):
    return record(tiny_llama, TEXT)


@pytest.fixture
def ask(recording):
    """Asks of one recording."""
    handler = RequestHandler(recording)

    def ask(kind, **request):
        message, numbers = handler.answer({"kind": kind, **WHERE, **request})
        json.dumps(message)
        return message, numbers

    return ask


def test_the_outline_counts_characters_as_javascript_does(ask, recording) -> None:
    message, _ = ask("outline")
    text = TEXT.encode("utf-16-le")
    queries = message["queries"]
    assert message["keys"] is None  # they are the same
    assert queries["tokens"] == list(recording.tokens)
    for (start, stop), (begin, end) in zip(queries["spans"], recording.spans, strict=True):
        assert text[2 * start : 2 * stop].decode("utf-16-le") == TEXT[begin:end]
    assert (message["layers"], message["heads"], message["sampled"]) == ([0, 1], 4, None)


def test_a_picture_of_few_tokens_is_exact(ask, recording) -> None:
    window = {"rows": [2, 12], "columns": [1, 9], "size": 400}
    message, weights = ask("picture", layer=1, head=2, **window)
    assert message["exact"] and weights.dtype == np.float32
    assert_allclose(weights, recording.weights(1, 2)[2:12, 1:9], atol=2e-6)


def test_a_pooled_picture_keeps_the_largest_of_each_block(ask, recording) -> None:
    count = len(recording)
    message, small = ask("picture", layer=0, head=1, rows=[0, count], columns=[0, count], size=7)
    assert (message["height"], message["width"], message["exact"]) == (7, 7, False)
    weights = recording.weights(0, 1)
    edges = [count * at // 7 for at in range(8)]
    blocks = [
        [weights[a:b, c:d].max() for c, d in itertools.pairwise(edges)]
        for a, b in itertools.pairwise(edges)
    ]
    assert small.dtype == np.uint8
    assert message["full"] == pytest.approx(weights.max(), rel=1e-5)  # of which no sink is left out
    assert (small == codes(np.array(blocks), message["full"], signed=False)).all()


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_heads_of_a_layer_together(ask, recording, reduce) -> None:
    heads = np.stack([recording.weights(1, head) for head in range(4)])
    _, tile = ask("tile", layer=1, head=0, reduce=reduce, rows=[3, 9], columns=[0, 5])
    assert_allclose(tile, getattr(heads, reduce)(0)[3:9, :5], atol=2e-6)
    count = len(recording)
    _, whole = ask(
        "picture", layer=1, head=0, reduce=reduce, rows=[0, count], columns=[0, count], size=500
    )
    assert_allclose(whole, getattr(heads, reduce)(0), atol=2e-6)


def test_dimensions_add_up_to_the_score(ask, recording) -> None:
    message, (q, k, product) = ask("dimensions", layer=1, head=3, query=9, key=4)
    layer = recording.layer(1)
    assert message["plain"]
    assert_allclose(q, layer.query[3, 9])
    assert_allclose(k, layer.key[1, 4])  # 4 heads over 2 of keys
    score = recording.log_sum_exp(1, 3)[9] + np.log(recording.weights(1, 3)[9, 4])
    assert product.sum() == pytest.approx(float(score), abs=1e-4)


def test_measures_are_those_of_the_frame(ask, recording) -> None:
    _, values = ask("measures")
    frame = head_measures(recording).set_index(["layer", "head"])
    assert values.shape == (len(MEASURES), 2, 4)
    for at, name in enumerate(MEASURES):
        assert_allclose(values[at, 1, 2], frame.loc[(1, 2), name], rtol=1e-5)


def test_thumbnails_of_a_layer(ask) -> None:
    message, levels = ask("thumbnails", layer=1)
    assert levels.shape == (4, message["height"], message["width"])
    assert levels.dtype == np.uint8


def test_no_answer_is_larger_than_a_megabyte(tiny_llama) -> None:
    long = record(tiny_llama, "The soup was warm. " * 110)
    count = len(long)
    assert count**2 > 4 * LARGEST_EXACT
    handler = RequestHandler(long)
    window = {"layer": 0, "head": 0, "rows": [0, count], "columns": [0, count]}
    _, weights = handler.answer({"kind": "picture", **WHERE, **window, "size": 100_000})
    assert weights.nbytes <= 300_000
    with pytest.raises(SelectionError, match="at most 200,000 weights"):
        handler.answer({"kind": "tile", **WHERE, **window})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 2}, "layer 2 is not in this recording"),
        ({"head": 4}, "head 4 is not in this recording"),
        ({"rows": [0, 999]}, "query tokens 0 to 998 are not"),
        ({"columns": [-1, 3]}, "key tokens -1 to 2 are not"),
        ({"rows": [3, 3]}, "query tokens"),
        ({"comparand": "b"}, "The stacks are causal, the comparands a"),
    ],
)
def test_what_is_not_there(ask, change, said) -> None:
    with pytest.raises(SelectionError, match=said):
        ask("tile", **{"layer": 0, "head": 0, "rows": [0, 3], "columns": [0, 3], **change})


def test_a_pooled_difference_keeps_its_sign(tiny_llama, recording) -> None:
    handler = RequestHandler(recording, record(tiny_llama, TEXT.replace("kind", "rude")))
    where = {"stack": "causal", "comparand": "difference", "layer": 1, "head": 2}
    window = {"rows": None, "columns": None}
    _, exact = handler.answer({"kind": "picture", **where, **window, "size": 500})
    message, small = handler.answer({"kind": "picture", **where, **window, "size": 3})
    assert exact.min() < 0 < exact.max() and small.dtype == np.int8
    rows, columns = ([count * at // 3 for at in range(4)] for count in exact.shape)
    for row, column in np.ndindex(3, 3):
        block = exact[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        hottest = block.flat[np.abs(block).argmax()]
        assert small[row, column] == codes(hottest, message["full"], signed=True)
    assert message["full"] == pytest.approx(np.abs(exact).max(), rel=1e-5)


def test_recordings_of_two_kinds_are_not_compared(recording, tiny_encoder) -> None:
    with pytest.raises(UnsupportedModelError, match="of one kind"):
        RequestHandler(recording, record(tiny_encoder, "The soup was warm."))


def test_how_much_each_head_differs(tiny_llama, recording) -> None:
    other = record(tiny_llama, TEXT.replace("kind", "rude"))
    handler = RequestHandler(recording, other)
    _, values = handler.answer({"kind": "measures", "stack": "causal", "comparand": "difference"})
    source = handler.source("causal", "difference")
    before, after = source.places
    moved = np.abs(
        other.weights(1, 2)[np.ix_(after, after)] - recording.weights(1, 2)[np.ix_(before, before)]
    )
    assert values[0, 1, 2] == pytest.approx(moved.sum(1).mean() / 2, abs=1e-5)
    with pytest.raises(SelectionError, match="no score"):
        handler.answer(
            {"kind": "dimensions", "stack": "causal", "comparand": "difference"}
            | {"layer": 0, "head": 0, "query": 0, "key": 0}
        )

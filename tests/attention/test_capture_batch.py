"""Texts recorded side by side, against each by itself."""

import numpy as np
import pytest

from nbllm.attention.recording.capture import record, record_batch
from nbllm.errors import TextError
from tests.attention.architectures import ARCHITECTURES, ENCODER_DECODERS, tiny, tiny_pair

TEXTS = [
    "The soup was warm and the staff were kind, so we stayed until they closed.",
    "Terrible service.",
    "We waited an hour, and the meal arrived cold",
]


def assert_alike(one, other) -> None:
    assert one.queries.ids == other.queries.ids and one.keys.ids == other.keys.ids
    assert one.text == other.text and one.kind == other.kind
    assert one.layer_numbers == other.layer_numbers
    for layer in one.layer_numbers:
        for head in range(one.heads):
            np.testing.assert_allclose(
                one.weights(layer, head), other.weights(layer, head), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_equals_its_own_recording(name, attention) -> None:
    model = tiny(name, attention)
    batch = record_batch(model, TEXTS)
    assert len(batch) == 3
    for text, recording in zip(TEXTS, batch, strict=True):
        alone = record(model, text)
        assert_alike(recording, alone)
        assert recording.closure() <= 1e-5
        # Without its padding the mask is a rule again, which takes no memory.
        assert [layer.mask is None for layer in recording.layers] == [True, True]
        assert [layer.causal for layer in recording.layers] == [
            layer.causal for layer in alone.layers
        ]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_each_pair_equals_its_own_recording(name, attention) -> None:
    model = tiny_pair(name, attention)
    targets = ["Die Suppe war warm.", "Schlecht.", None]
    for text, target, pair in zip(
        TEXTS, targets, record_batch(model, TEXTS, targets=targets), strict=True
    ):
        alone = record(model, text, target=target)
        for part in ("encoder", "decoder", "cross"):
            assert_alike(getattr(pair, part), getattr(alone, part))
            assert getattr(pair, part).closure() <= 1e-5


def test_options_hold_for_all(tiny_llama, tmp_path) -> None:
    batch = record_batch(tiny_llama, TEXTS, layers=[-1], offload=tmp_path)
    for text, recording in zip(TEXTS, batch, strict=True):
        assert recording.layer_numbers == (1,)
        assert_alike(recording, record(tiny_llama, text, layers=[1]))


def test_batches_that_are_none(tiny_llama) -> None:
    assert record_batch(tiny_llama, []) == []
    with pytest.raises(TextError):
        record_batch(tiny_llama, ["a", ""])
    with pytest.raises(ValueError, match="2 texts and 1 target"):
        record_batch(tiny_llama, ["a", "b"], targets=["c"])

"""Rollout against matrices worked by hand, and against numpy over eager attention."""

import numpy as np
import pytest

from nbllm.attention.analysis.rollout import attention_rollout
from nbllm.attention.recording.capture import record
from nbllm.errors import SelectionError

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."


@pytest.fixture
def by_hand(recording_of):
    """Two layers of two heads over three tokens, causal.

    The means of the heads are [1 0 0; 1/2 1/2 0; 1/4 1/4 1/2] and [1 0 0; 0 1 0; 0 1/2 1/2].
    """
    first = [
        [[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5]],
        [[1, 0, 0], [1, 0, 0], [0, 0.5, 0.5]],
    ]
    second = [
        [[1, 0, 0], [0, 1, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
    return recording_of(np.array([first, second], float), kind="causal")


def test_rollout_worked_by_hand(by_hand) -> None:
    # (A + I) / 2 of the layers: [1 0 0; 1/4 3/4 0; 1/8 1/8 3/4], [1 0 0; 0 1 0; 0 1/4 3/4].
    # The product, the second from the left; its last row is
    # 1/4 · [1/4 3/4 0] + 3/4 · [1/8 1/8 3/4] = [5/32 9/32 18/32].
    expected = [[1, 0, 0], [1 / 4, 3 / 4, 0], [5 / 32, 9 / 32, 18 / 32]]
    rollout = attention_rollout(by_hand)
    assert rollout.dtype == np.float32
    np.testing.assert_allclose(rollout, expected, rtol=0, atol=1e-6)


def test_only_some_rows(by_hand) -> None:
    np.testing.assert_allclose(
        attention_rollout(by_hand, rows=[2, 0]),
        [[5 / 32, 9 / 32, 18 / 32], [1, 0, 0]],
        rtol=0,
        atol=1e-6,
    )


def test_from_a_later_layer(by_hand) -> None:
    expected = [[1, 0, 0], [0, 1, 0], [0, 1 / 4, 3 / 4]]
    np.testing.assert_allclose(
        attention_rollout(by_hand, start_layer=1), expected, rtol=0, atol=1e-6
    )


def test_without_the_sink(by_hand) -> None:
    # Without key 0 the first layer is [- - -; 0 1 0; 0 1/3 2/3]: half of that and of I is
    # [1 0 0; 0 1 0; 0 1/6 5/6]. The second has nothing on key 0 but in row 0.
    # Last row of the product: 1/4 · [0 1 0] + 3/4 · [0 1/6 5/6] = [0 3/8 5/8].
    expected = [[1, 0, 0], [0, 1, 0], [0, 3 / 8, 5 / 8]]
    np.testing.assert_allclose(attention_rollout(by_hand, masked=0), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("at_once", [2**20, 100])
@pytest.mark.parametrize("masked", [None, 0])
def test_rollout_of_a_model(tiny_llama, eager_weights, monkeypatch, at_once, masked) -> None:
    monkeypatch.setattr("nbllm.attention.recording.layer.SCORES_AT_ONCE", at_once)
    recording = record(tiny_llama, TEXT)
    count = len(recording)
    expected = np.eye(count)
    for weights in eager_weights(tiny_llama.network, recording.ids):
        mean = weights.astype(float).mean(0)
        if masked is not None:
            mean[:, masked] = 0
            mean[masked, masked] = 1  # has nothing left, and stays with itself
        mean = (mean / mean.sum(1, keepdims=True) + np.eye(count)) / 2
        expected = mean @ expected
    rollout = attention_rollout(recording, masked=masked)
    np.testing.assert_allclose(rollout, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(rollout.sum(1), 1, atol=1e-6)


def test_an_own_sink_of_the_model_is_made_up_for(random_recording) -> None:
    recording = random_recording(20, causal=True, sinks=True)
    assert recording.weights(0, 0).sum(1).max() < 1
    np.testing.assert_allclose(attention_rollout(recording).sum(1), 1, atol=1e-6)


def test_what_cannot_be_followed_is_refused(random_recording) -> None:
    with pytest.raises(SelectionError, match=r"of cross-attention\. Take the encoder"):
        attention_rollout(random_recording(4, 6))
    recording = random_recording(4, layers=3)
    with pytest.raises(SelectionError, match="token 4 is not in this recording"):
        attention_rollout(recording, rows=[0, 4])
    with pytest.raises(SelectionError, match="token 9 is not in this recording"):
        attention_rollout(recording, masked=9)
    with pytest.raises(SelectionError, match="layer 3 is not in this recording"):
        attention_rollout(recording, start_layer=3)
    recording.layer_numbers = (0, 1, 5)
    with pytest.raises(SelectionError, match="from 0 to 5, and layer 2 was not recorded"):
        attention_rollout(recording)
    assert attention_rollout(recording, start_layer=5).shape == (4, 4)

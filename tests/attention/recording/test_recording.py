"""What a recording says of itself, and which parts of it can be asked for."""

import gc

import numpy as np
import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.errors import SelectionError
from tests.attention.architectures import tiny

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."


def test_layers_keep_their_numbers(tiny_llama) -> None:
    whole = record(tiny_llama, TEXT)
    for layers in ([1], [-1], [-1, 1]):
        recording = record(tiny_llama, TEXT, layers=layers)
        assert recording.layer_numbers == (1,) and len(recording.layers) == 1
        assert recording.layer(1) is recording.layers[0]
        np.testing.assert_array_equal(recording.weights(1, 3), whole.weights(1, 3))
    assert record(tiny_llama, TEXT, layers=[-1, 0]).layer_numbers == (0, 1)
    with pytest.raises(SelectionError, match=r"layer 0 is not in this recording.* layers 1 to 1"):
        recording.weights(0, 0)
    with pytest.raises(SelectionError, match="layer 0 is not"):
        recording.layer(0)


def test_layers_that_there_are_not(tiny_llama) -> None:
    for layer in (2, -3):
        with pytest.raises(SelectionError, match=f"layer {layer} is not .* 0 to 1"):
            record(tiny_llama, TEXT, layers=[layer])
    with pytest.raises(SelectionError, match=r"None of the layers \[\]"):
        record(tiny_llama, TEXT, layers=[])


def test_numbers_with_gaps_are_told(random_recording) -> None:
    recording = random_recording(5, layers=3)
    recording.layer_numbers = (0, 5, 11)
    with pytest.raises(SelectionError, match="which has layers 0, 5, 11"):
        recording.check(1, 0)


def test_log_sum_exp_is_what_the_softmax_divides_by(tiny_llama) -> None:
    recording = record(tiny_llama, TEXT)
    layer = recording.layers[1]
    scores = layer.query[2].double() @ layer.key[1].double().T * layer.query.shape[-1] ** -0.5
    scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    sums = recording.log_sum_exp(1, 2)
    assert sums.dtype == torch.float32 and sums.shape == (len(recording),)
    torch.testing.assert_close(sums.double(), scores.logsumexp(-1), rtol=0, atol=1e-5)
    assert recording.log_sum_exp(1, 2) is sums


def test_a_token_row_is_both_sides_of_self_attention(tiny_llama) -> None:
    recording = record(tiny_llama, TEXT)
    assert recording.queries is recording.keys
    assert recording.kind == "causal" and recording.causal
    assert recording.prompt_length is None
    assert len(recording) == len(recording.queries) == len(recording.tokens)
    assert "".join(recording.tokens) == recording.text == TEXT


def test_a_classifier_made_of_a_language_model_is_causal(tiny_llama) -> None:
    import dataclasses

    from transformers import LlamaForSequenceClassification

    network = LlamaForSequenceClassification(tiny_llama.network.config).eval()
    model = dataclasses.replace(tiny_llama, network=network, kind="classifier")
    assert record(model, TEXT).causal


def test_offloaded_tensors_lie_in_a_file_that_goes_with_it(tiny_llama, tmp_path) -> None:
    kept = record(tiny_llama, TEXT)
    recording = record(tiny_llama, TEXT, offload=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == sum(
        tensor.numel() * tensor.itemsize
        for layer in kept.layers
        for tensor in (layer.query, layer.key)
    )
    for layer in (0, 1):
        np.testing.assert_array_equal(recording.weights(layer, 3), kept.weights(layer, 3))
    assert recording.closure() == kept.closure()
    del recording
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_recording_leaves_no_file(tiny_llama, tmp_path, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny_llama.network.model.layers[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        record(tiny_llama, TEXT, offload=tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["Gemma2", "Gemma3Text", "GptOss"])
def test_windows_and_eager_masks_are_kept_as_rules(name) -> None:
    recording = record(tiny(name, "eager"), TEXT)
    assert all(layer.mask is None and layer.causal for layer in recording.layers)
    assert recording.layers[0].window == (None if name == "GptOss" else 4)


def test_a_mask_of_its_own_is_kept_once(tiny_llama, monkeypatch) -> None:
    count = len(tiny_llama.tokenizer(TEXT).input_ids)
    odd = torch.ones(1, 1, count, count, dtype=torch.bool).tril()
    odd[..., 3:, 2] = False
    monkeypatch.setattr(
        "transformers.models.llama.modeling_llama.create_causal_mask", lambda **_: odd
    )
    recording = record(tiny_llama, TEXT)
    assert recording.layers[0].mask is recording.layers[1].mask
    assert (recording.weights(0, 0)[3:, 2] == 0).all()
    assert recording.closure() <= 1e-5

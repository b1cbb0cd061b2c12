"""Encoder-decoders, against transformers' own eager attention of all three kinds."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.engine.prompt import Prompt
from nbllm.errors import SelectionError, TextTooLongError, UnsupportedModelError
from tests.attention.architectures import ENCODER_DECODERS, largest_difference, tiny_pair

TEXT = "The soup was warm and the staff were kind."
TARGET = "Er kam spät an 👍"


def eager(model, recording) -> dict[str, list[np.ndarray]]:
    network = copy.deepcopy(model.network)
    network.set_attn_implementation("eager")
    with torch.inference_mode():
        said = network(
            input_ids=torch.tensor([recording.encoder.ids]),
            decoder_input_ids=torch.tensor([recording.decoder.ids]),
            output_attentions=True,
        )
    return {
        part: [layer[0].numpy() for layer in said[f"{part}_attentions"]]
        for part in ("encoder", "decoder", "cross")
    }


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_weights_equal_eager(name, attention) -> None:
    model = tiny_pair(name, attention)
    recording = record(model, TEXT, target=TARGET)
    reference = eager(model, recording)
    assert len(recording.encoder.layers) == 3 and len(recording.decoder.layers) == 2
    for part, weights in reference.items():
        recorded = getattr(recording, part)
        assert recorded.kind == part
        assert largest_difference(recorded, weights) <= 1e-5
        assert recorded.closure() <= 1e-5
        assert all(layer.mask is None for layer in recorded.layers)
    assert not recording.encoder.causal and recording.decoder.causal and not recording.cross.causal


def test_cross_attention_looks_from_one_text_at_the_other() -> None:
    recording = record(tiny_pair("T5"), TEXT, target=TARGET)
    cross = recording.cross
    assert cross.keys.text == TEXT and cross.queries.text == cross.text == TARGET
    assert cross.weights(1, 3).shape == (len(cross.queries), len(cross.keys))
    assert len(cross.queries) != len(cross.keys)
    np.testing.assert_allclose(cross.weights(1, 3).sum(1), 1, atol=1e-5)
    last = len(cross.keys) - 1
    assert cross.weights(0, 0, rows=[1], columns=[last]) == cross.weights(0, 0)[1, last]
    with pytest.raises(SelectionError, match=f"token {last + 1} is not"):
        cross.weights(0, 0, columns=[last + 1])
    # The position bias is of self-attention, kept once for all layers.
    assert cross.layers[0].bias is None
    assert recording.encoder.layers[0].bias is recording.encoder.layers[2].bias is not None


def test_a_target_is_read_as_a_decoder_reads_it() -> None:
    model = tiny_pair("Bart")
    decoder = record(model, TEXT, target=TARGET).decoder
    assert decoder.ids == (0, *model.tokenizer(TARGET).input_ids)
    assert decoder.prompt_length == 1 and decoder.spans[0] == (0, 0) and decoder.special[0]
    assert decoder.spans[1:] == tuple(
        model.tokenizer(TARGET, return_offsets_mapping=True).offset_mapping
    )
    # The last token of a text that ends is written, and never read.
    ended = model.tokenizer(TARGET).input_ids[-1]
    model.network.generation_config.eos_token_id = ended
    assert record(model, TEXT, target=TARGET).decoder.ids == decoder.ids[:-1]


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_without_a_target_the_model_writes(name) -> None:
    model = tiny_pair(name)
    model.network.generation_config.eos_token_id = 1
    ids = torch.tensor([model.tokenizer(TEXT).input_ids])
    with torch.inference_mode():
        said = model.network.generate(ids, max_new_tokens=6, do_sample=False, num_beams=1)[0]
    wrote = [token for token in said.tolist() if token != 1]
    assert list(record(model, TEXT, generate=6).decoder.ids) == wrote


def test_layers_of_unequal_stacks() -> None:
    model = tiny_pair("T5")
    recording = record(model, TEXT, target=TARGET, layers=[0, 2])
    assert recording.encoder.layer_numbers == (0, 2)
    assert recording.decoder.layer_numbers == recording.cross.layer_numbers == (0,)
    whole = record(model, TEXT, target=TARGET)
    np.testing.assert_array_equal(recording.encoder.weights(2, 1), whole.encoder.weights(2, 1))
    last = record(model, TEXT, target=TARGET, layers=[-1])
    assert last.encoder.layer_numbers == (2,) and last.cross.layer_numbers == (1,)
    with pytest.raises(SelectionError, match=r"None of the layers \[2\] is in the decoder"):
        record(model, TEXT, target=TARGET, layers=[2])
    with pytest.raises(SelectionError, match="layer 3 is not in T5, which has layers 0 to 2"):
        record(model, TEXT, target=TARGET, layers=[3])


def test_offload_is_the_same() -> None:
    model = tiny_pair("T5")
    kept, filed = (record(model, TEXT, target=TARGET, offload=offload) for offload in (False, True))
    for part in ("encoder", "decoder", "cross"):
        np.testing.assert_array_equal(
            getattr(kept, part).weights(1, 2), getattr(filed, part).weights(1, 2)
        )


def test_a_target_or_a_number_of_tokens() -> None:
    with pytest.raises(ValueError, match="both given"):
        record(tiny_pair("T5"), TEXT, target=TARGET, generate=3)


def test_a_target_beyond_the_context() -> None:
    model = dataclasses.replace(tiny_pair("Bart"), context_length=20)
    with pytest.raises(TextTooLongError, match="decoder of Bart reads at most 19 and the one"):
        record(model, "a", target=Prompt((5,) * 20, "x" * 20, ((0, 1),) * 20, ()))
    assert (
        len(record(model, "a", target=Prompt((5,) * 19, "x" * 19, ((0, 1),) * 19, ())).cross) == 20
    )


def test_a_decoder_that_knows_no_start() -> None:
    model = tiny_pair("T5")
    model.network.config.decoder_start_token_id = None
    model.network.generation_config.decoder_start_token_id = None
    with pytest.raises(UnsupportedModelError, match="names no token for its decoder to start"):
        record(model, TEXT, target=TARGET)

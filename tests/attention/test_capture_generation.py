"""A generation recorded step by step, against one pass over the tokens that it wrote."""

import dataclasses

import numpy as np
import pytest
import torch

from nbllm.attention.recording.capture import record
from nbllm.engine.prompt import Prompt
from nbllm.errors import TextTooLongError, UnsupportedModelError
from tests.attention.architectures import CAUSAL, largest_difference, tiny

TEXT = "The soup was warm and"


def prompt_of(recording) -> Prompt:
    row = recording.queries
    return Prompt(ids=row.ids, text=row.text, spans=row.spans, field_spans=row.field_spans)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("name", CAUSAL)
def test_steps_equal_one_pass(name, attention, eager_weights) -> None:
    model = tiny(name, attention)
    model.network.generation_config.eos_token_id = None  # all twelve steps
    model.tokenizer.eos_token = None
    steps = record(model, TEXT, generate=12)
    assert steps.prompt_length == len(model.tokenizer(TEXT).input_ids)
    assert len(steps) == steps.prompt_length + 12
    whole = record(model, prompt_of(steps))
    reference = [
        np.stack([whole.weights(layer, head) for head in range(whole.heads)])
        for layer in whole.layer_numbers
    ]
    assert largest_difference(steps, reference) <= 1e-5
    assert largest_difference(steps, eager_weights(model.network, steps.ids)) <= 1e-5
    assert steps.closure() <= 1e-5
    assert [layer.window for layer in steps.layers] == [layer.window for layer in whole.layers]
    assert all(layer.mask is None and layer.causal for layer in steps.layers)


def test_it_writes_what_the_model_writes(tiny_llama) -> None:
    ids = torch.tensor([tiny_llama.tokenizer(TEXT).input_ids])
    with torch.inference_mode():
        said = tiny_llama.network.generate(ids, max_new_tokens=9, do_sample=False)[0].tolist()
    recording = record(tiny_llama, TEXT, generate=9)
    assert list(recording.ids) == said
    assert recording.text.startswith(TEXT)
    assert tiny_llama.tokenizer.decode(said) == recording.text


def test_it_stops_at_the_end(tiny_llama) -> None:
    wrote = record(tiny_llama, TEXT, generate=4).ids[-4:]
    tiny_llama.network.generation_config.eos_token_id = [5, wrote[1]]
    recording = record(tiny_llama, TEXT, generate=4)
    assert recording.ids[recording.prompt_length :] == wrote[:2]
    # The end of text was read too, so that every token has a row.
    np.testing.assert_allclose(recording.weights(1, 0).sum(1), 1, atol=1e-5)
    assert recording.weights(1, 0).shape == (len(recording), len(recording))


def test_a_prompt_of_one_token(tiny_llama) -> None:
    recording = record(tiny_llama, "a", generate=3)
    assert recording.prompt_length == 1
    assert (np.triu(recording.weights(0, 0), 1) == 0).all()
    assert recording.weights(0, 0)[0, 0] == 1


def test_beyond_the_context(tiny_llama) -> None:
    short = dataclasses.replace(tiny_llama, context_length=20)
    with pytest.raises(TextTooLongError, match=r"is to have 15 more.* at most 20"):
        record(short, TEXT, generate=15)


def test_who_cannot_write(tiny_encoder, tiny_llama) -> None:
    with pytest.raises(UnsupportedModelError, match="kind encoder, which writes nothing"):
        record(tiny_encoder, "the staff", generate=3)
    with pytest.raises(ValueError, match="generate=-1 is no whole"):
        record(tiny_llama, TEXT, generate=-1)
    with pytest.raises(UnsupportedModelError, match="only an encoder-decoder"):
        record(tiny_llama, TEXT, target="kind")


def test_an_offloaded_generation(tiny_llama) -> None:
    kept, filed = (
        record(tiny_llama, TEXT, generate=5),
        record(tiny_llama, TEXT, generate=5, offload=True),
    )
    for head in range(kept.heads):
        np.testing.assert_array_equal(kept.weights(1, head), filed.weights(1, head))

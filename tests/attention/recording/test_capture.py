"""A recording against transformers' own eager attention, and against the kernel it heard."""

import copy
import dataclasses
import threading

import numpy as np
import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nbllm.attention.recording.capture import record, record_batch
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.errors import SelectionError, TextError, TextTooLongError, UnsupportedModelError
from tests.attention.architectures import ARCHITECTURES, largest_difference, tiny

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_equal_eager(architecture, attention, eager_weights) -> None:
    model = tiny(architecture, attention)
    recording = record(model, TEXT)
    assert len(recording) > 20  # beyond the sliding windows above
    assert largest_difference(recording, eager_weights(model.network, recording.ids)) <= 1e-5
    assert recording.closure() <= 1e-5


def test_weights_of_the_real_model_equal_eager(smollm2, eager_weights) -> None:
    network = copy.deepcopy(smollm2.network).float()
    recording = record(dataclasses.replace(smollm2, network=network), TEXT)
    assert largest_difference(recording, eager_weights(network, recording.ids)) <= 1e-5
    assert recording.closure() <= 1e-5


def test_closure_of_the_real_model_in_bfloat16(smollm2) -> None:
    network = copy.deepcopy(smollm2.network).to(torch.bfloat16)
    recording = record(dataclasses.replace(smollm2, network=network), TEXT)
    assert 1e-5 < recording.closure() <= 2e-2


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_closure_of_a_quantized_model(tiny_folder, quantize) -> None:
    import nbllm

    with nbllm.load(str(tiny_folder("causal")), quantize=quantize) as model:
        assert model.quantization == quantize
        recording = record(model, TEXT)
        assert recording.closure() <= 2e-2
        np.testing.assert_allclose(recording.weights(1, 3).sum(1), 1, atol=1e-5)
        assert record(model, TEXT, generate=3).closure() <= 2e-2


def test_attention_sinks_leave_rows_below_one() -> None:
    model = tiny("GptOss")
    with torch.no_grad():
        for layer in model.network.model.layers:
            layer.self_attn.sinks.fill_(1.0)
    recording = record(model, TEXT)
    totals = recording.weights(0, 0).sum(1)
    assert totals.max() < 1 and totals.min() < 0.9
    assert recording.closure() <= 1e-5


def test_a_classifier_is_recorded_both_ways(tiny_classifier) -> None:
    recording = record(tiny_classifier, "the staff were kind")
    weights = recording.weights(0, 0)
    assert not recording.causal
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert recording.special[0] and recording.special[-1] and not recording.special[1]
    assert recording.tokens[0] == "[CLS]"


def test_a_tile_is_that_part_of_the_whole(tiny_llama) -> None:
    recording = record(tiny_llama, TEXT)
    whole = recording.weights(1, 2)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(
        recording.weights(1, 2, slice(5, 9), [8, 0, 3]), whole[5:9][:, [8, 0, 3]], rtol=0, atol=2e-6
    )
    # Asked first for a part, a fresh recording knows the rest of each row all the same.
    part = record(tiny_llama, TEXT).weights(1, 2, range(5, 9), range(0, 4))
    np.testing.assert_allclose(part, whole[5:9, :4], rtol=0, atol=2e-6)


def test_a_causal_model_sees_no_later_token(tiny_llama) -> None:
    weights = record(tiny_llama, TEXT).weights(0, 1)
    assert (np.triu(weights, 1) == 0).all()
    assert weights[0, 0] == 1


@pytest.mark.parametrize("place", [{"layer": 2}, {"head": 4}, {"layer": -1}, {"rows": [999]}])
def test_a_selection_out_of_range(tiny_llama, place) -> None:
    recording = record(tiny_llama, TEXT)
    name = next(iter(place)).replace("rows", "token")
    with pytest.raises(SelectionError, match=rf"{name} -?\d+ is not in this recording.* 0 to \d+"):
        recording.weights(**{"layer": 0, "head": 0, **place})


def test_a_prompt_is_taken_as_it_is(tiny_llama) -> None:
    ids = tiny_llama.tokenizer("Review: good").input_ids
    spans = tuple(tiny_llama.tokenizer("Review: good", return_offsets_mapping=True).offset_mapping)
    marks = (FieldSpan("review", 2, len(ids)),)
    recording = record(tiny_llama, Prompt(tuple(ids), "Review: good", spans, marks))
    assert recording.ids == tuple(ids)
    assert recording.field_spans == marks
    assert "".join(recording.tokens) == "Review: good"


def test_tokens_are_readable_and_spans_lie_in_the_text(tiny_llama) -> None:
    text = "naïve 房间 👍 <img onerror=alert(1)>"
    recording = record(tiny_llama, text)
    assert all(
        token == text[start:stop]
        for token, (start, stop) in zip(recording.tokens, recording.spans, strict=True)
    )
    assert set("".join(recording.tokens)) == set(text)
    assert "👍" in {token.strip() for token in recording.tokens}


def test_half_a_surrogate_pair_does_not_stop_it(tiny_llama) -> None:
    assert record(tiny_llama, "a \ud83d b").text == "a � b"


def test_one_token_looks_at_itself(tiny_llama, tiny_encoder) -> None:
    recording = record(tiny_llama, "a")
    assert recording.weights(0, 0).tolist() == [[1.0]]
    assert recording.causal and recording.closure() <= 1e-5
    assert record(tiny_encoder, "a").weights(0, 0).shape == (3, 3)


def test_only_special_tokens(tiny_encoder) -> None:
    recording = record(tiny_encoder, "")
    assert recording.tokens == ("[CLS]", "[SEP]") and all(recording.special)
    np.testing.assert_allclose(recording.weights(1, 1).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_closure_in_half_precision(attention, dtype) -> None:
    model = tiny("Llama", attention)
    model.network.to(dtype)
    assert 1e-5 < record(model, TEXT).closure() <= 2e-2


def test_flash_is_heard_through_the_interface(monkeypatch) -> None:
    """Flash masks the future and the window by itself; a mask that it is given is of padding."""

    def flash(module, query, key, value, mask, **options):
        assert mask is None or mask.ndim == 2
        rows, columns = query.shape[2], key.shape[2]
        back = torch.arange(columns - rows, columns)[:, None] - torch.arange(columns)
        seen = ((back >= 0) & (back < options["sliding_window"]))[None, None]
        if mask is not None:
            seen = seen & mask[:, None, None, :].bool()
            seen = seen | torch.eye(rows, dtype=torch.bool)  # padding sees itself
        return sdpa(module, query, key, value, seen, **options)

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    model = tiny("Mistral")
    reference = record(model, TEXT)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_like", flash)
    masks = ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
    monkeypatch.setitem(masks, "flash_like", masks["flash_attention_2"])
    model.network.config._attn_implementation = "flash_like"
    for recording in (
        record(model, TEXT),
        record_batch(model, ["a", TEXT])[1],
        record_batch(model, [TEXT, TEXT + TEXT])[0],
    ):
        assert recording.closure() <= 1e-5
        assert [layer.window for layer in recording.layers] == [4, 4]
        np.testing.assert_allclose(recording.weights(1, 2), reference.weights(1, 2), atol=1e-5)
    steps = record(model, TEXT, generate=3)
    assert steps.closure() <= 1e-5 and steps.layers[0].window == 4


def test_no_text(tiny_llama) -> None:
    with pytest.raises(TextError, match="no text to read"):
        record(tiny_llama, "")
    with pytest.raises(TypeError, match="neither a string nor a Prompt"):
        record(tiny_llama, float("nan"))


def test_a_text_beyond_the_context(tiny_llama) -> None:
    short = dataclasses.replace(tiny_llama, context_length=10)
    with pytest.raises(TextTooLongError, match=r"reads at most 10\. Shorten it by \d+ tokens"):
        record(short, TEXT)


@pytest.mark.parametrize("name", ["Falcon", "Bloom"])
def test_a_model_past_the_interface_is_refused(name) -> None:
    with pytest.raises(UnsupportedModelError, match="call of transformers' AttentionInterface"):
        record(tiny(name), TEXT)


def test_a_model_without_attention_is_refused(tiny_llama) -> None:
    config = MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4)
    network = MambaForCausalLM(config).eval()
    with pytest.raises(UnsupportedModelError, match=r"has no attention.* nothing to record"):
        record(dataclasses.replace(tiny_llama, network=network, name="mamba"), TEXT)


def test_attention_that_q_and_k_do_not_explain_is_refused(tiny_llama, monkeypatch) -> None:
    def twisted(module, query, key, value, mask, **options):
        output, none = sdpa(module, query, key, value, mask, **options)
        return output * 1.2, none

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", twisted)
    with pytest.raises(UnsupportedModelError, match=r"made of more than queries and keys"):
        record(tiny_llama, TEXT)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is twisted


def test_the_attention_functions_are_as_before(tiny_llama, monkeypatch) -> None:
    before = dict(ALL_ATTENTION_FUNCTIONS)
    record(tiny_llama, TEXT)
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    assert tiny_llama.network.config._attn_implementation == "sdpa"

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(tiny_llama.network.model.layers[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        record(tiny_llama, TEXT)
    assert dict(ALL_ATTENTION_FUNCTIONS) == before


def test_another_threads_model_is_not_heard(tiny_llama, tiny_encoder) -> None:
    finished = []

    def run() -> None:
        with torch.inference_mode():
            finished.append(tiny_encoder.network(torch.tensor([[2, 5, 3]])))

    def meanwhile(*_) -> None:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    tiny_llama.network.model.layers[0].register_forward_hook(meanwhile)
    recording = record(tiny_llama, TEXT)
    assert len(finished) == 1
    assert len(recording.layers) == 2
    assert all(layer.query.shape[1] == len(recording) for layer in recording.layers)


def test_grouped_keys_are_kept_once_and_in_the_models_dtype(tiny_llama) -> None:
    tiny_llama.network.to(torch.bfloat16)
    layer = record(tiny_llama, TEXT).layers[0]
    assert layer.query.shape[0] == 4 and layer.key.shape[0] == 2
    assert layer.query.dtype == layer.key.dtype == torch.bfloat16

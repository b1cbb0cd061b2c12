"""The lens and direct logit attribution against hidden states and weights read by hand."""

import copy
import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from nbllm.attention.analysis.lens import logit_lens
from nbllm.attention.analysis.logit_parts import direct_logit_attribution
from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.errors import (
    ModelError,
    SelectionError,
    TextError,
    TextTooLongError,
    UnsupportedModelError,
)
from nbllm.models.model import Model
from tests.attention.architectures import GROUPED, SIZES

TEXT = "The soup was warm and the staff were kind, so we stayed."
DEEPER = {**SIZES, "num_hidden_layers": 3}
EXPERTS = {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}
# Of each, what differs from DEEPER; Gemma 2 caps its logits, Cohere and Granite scale them.
LENSES = {
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 16},
    "Mistral": GROUPED,
    "Mixtral": EXPERTS,
    "Gemma2": {**GROUPED, "head_dim": 8, "final_logit_softcapping": 3.0},
    "Gemma3Text": {**GROUPED, "head_dim": 8},
    "Cohere": {**GROUPED, "logit_scale": 0.25},
    "Granite": {**GROUPED, "logits_scaling": 4.0, "residual_multiplier": 0.5},
    "GPT2": {},
    "GPTNeoX": {},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Phi": {},
    "Falcon": {},
}
SUMS = ["Llama", "Qwen2", "Qwen3", "Mistral", "Mixtral", "GPT2", "GPTNeoX", "Phi", "Falcon"]


@pytest.fixture
def tiny(tiny_llama):
    """Builds a tiny random model of an architecture, no weight of which is one or zero."""

    def build(name: str) -> Model:
        config = getattr(transformers, f"{name}Config")(**{**DEEPER, **LENSES[name]})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = transformers.AutoModelForCausalLM.from_config(config).eval()
            for weight in network.parameters():
                if weight.ndim == 1:
                    weight.data += 0.3 * torch.randn_like(weight)
        return dataclasses.replace(tiny_llama, network=network, name=name, context_length=256)

    return build


def own(model: Model, text: str = TEXT):
    """What the network itself says: logits (tokens, vocabulary) and its hidden states."""
    ids = torch.tensor([model.tokenizer(text).input_ids])
    with torch.inference_mode():
        said = model.network(ids, output_hidden_states=True)
    return said.logits[0].float().numpy(), said.hidden_states


@pytest.mark.parametrize("name", LENSES)
def test_the_last_layer_says_what_the_model_says(tiny, name) -> None:
    model = tiny(name)
    logits, _ = own(model)
    lens = logit_lens(model, TEXT)
    assert lens.positions == tuple(range(len(logits)))
    for position in (0, 5, -1):
        found = lens.logits(3, position)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, logits[position], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_layers_between_are_norm_and_output_matrix_by_hand(tiny, name) -> None:
    model = tiny(name)
    _, hidden = own(model)
    body = model.network.base_model
    norm = body.norm if name == "Llama" else body.ln_f
    lens = logit_lens(model, TEXT, positions=[2, 7])
    for layer in range(3):
        with torch.inference_mode():
            by_hand = model.network.lm_head(norm(hidden[layer]))[0]
        for position in (2, 7):
            np.testing.assert_allclose(
                lens.logits(layer, position), by_hand[position], rtol=0, atol=1e-5
            )


def test_layers_between_are_capped_as_the_last_is(tiny) -> None:
    model = tiny("Gemma2")
    _, hidden = own(model)
    with torch.inference_mode():
        raw = model.network.lm_head(model.network.model.norm(hidden[1]))[0, 4]
    capped = 3 * np.tanh(raw.numpy() / 3)
    assert np.abs(capped - raw.numpy()).max() > 0.1
    np.testing.assert_allclose(logit_lens(model, TEXT).logits(1, 4), capped, rtol=0, atol=1e-5)


def test_top_frame_and_rank_tell_the_same(tiny_llama) -> None:
    lens = logit_lens(tiny_llama, TEXT, positions=[3, -1], top=4)
    last = len(lens.tokens) - 1
    assert lens.positions == (3, last)
    frame = lens.frame()
    assert list(frame) == ["layer", "position", "token", "rank", "prediction", "probability"]
    assert len(frame) == 3 * 2 * 4
    for layer in range(3):
        logits = lens.logits(layer, last).astype(np.float64)
        probabilities = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-probabilities)[:4]
        top = lens.top(layer, last, k=4)
        assert [token for _, token, _ in top] == list(order)
        assert [text for text, _, _ in top] == [tiny_llama.tokenizer.decode([t]) for t in order]
        np.testing.assert_allclose([p for _, _, p in top], probabilities[order], rtol=1e-5)
        rows = frame[(frame["layer"] == layer) & (frame["position"] == last)]
        assert list(rows["rank"]) == [1, 2, 3, 4]
        assert list(rows["prediction"]) == [text for text, _, _ in top]
        np.testing.assert_allclose(rows["probability"], [p for _, _, p in top], rtol=1e-5)
        assert set(rows["token"]) == {lens.tokens[last]}
        for rank, token in enumerate(order, start=1):
            ranks = lens.rank_of(int(token))
            assert ranks.shape == (3, 2)
            assert ranks[layer, 1] == rank


def test_it_is_read_a_part_at_a_time(tiny_llama, monkeypatch) -> None:
    lens = logit_lens(tiny_llama, TEXT)
    whole = lens.frame()
    monkeypatch.setattr("nbllm.engine.chunks._LOGITS", 5 * len(tiny_llama.tokenizer))
    pd.testing.assert_frame_equal(lens.frame(), whole, check_exact=False, atol=1e-6)


def test_a_prompt_is_taken_as_it_is(tiny_llama) -> None:
    coded = tiny_llama.tokenizer("Review: good", return_offsets_mapping=True)
    spans = tuple(coded.offset_mapping)
    prompt = Prompt(tuple(coded.input_ids), "Review: good", spans, (FieldSpan("review", 2, 3),))
    lens = logit_lens(tiny_llama, prompt)
    assert lens.ids == prompt.ids
    assert "".join(lens.tokens) == "Review: good"


def test_bfloat16_is_compared_within_its_rounding(tiny_llama) -> None:
    tiny_llama.network.to(torch.bfloat16)
    lens = logit_lens(tiny_llama, TEXT)
    logits, _ = own(tiny_llama)
    np.testing.assert_allclose(lens.logits(2, -1), logits[-1], atol=5e-2 * np.abs(logits).max())


def test_another_threads_pass_is_left_alone(tiny_llama) -> None:
    ids = torch.tensor([tiny_llama.tokenizer("It was cold.").input_ids])
    with torch.inference_mode():
        alone = tiny_llama.network(ids).logits
    said = []

    def run() -> None:
        with torch.inference_mode():
            said.append(tiny_llama.network(ids).logits)

    def meanwhile(*_) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    tiny_llama.network.model.layers[0].register_forward_hook(meanwhile)
    lens = logit_lens(tiny_llama, TEXT)
    direct_logit_attribution(tiny_llama, TEXT, 7)
    assert len(said) > 2
    assert all(torch.equal(logits, alone) for logits in said)
    assert len(lens.positions) > ids.shape[1]


def test_the_real_models_lens_and_parts(smollm2) -> None:
    model = dataclasses.replace(smollm2, network=copy.deepcopy(smollm2.network).float())
    text = "The capital of France is"
    lens = logit_lens(model, text, positions=[-1])
    logits, _ = own(model, text)
    np.testing.assert_allclose(lens.logits(30, -1), logits[-1], rtol=0, atol=1e-4)
    ranks = lens.rank_of(" Paris")[:, 0]
    assert ranks[0] > 1000 and ranks[-1] <= 3
    parts = direct_logit_attribution(model, text, " Paris", " London")
    assert len(parts) == 1 + 30 * (9 + 1)
    assert parts.attrs["gap"] <= 1e-4
    paris, london = (model.tokenizer(word).input_ids[0] for word in (" Paris", " London"))
    assert parts.attrs["logit"] == pytest.approx(logits[-1, paris] - logits[-1, london], abs=1e-3)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantized_model(tiny_folder, quantize) -> None:
    import nbllm

    with nbllm.load(str(tiny_folder("causal")), quantize=quantize) as model:
        logits, _ = own(model)
        lens = logit_lens(model, TEXT)
        np.testing.assert_allclose(
            lens.logits(2, -1), logits[-1], atol=5e-2 * np.abs(logits[-1]).max()
        )
        assert len(direct_logit_attribution(model, TEXT, 7)) == 1 + 2 * 5
    with pytest.raises(ModelError, match="was unloaded"):
        lens.logits(2, -1)


@pytest.mark.parametrize("name", SUMS)
def test_contributions_add_up_to_the_logit(tiny, name) -> None:
    model = tiny(name)
    logits, _ = own(model)
    for token, against in [(17, None), (17, 230)]:
        frame = direct_logit_attribution(model, TEXT, token, against, position=6)
        said = logits[6, token] - (0 if against is None else logits[6, against])
        assert frame.attrs["logit"] == pytest.approx(said, abs=1e-4)
        assert frame["contribution"].sum() == pytest.approx(said, rel=1e-4, abs=1e-5)
        assert frame.attrs["gap"] <= 1e-4
        heads = frame[frame["component"] == "attention"]
        assert list(zip(heads["layer"], heads["head"], strict=True)) == [
            (layer, head) for layer in range(3) for head in range(4)
        ]
        assert (frame["component"] == "mlp").sum() == 3
        assert (frame["component"] == "embedding").sum() == 1


def test_the_parts_are_those_of_llama_written_by_hand(tiny) -> None:
    model = tiny("Llama")
    network = model.network
    kept, hooks = {}, []
    for index, layer in enumerate(network.model.layers):
        hooks += [
            layer.self_attn.o_proj.register_forward_pre_hook(
                lambda _, inputs, index=index: kept.update({("z", index): inputs[0][0, -1]})
            ),
            layer.mlp.register_forward_hook(
                lambda *called, index=index: kept.update({("mlp", index): called[2][0, -1]})
            ),
        ]
    hooks.append(
        network.model.norm.register_forward_pre_hook(
            lambda _, inputs: kept.update({"last": inputs[0][0, -1]})
        )
    )
    _, hidden = own(model)
    for hook in hooks:
        hook.remove()
    frame = direct_logit_attribution(model, TEXT, 17, 230)
    with torch.inference_mode():
        norm = network.model.norm
        scale = torch.rsqrt(kept["last"].square().mean() + norm.variance_epsilon)
        reader = scale * norm.weight * (network.lm_head.weight[17] - network.lm_head.weight[230])
        expected = [float(hidden[0][0, -1] @ reader)]
        for index, layer in enumerate(network.model.layers):
            columns = layer.self_attn.o_proj.weight.split(8, dim=1)
            heads = kept["z", index].split(8)
            expected += [float(w @ z @ reader) for w, z in zip(columns, heads, strict=True)]
            expected.append(float(kept["mlp", index] @ reader))
    np.testing.assert_allclose(frame["contribution"], expected, rtol=0, atol=1e-5)


def test_layer_norm_is_centred_and_biases_have_rows_of_their_own(tiny) -> None:
    model = tiny("GPT2")
    network, norm = model.network, model.network.transformer.ln_f
    kept = {}
    norm.register_forward_pre_hook(lambda _, inputs: kept.update(last=inputs[0][0, -1]))
    _, hidden = own(model)
    last = kept["last"]
    frame = direct_logit_attribution(model, TEXT, 17)
    direction = network.lm_head.weight[17]
    with torch.inference_mode():
        scale = torch.rsqrt(last.var(unbiased=False) + norm.eps)
        embedding = hidden[0][0, -1]
        expected = (scale * norm.weight * (embedding - embedding.mean())) @ direction
        offset = norm.bias @ direction
    assert frame["contribution"].iloc[0] == pytest.approx(float(expected), abs=1e-5)
    biases = frame[frame["component"] == "bias"]
    assert list(biases["layer"])[:3] == [0, 1, 2] and biases["layer"].isna().sum() == 1
    assert biases["contribution"].iloc[-1] == pytest.approx(float(offset), abs=1e-5)
    assert biases["head"].isna().all()


def test_an_adapted_projection_is_split_with_its_adapter(tiny_llama) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False)
    adapted = get_peft_model(tiny_llama.network, config).get_base_model().eval()
    model = dataclasses.replace(tiny_llama, network=adapted)
    assert direct_logit_attribution(model, TEXT, 17).attrs["gap"] <= 1e-4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Gemma3Text", "Layer 0 .* is not the sum"),
        ("Granite", "Layer 0 .* is not the sum"),
        ("Cohere", "done to its logits"),
        ("OPT", "not one attention and one MLP"),
    ],
)
def test_a_model_that_is_no_such_sum_is_refused(tiny, name, said) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        direct_logit_attribution(tiny(name), TEXT, 17)


def test_a_network_without_a_final_norm_is_refused(tiny_llama) -> None:
    tiny_llama.network.model.norm = torch.nn.Identity()
    with pytest.raises(UnsupportedModelError, match="does not show a norm before its output"):
        logit_lens(tiny_llama, TEXT)


def test_a_norm_that_does_not_explain_the_logits_is_refused(tiny_llama) -> None:
    norm = tiny_llama.network.model.norm
    calls = iter(range(1, 9))
    # Each time it is asked, it answers otherwise.
    norm.register_forward_hook(lambda _module, _inputs, output: output * next(calls))
    with pytest.raises(UnsupportedModelError, match=r"miss its own logits by \d+"):
        logit_lens(tiny_llama, TEXT)


@pytest.mark.parametrize("kind", ["tiny_encoder", "tiny_classifier"])
def test_a_model_that_says_no_next_token(request, kind) -> None:
    model = request.getfixturevalue(kind)
    with pytest.raises(UnsupportedModelError, match="requires a causal model"):
        logit_lens(model, TEXT)
    with pytest.raises(UnsupportedModelError, match="requires a causal model"):
        direct_logit_attribution(model, TEXT, 7)


def test_texts_that_cannot_be_read(tiny_llama) -> None:
    with pytest.raises(TextError, match="no text to read"):
        logit_lens(tiny_llama, "")
    with pytest.raises(TypeError, match="neither a string nor a Prompt"):
        logit_lens(tiny_llama, float("nan"))
    short = dataclasses.replace(tiny_llama, context_length=10)
    with pytest.raises(TextTooLongError, match=r"reads at most 10\. Shorten it by \d+ tokens"):
        direct_logit_attribution(short, TEXT, 7)


def test_selections_out_of_range(tiny_llama) -> None:
    lens = logit_lens(tiny_llama, TEXT, positions=[1])
    with pytest.raises(SelectionError, match=r"layer 3 is not in this lens.* 0 .* to 2"):
        lens.logits(3, 1)
    with pytest.raises(SelectionError, match="token 2 was not kept"):
        lens.logits(0, 2)
    with pytest.raises(SelectionError, match=r"token 99 is not in this text, .* 0 to \d+"):
        logit_lens(tiny_llama, TEXT, positions=[99])
    with pytest.raises(SelectionError, match="names no token"):
        logit_lens(tiny_llama, TEXT, positions=[])
    with pytest.raises(SelectionError, match="not in the vocabulary"):
        direct_logit_attribution(tiny_llama, TEXT, 10**6)
    with pytest.raises(SelectionError, match="not in the vocabulary"):
        lens.rank_of(-1)
    with pytest.raises(SelectionError, match=r"' zebra' is \d tokens of tiny-causal: ' "):
        direct_logit_attribution(tiny_llama, TEXT, " zebra")


def test_nothing_is_left_on_the_network(tiny_llama) -> None:
    logit_lens(tiny_llama, TEXT)
    direct_logit_attribution(tiny_llama, TEXT, 7)
    for module in tiny_llama.network.modules():
        ours = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        assert not [hook for hook in ours if "nbllm" in hook.__module__]

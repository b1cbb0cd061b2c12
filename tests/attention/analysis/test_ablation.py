"""Importance by ablation against models whose output projection was emptied of a head."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import nbllm.attention.analysis.ablation as ablation
from nbllm.attention.analysis.ablation import head_importance
from nbllm.attention.analysis.activation_cache import ActivationCache
from nbllm.errors import LabelError, SelectionError, TextError, UnsupportedModelError
from tests.attention.architectures import CAUSAL, tiny

TEXT = "The soup was warm and the staff were kind"


def projections(network) -> list[torch.nn.Linear]:
    """The matrix over the heads of each layer."""
    return [
        module
        for name, module in network.named_modules()
        if name.endswith(("self_attn.o_proj", "attention.output.dense"))
    ]


def answers(network, ids) -> torch.Tensor:
    with torch.inference_mode():
        logits = network(torch.tensor([ids])).logits[0].double()
    return logits if logits.ndim == 1 else logits[-1]


def without(model, ids, layer: int, head: int, replacement: str) -> torch.Tensor:
    """Logits of a copy of the model in which one head gives nothing, or its mean."""
    network = copy.deepcopy(model.network)
    projection = projections(network)[layer]
    size = projection.in_features // 4
    part = slice(head * size, (head + 1) * size)
    if replacement == "zero":
        with torch.no_grad():
            projection.weight[:, part] = 0
    else:

        def flatten(_module, given):
            changed = given[0].clone()
            changed[:, :, part] = changed[:, :, part].mean(1, keepdim=True)
            return (changed,)

        projection.register_forward_pre_hook(flatten)
    return answers(network, ids)


@pytest.mark.parametrize("replacement", ["zero", "mean"])
@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_classifier"])
@pytest.mark.parametrize("at_once", [1, 60, 10_000])
def test_importance_of_every_head(request, monkeypatch, kind, replacement, at_once) -> None:
    monkeypatch.setattr(ablation, "_TOKENS", at_once)
    model = request.getfixturevalue(kind)
    ids = model.tokenizer(TEXT).input_ids
    frame = head_importance(model, TEXT, replacement=replacement)
    whole = answers(model.network, ids)
    target = int(whole.argmax())
    assert frame.attrs["target"] == target
    assert list(frame[["layer", "head"]].itertuples(index=False, name=None)) == [
        (layer, head) for layer in range(2) for head in range(4)
    ]
    for row in frame.itertuples():
        left = without(model, ids, row.layer, row.head, replacement)
        fall = whole.log_softmax(-1)[target] - left.log_softmax(-1)[target]
        assert row.importance == pytest.approx(float(fall), abs=1e-4)
        assert row.logit_drop == pytest.approx(float(whole[target] - left[target]), abs=1e-4)
    assert frame["importance"].abs().max() > 1e-3


@pytest.mark.parametrize("name", CAUSAL)
def test_layers_below_are_left_out(monkeypatch, name) -> None:
    model = tiny(name)
    stack = next(m for m in model.network.modules() if isinstance(m, torch.nn.ModuleList))
    with monkeypatch.context() as patched:
        patched.setattr(ActivationCache, "available", lambda self, count: 0)
        expected = head_importance(model, TEXT)
    monkeypatch.setattr(ablation, "_TOKENS", 1)  # a head at a time
    runs = []
    for number, layer in enumerate(stack):
        for part in layer.children():
            part.register_forward_pre_hook(lambda *_, number=number: runs.append(number))
    frame = head_importance(model, TEXT)
    assert runs.count(0) < runs.count(1), "four passes begin with the second layer"
    np.testing.assert_allclose(frame["importance"], expected["importance"], atol=1e-4)
    assert not any("forward" in vars(layer) for layer in stack)


def test_layers_that_read_more_than_the_one_below_are_all_run(monkeypatch, tiny_llama) -> None:
    """As where a layer has the keys of another one."""
    model = dataclasses.replace(tiny_llama, network=copy.deepcopy(tiny_llama.network))
    first, second = model.network.model.layers
    seen = {}
    first.mlp.register_forward_hook(lambda _layer, _inputs, output: seen.update(mlp=output))
    second.register_forward_hook(lambda _layer, _inputs, output: output + seen.pop("mlp", 0))
    everything = head_importance(model, TEXT)
    monkeypatch.setattr(ablation, "_TOKENS", 1)
    frame = head_importance(model, TEXT)
    np.testing.assert_allclose(frame["importance"], everything["importance"], atol=1e-4)


def test_a_target_and_some_layers(tiny_llama, tiny_classifier) -> None:
    everything = head_importance(tiny_llama, TEXT, target=7)
    assert everything.attrs["target"] == 7
    frame = head_importance(tiny_llama, TEXT, target=7, layers=[1])
    assert frame["layer"].tolist() == [1] * 4
    np.testing.assert_allclose(frame["importance"], everything["importance"][4:], atol=1e-5)
    by_name = head_importance(tiny_classifier, "the staff", target="negative")
    by_number = head_importance(tiny_classifier, "the staff", target=0)
    np.testing.assert_array_equal(by_name["importance"], by_number["importance"])


def test_the_mean_of_one_token_is_that_token(tiny_llama) -> None:
    frame = head_importance(tiny_llama, "a", replacement="mean")
    assert frame["importance"].abs().max() <= 1e-5


def test_the_real_models_answer_needs_few_heads(smollm2) -> None:
    frame = head_importance(smollm2, "The capital of France is", layers=range(0, 30, 6))
    assert smollm2.tokenizer.decode([frame.attrs["target"]]) == " Paris"
    assert len(frame) == 45
    assert frame["importance"].max() > 5 * frame["importance"].abs().median()


def test_the_model_is_as_before(tiny_llama) -> None:
    ids = tiny_llama.tokenizer(TEXT).input_ids
    functions = dict(ALL_ATTENTION_FUNCTIONS)
    before = answers(tiny_llama.network, ids)
    head_importance(tiny_llama, TEXT)
    assert dict(ALL_ATTENTION_FUNCTIONS) == functions
    assert torch.equal(answers(tiny_llama.network, ids), before)


def test_what_cannot_be_ablated_is_refused(tiny_llama, tiny_classifier, tiny_encoder) -> None:
    with pytest.raises(UnsupportedModelError, match="of kind encoder"):
        head_importance(tiny_encoder, TEXT)
    with pytest.raises(ValueError, match="replacement='noise' is none of"):
        head_importance(tiny_llama, TEXT, replacement="noise")
    with pytest.raises(SelectionError, match="layer 2 is not in tiny-causal"):
        head_importance(tiny_llama, TEXT, layers=[0, 2])
    with pytest.raises(SelectionError, match="no layer"):
        head_importance(tiny_llama, TEXT, layers=[])
    with pytest.raises(SelectionError, match="not in the vocabulary"):
        head_importance(tiny_llama, TEXT, target=100_000)
    with pytest.raises(LabelError, match="no class 'mixed'"):
        head_importance(tiny_classifier, TEXT, target="mixed")
    with pytest.raises(TextError, match="no tokens"):
        head_importance(tiny_llama, "")


def test_a_model_past_the_interface_is_refused(tiny_llama) -> None:
    sizes = {"n_layer": 2, "hidden_size": 32, "n_head": 4, "vocab_size": 400}
    network = BloomForCausalLM(BloomConfig(**sizes)).eval()
    bloom = dataclasses.replace(tiny_llama, network=network)
    with pytest.raises(UnsupportedModelError, match="call of transformers' AttentionInterface"):
        head_importance(bloom, TEXT)

"""LoRA adapters: beside the weights, merged into them, and those of another model."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PeftType, PromptLearningConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nbllm.attention.recording.capture import record
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models import adapter as adapters
from nbllm.models.loader import load, reload
from tests.conftest import tiny_network

Folder = Callable[[str], Path]
IDS = torch.arange(3, 40)[None]


@pytest.fixture
def base(tiny_folder: Folder) -> Path:
    return tiny_folder("causal")


@pytest.fixture
def adapter(base: Path) -> Path:
    """Random LoRA weights of rank 4 for the tiny causal model."""
    folder = base.with_name("adapter")
    network = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(network, settings).save_pretrained(folder)
    return folder


@pytest.fixture
def expected(base: Path, adapter: Path) -> torch.Tensor:
    """The logits that peft's own model gives."""
    network = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    with torch.inference_mode():
        logits: torch.Tensor = network(IDS).logits
    return logits


@pytest.mark.parametrize("merge", [False, True])
def test_it_computes_what_peft_does(
    base: Path, adapter: Path, expected: torch.Tensor, merge: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    capfd.readouterr()
    model = load(base, quantize="none", dtype="fp32", adapter=adapter, merge_adapter=merge)
    assert capfd.readouterr() == ("", "")
    with torch.inference_mode():
        logits = model.network(IDS).logits
        plain = load(base, quantize="none", dtype="fp32").network(IDS).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert (plain - expected).abs().max() > 0.1, "the adapter changes something"
    assert type(model.network).__name__ == "LlamaForCausalLM"
    assert ("lora" in str(model.network)) is not merge
    assert record(model, "The soup was warm.").closure() <= 1e-5


@pytest.mark.parametrize("bits", ["none", "nf4"])
def test_it_freezes_nothing(base: Path, adapter: Path, bits: str) -> None:
    adapted = load(base, quantize=bits, dtype="bf16", adapter=adapter).network
    plain = load(base, quantize=bits, dtype="bf16").network
    of_plain = {name: weight.requires_grad for name, weight in plain.named_parameters()}
    of_adapted = {
        name.replace("base_layer.", ""): weight.requires_grad
        for name, weight in adapted.named_parameters()
        if "lora" not in name
    }
    assert of_adapted == of_plain and of_plain["lm_head.weight"]


@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_on_quantized_weights(base: Path, adapter: Path, bits: str) -> None:
    adapted = load(base, quantize=bits, dtype="fp32", adapter=adapter)
    plain = load(base, quantize=bits, dtype="fp32")
    with torch.inference_mode():
        difference = adapted.network(IDS).logits - plain.network(IDS).logits
    assert difference.isfinite().all() and difference.abs().max() > 0.1


def test_its_provenance_brings_it_back(base: Path, adapter: Path, expected: torch.Tensor) -> None:
    model = load(base, quantize="none", dtype="fp32", adapter=adapter, merge_adapter=True)
    plain = load(base, quantize="none", dtype="fp32")
    assert plain.network is not model.network, "another adapter is another model"
    known = model.provenance()
    assert known["adapter"] == str(adapter) and len(known["adapter_revision"]) == 64
    assert "adapter" not in plain.provenance()
    assert reload(known) is model and reload(plain.provenance()) is plain
    model.unload()
    plain.unload()
    again = reload(known)
    assert again.provenance() == known
    with torch.inference_mode():
        torch.testing.assert_close(again.network(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_one_of_another_shape_is_refused(base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = {
        k: torch.zeros(4, 96) if "q_proj.lora_A" in k else v for k, v in load_file(file).items()
    }
    save_file(weights, file)
    with pytest.raises(UnsupportedModelError, match="not made for LlamaForCausalLM"):
        load(base, quantize="none", adapter=adapter)


def test_one_with_layers_that_are_not_there_is_refused(base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = {k.replace("layers.1", "layers.7"): v for k, v in load_file(file).items()}
    save_file(weights, file)
    with pytest.raises(UnsupportedModelError, match=r"not made for.*layers\.7"):
        load(base, quantize="none", adapter=adapter)


def test_one_for_layers_of_other_names_is_refused(tiny_folder: Folder, adapter: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="not made for BertModel"):
        load(tiny_folder("encoder"), quantize="none", adapter=adapter)


# What each type of peft is made with; where nothing, with its own defaults.
MADE_WITH: dict[str, dict[str, Any]] = {
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "MULTITASK_PROMPT_TUNING": {"num_virtual_tokens": 4, "num_tasks": 2},
    "P_TUNING": {"num_virtual_tokens": 4},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "CPT": {"cpt_token_ids": [3, 4], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 1]},
    "CARTRIDGE": {"num_virtual_tokens": 4, "num_frozen_tokens": 0},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2, "target_modules": "self_attn"},
    "POLY": {"n_tasks": 2, "n_skills": 2},
    "ADALORA": {"total_step": 10},
    "IA3": {"feedforward_modules": []},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "TRAINABLE_TOKENS": {"token_indices": [3, 5], "target_modules": None},
    "FOURIERFT": {"n_frequency": 16},
    "WAVEFT": {"n_frequency": 16},
    "VBLORA": {"vector_length": 16, "num_vectors": 16, "topk": 2},
    "OFT": {"oft_block_size": 4, "r": 0},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 1},
    "C3A": {"block_size": 16},
}
# Those that are not made, which would need adapters of other types first.
NOT_MADE = {"XLORA"}


def made(kind: str, folder: Path) -> None:
    """Random weights of an adapter of a type, saved by peft."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    settings = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"]}
    settings |= MADE_WITH.get(kind, {})
    known = inspect.signature(config).parameters
    network = get_peft_model(
        tiny_network("causal")[0], config(**{k: v for k, v in settings.items() if k in known})
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.3)
    network.save_pretrained(folder)


def test_every_type_of_peft_is_known() -> None:
    known = {kind.value for kind in PeftType}
    assert known >= adapters._INSIDE | adapters._BEFORE_THE_TEXT | NOT_MADE
    prompts = {k for k, config in PEFT_TYPE_TO_CONFIG_MAPPING.items() if is_prompt(config)}
    assert prompts == adapters._BEFORE_THE_TEXT


def is_prompt(config: type) -> bool:
    return issubclass(config, PromptLearningConfig)


@pytest.mark.filterwarnings("ignore")  # of peft, about types that are new
@pytest.mark.parametrize("kind", sorted({k.value for k in PeftType} - NOT_MADE))
def test_each_type_computes_what_peft_does_or_is_refused(kind: str, tmp_path: Path) -> None:
    made(kind, tmp_path)
    refused = None
    try:
        adapters.check(tmp_path, merge=False)
    except UnsupportedModelError as error:
        refused = str(error)
    assert (refused is None) == (kind in adapters._INSIDE)
    if refused is not None:
        assert f"type {kind}" in refused
        return
    theirs = PeftModel.from_pretrained(tiny_network("causal")[0], tmp_path).eval()
    with torch.inference_mode():
        plain, wanted = tiny_network("causal")[0](IDS).logits, theirs(IDS).logits
        ours = adapters.apply(tiny_network("causal")[0], tmp_path, merge=False).eval()(IDS).logits
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
        assert (ours - plain).abs().max() > 0.1
        try:
            merged = adapters.apply(tiny_network("causal")[0], tmp_path, merge=True)
        except UnsupportedModelError as error:
            assert "cannot be merged" in str(error)
        else:
            torch.testing.assert_close(merged.eval()(IDS).logits, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "XLORA", "NEWER"])
def test_one_that_would_change_nothing_is_refused_before_the_weights_are_read(
    base: Path, adapter: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": kind}))
    monkeypatch.setattr("nbllm.models.loader.read_weights", lambda *_: pytest.fail("read"))
    for merge in (False, True):
        with pytest.raises(UnsupportedModelError, match=f"of type {kind}.*such as LoRA"):
            load(base, quantize="none", adapter=adapter, merge_adapter=merge)


def test_an_activated_lora_is_refused(base: Path, adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    settings = {**json.loads(config.read_text()), "alora_invocation_tokens": [20, 21]}
    config.write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModelError, match=r"begins to act at the tokens \[20, 21\]"):
        load(base, quantize="none", adapter=adapter)


def test_repeated_layers_are_not_merged(base: Path, adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    settings = {**json.loads(config.read_text()), "layer_replication": [[0, 2], [0, 2]]}
    config.write_text(json.dumps(settings))
    with pytest.raises(UnsupportedModelError, match="repeats layers"):
        load(base, quantize="none", adapter=adapter, merge_adapter=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [401]},
    ],
    ids=str,
)
def test_one_with_other_embeddings_says_both_sizes(
    base: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    network, tokenizer = tiny_network("causal")
    own = len(tokenizer)
    network.resize_token_embeddings(own + 2)
    folder = tmp_path / "resized"
    whole = "trainable_token_indices" not in settings
    made = get_peft_model(network, LoraConfig(**settings))
    made.save_pretrained(folder, save_embedding_layers=whole)
    with pytest.raises(UnsupportedModelError, match=rf"\b{own}\b") as refused:
        load(base, quantize="none", adapter=folder)
    assert not whole or f"for {own + 2:,} tokens" in str(refused.value)


def test_merging_without_an_adapter_is_a_mistake(base: Path) -> None:
    with pytest.raises(ModelError, match="none was given as adapter="):
        load(base, merge_adapter=True)


def test_without_peft_it_says_what_to_install(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedModelError, match="pip install peft"):
        load(base, quantize="none", adapter=adapter)

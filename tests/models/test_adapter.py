"""LoRA adapters: beside the weights, merged into them, and those of another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nbllm.attention.capture import record
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models import adapter as adapters
from nbllm.models.loader import load, reload

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


def test_merging_without_an_adapter_is_a_mistake(base: Path) -> None:
    with pytest.raises(ModelError, match="none was given as adapter="):
        load(base, merge_adapter=True)


def test_without_peft_it_says_what_to_install(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedModelError, match="pip install peft"):
        load(base, quantize="none", adapter=adapter)

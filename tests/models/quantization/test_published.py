"""Checkpoints that come quantized: recognised, handed on, and never unpacked in silence."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationConfig,
    QuantizationStatus,
    apply_quantization_config,
    preset_name_to_scheme,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

from nbllm.errors import NbllmError, QuantizationError, TooLargeError
from nbllm.models.loader import load
from nbllm.models.memory import planner
from nbllm.models.quantization import published

Folder = Callable[[str], Path]
CPU = torch.device("cpu")
IDS = torch.arange(3, 40)[None]


def state(folder: Path, quantization: dict[str, Any]) -> None:
    """Write into a folder's config how its weights are said to be quantized."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))


@pytest.mark.parametrize(
    ("stated", "label"),
    [
        (BitsAndBytesConfig(load_in_8bit=True).to_dict(), "int8"),
        (BitsAndBytesConfig(load_in_4bit=True).to_dict(), "fp4"),
        (BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4").to_dict(), "nf4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "fp8"}, "fp8"),
        (None, None),
    ],
)
def test_what_the_configuration_calls_it(stated: dict[str, Any] | None, label: str | None) -> None:
    told = {} if stated is None else json.loads(json.dumps(stated, default=str))
    config = LlamaConfig(quantization_config=told) if told else LlamaConfig()
    assert published.published(config) == label


@pytest.mark.parametrize(
    ("stated", "method", "install"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq", "gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "awq", "gptqmodel"),
    ],
)  # fmt: skip
def test_what_has_no_kernel_here_is_refused_with_what_to_install(
    tiny_folder: Folder, stated: dict[str, Any], method: str, install: str
) -> None:
    folder = tiny_folder("causal")
    state(folder, stated)
    with pytest.raises(QuantizationError) as caught:
        load(folder)
    assert f"published quantized ({method})" in str(caught.value)
    assert f"pip install {install}" in str(caught.value)
    with pytest.raises(QuantizationError, match=r"cannot be unpacked.*Leave quantize out"):
        load(folder, quantize="none")
    with pytest.raises(QuantizationError, match=r"cannot be quantized again to nf4"):
        load(folder, quantize="nf4")


@pytest.fixture
def fp8(tiny_folder: Folder) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder in fp8 with a scale for each block of 32 × 32, and the weights that it holds."""
    folder = tiny_folder("causal")
    file = folder / "model.safetensors"
    weights, exact = {}, {}
    for name, weight in load_file(file).items():
        if "_proj" not in name:
            weights[name] = exact[name] = weight
            continue
        rows, columns = weight.shape
        blocks = weight.reshape(rows // 32, 32, columns // 32, 32)
        scale = blocks.abs().amax((1, 3)) / 448
        packed = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        weights[name] = packed.reshape(rows, columns)
        weights[f"{name}_scale_inv"] = scale
        exact[name] = (packed.float() * scale[:, None, :, None]).reshape(rows, columns)
    save_file(weights, file, metadata={"format": "pt"})
    state(folder, {"quant_method": "fp8", "weight_block_size": [32, 32],
                   "activation_scheme": "dynamic"})  # fmt: skip
    return folder, exact


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_fp8_without_a_gpu_is_not_unpacked_unless_asked(
    fp8: tuple[Path, dict[str, torch.Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, exact = fp8
    with pytest.raises(QuantizationError, match=r"\(fp8\).*no kernel for fp8 on cpu.*'none'"):
        load(folder)
    capsys.readouterr()
    model = load(folder, quantize="none", dtype="fp32")
    assert "published as fp8, unpacked into float32 as asked" in capsys.readouterr().out
    for name, weight in model.network.state_dict().items():
        torch.testing.assert_close(weight, exact[name], rtol=1e-2, atol=1e-3)
    with torch.inference_mode():
        assert model.network(IDS).logits.isfinite().all()


@pytest.fixture
def compressed(tiny_folder: Folder) -> Path:
    """A folder in compressed-tensors' packed 4 bits, as its own library writes it."""
    folder = tiny_folder("causal")
    network = AutoModelForCausalLM.from_pretrained(folder)
    scheme = preset_name_to_scheme("W4A16", ["Linear"])
    assert scheme.weights is not None
    scheme.weights.group_size = 32
    settings = QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=["lm_head"],
        quantization_status=QuantizationStatus.FROZEN,
    )
    apply_quantization_config(network, settings)
    for module in network.modules():
        if hasattr(module, "weight_scale"):
            blocks = module.weight.data.unflatten(1, (-1, 32))
            module.weight_scale.data = (blocks.abs().amax(-1) / 7).to(module.weight_scale.dtype)
    compressor = ModelCompressor.from_pretrained_model(network)
    assert compressor is not None
    compressor.compress_model(network)
    network.save_pretrained(folder)
    compressor.update_config(folder)
    return folder


def test_compressed_tensors_are_unpacked_which_is_said(
    compressed: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stored = load_file(compressed / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    # Eight values of 4 bits, from -8, in each 32-bit number.
    packed, scale = stored[f"{name}_packed"], stored[f"{name}_scale"]
    values = torch.stack([(packed >> shift & 0xF) - 8 for shift in range(0, 32, 4)], dim=-1)
    expected = values.flatten(1).unflatten(1, (-1, 32)) * scale.float()[..., None]
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = load(compressed, dtype="fp32")
        with torch.inference_mode():
            assert model.network(IDS).logits.isfinite().all()
    out, err = capfd.readouterr()
    assert out.count("\n") == 1
    assert "published as compressed-tensors, which transformers runs only unpacked" in out
    assert err == "" and [str(w.message) for w in seen] == []
    assert model.quantization == "none"
    weight = model.network.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(weight, expected.flatten(1), rtol=1e-2, atol=1e-3)


def test_packed_weights_are_counted_as_they_lie_on_disk(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder("causal")
    nf4 = load(folder, quantize="nf4", dtype="bf16")
    packed = folder.with_name("published")
    nf4.network.save_pretrained(packed)
    nf4.tokenizer.save_pretrained(packed)
    stored = published.stored_bytes(packed)
    monkeypatch.setattr(planner, "free_memory", lambda _: stored - 1)
    with pytest.raises(TooLargeError, match="as nf4"):
        load(packed)
    monkeypatch.setattr(planner, "free_memory", lambda _: stored)
    assert load(packed).quantization == "nf4"


@pytest.mark.parametrize("quantize", ["auto", "none"])
@pytest.mark.parametrize("method", [["x"], {"a": 1}, 7, "x", None])
def test_a_quantization_that_makes_no_sense_is_refused_in_words(
    tiny_folder: Callable[[str], Path], method: Any, quantize: str
) -> None:
    folder = tiny_folder("causal")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(NbllmError):
        load(folder, quantize=quantize)

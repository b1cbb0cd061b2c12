"""Fewer bits: what they change, what they cost, and where they cannot run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import bitsandbytes
import pytest
import torch
from transformers import LlamaConfig, MixtralConfig

from nbllm.errors import QuantizationError
from nbllm.models.architecture import skeleton
from nbllm.models.loader import load
from nbllm.models.memory import planner
from nbllm.models.quantization import schemes as quantization
from nbllm.models.quantization.schemes import kernel_problem

# The 16 levels of NormalFloat, from appendix E of https://arxiv.org/abs/2305.14314.
NF4 = torch.tensor(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
CPU = torch.device("cpu")
Folder = Callable[[str], Path]


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    """Forget which kernels were found, before and after."""
    kernel_problem.cache_clear()
    yield
    kernel_problem.cache_clear()


def rounded(weight: torch.Tensor, bits: str) -> torch.Tensor:
    """The weight after quantization, without bitsandbytes."""
    if bits == "int8":  # a scale for each row
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / scale[..., None] - NF4).abs().argmin(-1)
    return (NF4[nearest] * scale).reshape(weight.shape)


@pytest.mark.parametrize(
    ("bits", "layer", "dtype", "error"),
    [
        ("int8", bitsandbytes.nn.Linear8bitLt, "fp32", 0.05),
        ("int8", bitsandbytes.nn.Linear8bitLt, "bf16", 0.05),
        ("nf4", bitsandbytes.nn.Linear4bit, "fp32", 0.03),
        ("nf4", bitsandbytes.nn.Linear4bit, "bf16", 0.05),
    ],
)
def test_a_quantized_model_runs_quietly_on_rounded_weights(
    tiny_folder: Folder,
    bits: str,
    layer: type,
    dtype: str,
    error: float,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tiny_folder("causal")
    whole = load(folder, quantize="none", dtype="fp32")
    capfd.readouterr()
    caplog.set_level(logging.DEBUG, logger="bitsandbytes")
    ids = torch.arange(3, 40)[None]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model = load(folder, quantize=bits, dtype=dtype)
        with torch.inference_mode():
            logits = model.network(ids).logits.float()
    assert [str(w.message) for w in seen] == []
    said, noise = capfd.readouterr()
    assert said.startswith(f"nbllm: {bits} weights kept for the next load: ")
    assert noise == "" and said.count("\n") == 1
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []

    assert model.quantization == bits
    assert model.dtype == choose(dtype)
    assert any(type(m) is layer for m in model.network.modules())
    assert type(model.network.lm_head) is torch.nn.Linear
    assert model.network.num_parameters() == whole.network.num_parameters()
    with torch.inference_mode():
        for module in whole.network.model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(rounded(module.weight.to(model.dtype).float(), bits))
        expected = whole.network(ids).logits
    assert float((logits - expected).norm() / expected.norm()) < error


@pytest.mark.parametrize("bits", ["nf4", "fp4"])
def test_four_bits_leave_the_attention_of_a_small_model_whole(
    tiny_folder: Folder,
    bits: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(quantization, "_SMALL", 500_000_000)
    folder = tiny_folder("causal")
    whole = dict(load(folder, quantize="none", dtype="bf16").network.named_parameters())
    capsys.readouterr()
    for again in (False, True):  # quantized, and read from the copy that was kept
        with load(folder, quantize=bits, dtype="bf16") as model:
            said = capsys.readouterr().out
            assert said.startswith(f"nbllm: {folder}: {bits}, with attention in bfloat16, which")
            assert said.count("\n") == (1 if again else 2)
            assert f"{bits}, attention whole" in repr(model)
            layers = dict(model.network.model.layers[0].named_modules())
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                stored = layers[f"self_attn.{name}"].weight
                assert torch.equal(stored, whole[f"model.layers.0.self_attn.{name}.weight"])
            for name in ("gate_proj", "up_proj", "down_proj"):
                assert type(layers[f"mlp.{name}"]) is bitsandbytes.nn.Linear4bit
    with load(folder, quantize="int8", dtype="bf16") as model:
        assert "attention" not in capsys.readouterr().out
        assert type(model.network.model.layers[0].self_attn.q_proj) is not torch.nn.Linear


def test_attention_is_quantized_where_there_is_nothing_else_or_the_model_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantization, "_SMALL", 500_000_000)
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip
    wide = {**small, "vocab_size": 8_000_000}
    experts = MixtralConfig(**small, num_local_experts=2)  # which are no linear layers
    for config, taken in (
        (LlamaConfig(**small), False),
        (LlamaConfig(**wide), True),
        (experts, True),
    ):
        network = skeleton(config, "causal")
        layers = quantization.quantized_layers(network, "nf4", CPU)
        assert ("model.layers.0.self_attn.q_proj" in layers) == taken
        assert quantization.keeps_attention(network, "nf4", CPU) != taken
        assert not quantization.keeps_attention(network, "int8", CPU)


def choose(dtype: str) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]


def test_an_unknown_quantization_names_the_known_ones(tiny_folder: Folder) -> None:
    with pytest.raises(QuantizationError, match=r"no quantization 'int3'.*'nf4'.*or 'int8wo'"):
        load(tiny_folder("causal"), quantize="int3")


def test_without_a_kernel_it_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def problem(bits: str, *_: object) -> str | None:
        return None if bits in ("none", "int8") else "no such kernel"

    monkeypatch.setattr(quantization, "kernel_problem", problem)
    monkeypatch.setattr("nbllm.models.loader.fetch", None)
    with pytest.raises(QuantizationError) as caught:
        load("smollm2", quantize="nf4")
    assert "quantize='nf4' cannot run on cpu here: no such kernel" in str(caught.value)
    assert "Use quantize='none' or quantize='int8'" in str(caught.value)


def test_without_bitsandbytes_it_says_what_to_install(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    real = quantization.importlib.util.find_spec
    monkeypatch.setattr(
        quantization.importlib.util,
        "find_spec",
        lambda name: None if name == "bitsandbytes" else real(name),
    )
    with pytest.raises(QuantizationError, match=r"pip install bitsandbytes.*quantize='none'"):
        load(tiny_folder("causal"), quantize="int8")


def test_a_kernel_that_fails_when_tried_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("symbol not found")

    monkeypatch.setattr(bitsandbytes.nn, "Linear4bit", broken)
    assert "symbol not found" in (kernel_problem("nf4", CPU) or "")
    assert kernel_problem("int8", CPU) is None
    assert kernel_problem("none", CPU) is None


def test_a_kernel_is_tried_in_the_dtype_that_it_is_to_compute_in(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, fresh_probe: None
) -> None:
    """torchao's int4 on CUDA asserts that weights are bf16, and was tried in bf16 alone."""
    made, tried = quantization._tiny_layer, []

    def only_bf16(bits: str, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
        tried.append(dtype)
        assert dtype == torch.bfloat16, f"Only bfloat16 is supported, got {dtype}"
        return made(bits, device, dtype)

    monkeypatch.setattr(quantization, "_tiny_layer", only_bf16)
    assert kernel_problem("nf4", CPU, torch.bfloat16) is None
    assert "Only bfloat16" in (kernel_problem("nf4", CPU, torch.float16) or "")
    with pytest.raises(QuantizationError, match=r"nf4.*cannot run on cpu here.*float16"):
        load(tiny_folder("causal"), quantize="nf4", dtype="fp16")
    assert tried[:2] == [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("bits", ["int8", "nf4", "fp4", "int4", "int8wo"])
def test_each_kernel_is_here_in_each_dtype(bits: str, dtype: torch.dtype) -> None:
    assert kernel_problem(bits, CPU, dtype) is None


def test_auto_passes_over_what_has_no_kernel(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("encoder")
    whole = planner.forecast(load(folder, quantize="none").network, "none", torch.float32, 0)
    monkeypatch.setattr(planner, "device_memory", lambda _: (whole.total - 1) / 0.7)
    monkeypatch.setattr(
        quantization, "kernel_problem", lambda q, *_: "none here" if q == "int8" else None
    )
    assert load(folder, dtype="fp32").quantization == "nf4"
    assert "int8 has no kernel here (none here)" in capsys.readouterr().out


def test_a_checkpoint_that_was_published_quantized_stays_so(tiny_folder: Folder) -> None:
    folder = tiny_folder("causal")
    nf4 = load(folder, quantize="nf4", dtype="bf16")
    published = folder.with_name("published")
    nf4.network.save_pretrained(published)
    nf4.tokenizer.save_pretrained(published)

    model = load(published, dtype="bf16")
    assert model.quantization == "nf4"
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model.network(ids).logits, nf4.network(ids).logits)
    with pytest.raises(QuantizationError, match=r"published quantized \(nf4\).*again to int8"):
        load(published, quantize="int8")

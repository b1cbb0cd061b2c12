"""Fewer bits: what they change, what they cost, and where they cannot run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import bitsandbytes
import pytest
import torch

from nbllm.errors import QuantizationError
from nbllm.models import plan, quantization
from nbllm.models.loader import load
from nbllm.models.quantization import kernel_problem

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


def choose(dtype: str) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]


def test_an_unknown_quantization_names_the_known_ones(tiny_folder: Folder) -> None:
    with pytest.raises(QuantizationError, match=r"no quantization 'int3'.*'nf4'.*or 'int8wo'"):
        load(tiny_folder("causal"), quantize="int3")


def test_without_a_kernel_it_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def problem(bits: str, device: torch.device) -> str | None:
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


def test_auto_passes_over_what_has_no_kernel(
    tiny_folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_folder("encoder")
    whole = plan.forecast(load(folder, quantize="none").network, "none", torch.float32, 0)
    monkeypatch.setattr(plan, "device_memory", lambda _: (whole.total - 1) / 0.7)
    monkeypatch.setattr(
        quantization, "kernel_problem", lambda q, _: "none here" if q == "int8" else None
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

"""The forecast of memory against what loading really takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from nbllm.models import memory
from nbllm.models.loader import load
from nbllm.models.memory import device_memory, forecast, kv_bytes, readable


def test_an_8b_model_is_forecast_as_published() -> None:
    config = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        network = LlamaForCausalLM(config)
    whole = forecast(network, "none", torch.bfloat16, 8192)
    assert whole.weights == 2 * 8_030_261_248  # parameters of Llama 3 8B
    assert whole.kv == 2**30  # 128 kB a token, by its 8 heads of 128 over 32 layers
    assert whole.total == whole.weights + whole.kv
    # Both embeddings stay at 2 bytes: 1.05 of the 8.03 billion parameters.
    assert forecast(network, "int8", torch.bfloat16, 0).weights == pytest.approx(9.08e9, rel=0.01)
    assert forecast(network, "nf4", torch.bfloat16, 0).weights == pytest.approx(5.7e9, rel=0.01)


@pytest.mark.parametrize("bits", ["none", "int8", "nf4"])
def test_the_forecast_is_what_loading_takes(tiny_folder: Callable[[str], Path], bits: str) -> None:
    folder = tiny_folder("causal")
    whole = load(folder, quantize="none", dtype="fp32").network
    held = _bytes_held(load(folder, quantize=bits, dtype="bf16").network)
    assert forecast(whole, bits, torch.bfloat16, 0).weights == pytest.approx(held, rel=0.01)


def _bytes_held(network: torch.nn.Module) -> int:
    """Every tensor that the network keeps, those inside of quantized weights too."""
    tensors: dict[int, torch.Tensor] = {}
    for parameter in network.parameters():
        state = getattr(parameter, "quant_state", None)
        parts = [parameter.data]
        if state is not None:
            parts += [state.absmax, state.state2.absmax]
        parts += [t for t in (getattr(parameter, n, None) for n in ("SCB",)) if t is not None]
        tensors |= {part.data_ptr(): part for part in parts}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def test_keys_and_values_are_those_of_a_real_cache(tiny_llama: object) -> None:
    network = tiny_llama.network  # type: ignore[attr-defined]
    cache = DynamicCache(config=network.config)
    with torch.inference_mode():
        network(torch.arange(3, 40)[None], past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_bytes(network.config, torch.float32, 37) == held


def test_a_container_has_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    total = psutil.virtual_memory().total
    assert device_memory(torch.device("cpu")) == total
    (tmp_path / "memory.max").write_text("max\n")
    assert device_memory(torch.device("cpu")) == total
    (tmp_path / "memory.max").write_text("123456789\n")
    assert device_memory(torch.device("cpu")) == 123_456_789


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 B"), (90_868_376, "91 MB"), (999_999_999, "1000 MB"), (16.06e9, "16.1 GB")],
)
def test_readable(count: float, text: str) -> None:
    assert readable(count) == text

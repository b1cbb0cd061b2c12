"""The forecast of memory against what loading really takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import psutil
import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from nbllm.models.loader import load
from nbllm.models.memory import budget as memory
from nbllm.models.memory import footprint
from nbllm.models.memory.budget import (
    device_memory,
    forecast,
    free_memory,
    held_bytes,
    kv_bytes,
)
from nbllm.models.quantization.schemes import Quantization


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


@pytest.mark.parametrize("bits", get_args(Quantization))
def test_the_forecast_is_what_loading_takes(tiny_folder: Callable[[str], Path], bits: str) -> None:
    folder = tiny_folder("causal")
    whole = load(folder, quantize="none", dtype="fp32").network
    held = held_bytes(load(folder, quantize=bits, dtype="bf16").network)
    assert forecast(whole, bits, torch.bfloat16, 0).weights == pytest.approx(held, rel=0.01)


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
    ("outputs", "inputs", "padded"),
    [(4096, 4096, (4096, 4096)), (576, 576, (576, 1024)), (1001, 1536, (1008, 2048))],
)
def test_int4_is_padded_on_cuda(outputs: int, inputs: int, padded: tuple[int, int]) -> None:
    """As Int4TilePackedTo4dTensor does: half a byte a weight, and 4 bytes for 32 of them."""
    cuda, dtype = torch.device("cuda"), torch.bfloat16
    rows, columns = padded
    assert footprint.stored_bytes("int4", outputs, inputs, dtype, cuda) == (
        rows * columns // 2 + rows * columns // 32 * 4
    )
    on_cpu = footprint.stored_bytes("int4", outputs, inputs, dtype, torch.device("cpu"))
    assert on_cpu == outputs * inputs // 2 + outputs * inputs // 32 * 4
    # Its input is padded alike, if it has to be.
    extra = footprint.working_bytes("int4", 10, outputs, inputs, dtype, cuda)
    assert extra == (0 if columns == inputs else 10 * columns * 2)


def test_a_macs_gpu_has_what_metal_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    mps = torch.device("mps")
    for name, value in (
        ("recommended_max_memory", 11_000), ("current_allocated_memory", 4_000),
        ("driver_allocated_memory", 5_000),
    ):  # fmt: skip
        monkeypatch.setattr(torch.mps, name, lambda value=value: value)
    assert device_memory(mps) == 11_000
    # All that Metal recommends but what is in use; torch's cache of 1,000 is as good as free.
    assert free_memory(mps) == 7_000
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=2_000, total=16_000)
    )
    assert free_memory(mps) == 3_000

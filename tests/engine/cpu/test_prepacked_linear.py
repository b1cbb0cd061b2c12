"""Linear layers that put their weights in order once it pays."""

from typing import get_args

import pandas as pd
import pytest
import torch
from torch import nn

import nbllm
from nbllm.engine.cpu import prepacked_linear
from nbllm.engine.cpu.prepacked_linear import PackedLinear, can_pack
from nbllm.models.memory.budget import held_bytes
from nbllm.models.quantization.schemes import Quantization, kernel_problem

WORTH = 2048  # vectors
CPU = torch.device("cpu")
QUANTIZATIONS = [name for name in get_args(Quantization) if kernel_problem(name, CPU) is None]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch) -> None:
    monkeypatch.setattr(prepacked_linear, "_same_bits", {})


@pytest.fixture
def layer(monkeypatch) -> PackedLinear:
    """One that counts how often its packed weights are used."""
    layer = PackedLinear(6, 4)
    layer.used = 0

    def fast(self, given, _packed):
        self.used += 1
        return nn.functional.linear(given, self.weight, self.bias)

    monkeypatch.setattr(PackedLinear, "_fast", fast)
    return layer


def vectors(count: int) -> torch.Tensor:
    return torch.randn(2, count // 2, 6)


def test_a_short_run_packs_nothing(layer) -> None:
    with torch.inference_mode():
        layer(vectors(WORTH - 2))
        assert layer.used == 0
        layer(vectors(2))
    assert layer.used == 1  # to see that it gives the same


def test_a_long_run_uses_what_was_packed(layer) -> None:
    with torch.inference_mode():
        layer(vectors(WORTH))
        given = vectors(10)
        assert torch.equal(layer(given), nn.functional.linear(given, layer.weight, layer.bias))
    assert layer.used == 2


def test_the_bits_are_compared_once_for_layers_of_a_size(layer) -> None:
    alike, wider = PackedLinear(6, 4), PackedLinear(6, 5)
    alike.used = wider.used = 0
    with torch.inference_mode():
        for each in (layer, alike, wider):
            each(vectors(WORTH))
        assert [layer.used, alike.used, wider.used] == [1, 0, 1]
        alike(vectors(2))
    assert alike.used == 1


def test_kernels_that_give_other_bits_are_not_used(layer, monkeypatch) -> None:
    tried = []

    def other(self, given, _packed):
        tried.append(given)
        return nn.functional.linear(given, self.weight, self.bias).nextafter(torch.tensor(9.0))

    monkeypatch.setattr(PackedLinear, "_fast", other)
    with torch.inference_mode():
        for _ in range(3):
            given = vectors(WORTH)
            assert torch.equal(layer(given), nn.functional.linear(given, layer.weight, layer.bias))
    assert len(tried) == 1


@pytest.mark.parametrize("bias", [True, False])
def test_the_kernels_give_the_same_bits_or_are_left_alone(bias) -> None:
    plain = nn.Linear(96, 64, bias=bias).to(torch.bfloat16)
    layer = PackedLinear(96, 64, bias=bias).to(torch.bfloat16)
    layer.load_state_dict(plain.state_dict())
    if not can_pack(plain):
        return  # it is in no network then
    with torch.inference_mode():
        for count in (WORTH, 1, 7, 333):
            given = torch.randn(count, 96).to(torch.bfloat16)
            assert torch.equal(layer(given), plain(given))


def test_a_second_copy_wants_plenty_of_memory(monkeypatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    network = nn.Linear(10, 10)
    for times, enough in ((4, True), (3.9, False)):
        free = times * held_bytes(network)
        monkeypatch.setattr(prepacked_linear, "free_memory", lambda _device, free=free: free)
        assert can_pack(network) is enough


def test_what_it_takes_the_place_of() -> None:
    class Watched(nn.Linear):
        pass

    assert PackedLinear.replaces(nn.Linear(2, 2, dtype=torch.bfloat16))
    assert not PackedLinear.replaces(nn.Linear(2, 2))
    assert not PackedLinear.replaces(nn.Linear(2, 2, dtype=torch.bfloat16, device="meta"))
    assert not PackedLinear.replaces(Watched(2, 2, dtype=torch.bfloat16))
    assert not PackedLinear.replaces(nn.LayerNorm(2))


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_a_long_run_of_every_quantization(quantize, tiny_folder, monkeypatch) -> None:
    monkeypatch.setattr(prepacked_linear, "_WORTH", 1)
    frame = pd.DataFrame({"review": [f"The soup of day {n} was warm." for n in range(40)]})
    with nbllm.load(tiny_folder("causal"), quantize=quantize, dtype="bf16") as model:
        answered = frame.llm.sentiment("review", model=model, ledger=False)
    assert answered["review_sentiment_error"].isna().all()
    assert answered["review_sentiment"].notna().all()

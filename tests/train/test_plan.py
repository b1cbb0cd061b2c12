"""Forecasts: memory and time of what is to come, and what is done where memory is short."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nbllm.errors import TooLargeError
from nbllm.models.model import Model
from nbllm.train.examples import Example
from nbllm.train.layout import PaddedRows
from nbllm.train.loop import Recipe
from nbllm.train.plan import Measured, measure, schedule

TRAIN = [Example(tuple(range(3, 43)), 38) for _ in range(64)]
RECIPE = Recipe(rows=16, learning_rate=1e-3)
MEASURED = Measured(bytes_per_token=1000, seconds_per_token=1e-5)


def planned(monkeypatch: pytest.MonkeyPatch, free: int, **options: Any) -> Any:
    monkeypatch.setattr("nbllm.train.plan.free_memory", lambda device: free)
    how: dict[str, Any] = {"standing": 0, "device": torch.device("cpu"), "layers": 8}
    return schedule(MEASURED, PaddedRows(0), TRAIN, RECIPE, 100, mixed=False, **{**how, **options})


def test_fewer_rows_are_computed_at_once_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 16 rows of 40 tokens take 640 kB, and 0.6 of what is free may be used.
    assert planned(monkeypatch, 2_000_000).part == 16
    assert planned(monkeypatch, 600_000).part == 8
    assert planned(monkeypatch, 600_000, standing=400_000).part == 2


def test_activations_are_computed_again_where_not_even_a_row_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not planned(monkeypatch, 80_000).recompute
    assert planned(monkeypatch, 50_000).recompute
    with pytest.raises(TooLargeError, match=r"longest row has 40 tokens.*max_tokens="):
        planned(monkeypatch, 10_000)


def test_it_validates_four_to_twenty_times(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch, 10**9).every == 25
    monkeypatch.setattr("nbllm.train.plan._INTERVAL", 0.0)
    assert planned(monkeypatch, 10**9).every == 5


def test_measuring_moves_nothing_and_counts_what_is_kept(tiny_llama: Model) -> None:
    before = [p.clone() for p in tiny_llama.network.parameters()]
    torch.manual_seed(0)
    found = measure(tiny_llama.network, PaddedRows(0), TRAIN, mixed=False)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(state, torch.random.get_rng_state())
    for old, new in zip(before, tiny_llama.network.parameters(), strict=True):
        assert torch.equal(old, new) and new.grad is None
    config = tiny_llama.network.config
    # A layer keeps, in float32, at least its input, queries, keys, values and the inner product.
    least = config.num_hidden_layers * 4 * (2 * 64 + 2 * 32 + 3 * 128)
    assert least < found.bytes_per_token < 12 * least
    assert found.seconds_per_token > 0

"""Forecasts: memory and time of what is to come, and what is done where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nbllm.errors import TooLargeError
from nbllm.models.model import Model
from nbllm.train import plan
from nbllm.train.examples import Example
from nbllm.train.layout import Blocks, Layout, PaddedRows, SharedPrefix
from nbllm.train.plan import Measured, measure, schedule
from nbllm.train.recipe import Recipe

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


def test_what_is_kept_whatever_the_batch_leaves_less_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbllm.train.plan.free_memory", lambda device: 1_000_000)
    copies = Measured(1000, 1e-5, bytes_fixed=400_000)
    parts = [
        schedule(
            measured, PaddedRows(0), TRAIN, RECIPE, 100, standing=0, device=torch.device("cpu"),
            layers=8, mixed=True,
        ).part
        for measured in (MEASURED, copies)
    ]  # fmt: skip
    assert parts == [8, 4]  # 600 kB and 200 kB, for rows of 40 kB


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


@pytest.mark.parametrize(
    ("layout", "example", "length"),
    [
        (PaddedRows(0), lambda ids: Example(ids, len(ids) - 2), 40),
        (PaddedRows(0), lambda ids: Example(ids, len(ids) - 2), 700),  # more than are tried
        # Not longer: its mask, of the square of its tokens, outweighs the layers of a tiny network.
        (SharedPrefix(20), lambda ids: Example(ids, len(ids) - 2, shared=20), 40),
        (Blocks(399), lambda ids: Example(ids, 1), 40),
        (Blocks(399), lambda ids: Example(ids, 1), 700),
    ],
)
def test_copies_of_the_weights_are_not_counted_for_each_token(
    tiny_llama: Model,
    monkeypatch: pytest.MonkeyPatch,
    layout: Layout,
    example: Callable[[tuple[int, ...]], Example],
    length: int,
) -> None:
    network = tiny_llama.network
    rows = [example(tuple(3 + (n + row) % 300 for n in range(length))) for row in range(24)]
    found = measure(network, layout, rows, mixed=True)
    linear = [m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear)]
    copies = 2 * sum(linear)  # in bf16
    assert 0.6 * copies < found.bytes_fixed < 1.7 * copies
    # So twice as many tokens keep what is foretold for them.
    monkeypatch.setattr(plan, "_TRIED", 2 * max(plan._TRIED, length))
    more = measure(network, layout, rows, mixed=True)
    tokens = layout.tokens([length] * (plan._TRIED // length))
    assert found.bytes(tokens) == pytest.approx(more.bytes(tokens), rel=0.15)


@pytest.mark.parametrize(
    ("begin", "shared", "expected"),
    [
        (7, 2, (0, 1, 2, 7)),
        (10, 0, (0,)),  # of a classifier, which reads all
        (1, 0, (0, 1)),  # of a block, of which all is foretold
    ],
)
def test_of_an_example_next_to_nothing_is_left(
    begin: int, shared: int, expected: tuple[int, ...]
) -> None:
    short = plan._shortest(Example(tuple(range(10)), begin, shared))
    assert short.ids == expected and short.shared == shared
    assert short.ids[short.begin :] == tuple(range(10))[begin : begin + 1]

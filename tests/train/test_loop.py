"""The loop against one written out by hand, and what it leaves when it is stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

import nbllm
from nbllm.errors import TrainingError
from nbllm.models.model import Model
from nbllm.train.examples import Example
from nbllm.train.layout import PaddedRows
from nbllm.train.loop import run, training_device
from nbllm.train.losses import loss_sum, validated
from nbllm.train.order import Order
from nbllm.train.recipe import Recipe, Schedule

RANDOM = torch.Generator().manual_seed(0)
TRAIN = [
    Example(tuple(torch.randint(3, 300, (length,), generator=RANDOM).tolist()), begin=length - 2)
    for length in (5, 6, 7, 8, 9, 10, 11, 12, 5, 6, 7, 8)
]
HELD = TRAIN[:4]
LAYOUT = PaddedRows(0)
RECIPE = Recipe(rows=4, learning_rate=1e-2, warmup=0.0, patience=None, seed=3)


def scheduled(steps: int, part: int = 4, every: int = 2) -> Schedule:
    return Schedule(steps, every=every, part=part, recompute=False, mixed=False)


def weights(network: Any) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def by_hand(network: Any, steps: int) -> None:
    """AdamW with a rate that falls to zero, clipped at 1, no decay of norms; a row at a time."""
    norms = [p for name, p in network.named_parameters() if "norm" in name]
    others = [p for name, p in network.named_parameters() if "norm" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
        lr=RECIPE.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
    )
    order = Order([len(e) for e in TRAIN], 4, 4, RECIPE.seed)
    done = 0
    while done < steps:
        for batch in order.batches():
            if done == steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = RECIPE.learning_rate * (1 - done / steps)
            optimizer.zero_grad()
            for n in batch:
                ids = torch.tensor([TRAIN[n].ids])
                logits = network(input_ids=ids).logits[0, TRAIN[n].begin - 1 : -1]
                (cross_entropy(logits, ids[0, TRAIN[n].begin :], reduction="sum") / 8).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            done += 1
        order.epoch += 1


@pytest.mark.parametrize("part", [4, 2])
def test_it_moves_weights_as_a_loop_by_hand_does(
    tiny_llama: Model, tmp_path: Path, part: int
) -> None:
    other = copy.deepcopy(tiny_llama.network)
    # Five steps of three an epoch: it goes into a second epoch, whose order is another.
    outcome = run(
        tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(5, part, every=5), tmp_path
    )
    by_hand(other.train(), 5)
    assert outcome.steps == outcome.best_step == 5
    # AdamW divides by the gradient's size, so a weight whose gradient is all but zero may differ.
    apart = (weights(tiny_llama.network) - weights(other)).abs()
    assert float(apart.max()) < 5e-4 and float(apart.mean()) < 1e-6


def test_the_held_out_loss_is_a_mean_over_tokens(tiny_llama: Model) -> None:
    rows = [TRAIN[0], Example(TRAIN[5].ids, begin=3)]  # answers of 2 and 7 tokens
    found = validated(tiny_llama.network, LAYOUT, rows, 2, False)
    nats = []
    for row in rows:
        logp = tiny_llama.network(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        nats += [-logp[n - 1, row.ids[n]].item() for n in range(row.begin, len(row.ids))]
    assert found["eval_loss"] == pytest.approx(sum(nats) / 9, rel=1e-5)


class _Killed(BaseException):
    """As a kill, nothing is tidied up after it."""


@pytest.mark.parametrize("at", [3, 4])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    tiny_llama: Model, tmp_path: Path, at: int
) -> None:
    first = copy.deepcopy(tiny_llama.network)
    whole = run(first, LAYOUT, TRAIN, HELD, RECIPE, scheduled(6), tmp_path / "whole")

    def kill(history: Any, step: int) -> None:
        if step == at:
            raise _Killed

    place = tmp_path / "cut"
    cut = copy.deepcopy(tiny_llama.network)
    with pytest.raises(_Killed):
        run(cut, LAYOUT, TRAIN, HELD, RECIPE, scheduled(6), place, on_step=kill)
    # What the kill left half written does not count.
    (place / f"checkpoint-{at + 90}").mkdir()
    (place / f"checkpoint-{at + 90}" / "trainer_state.json").write_text('{"global_step": 9')
    again = run(tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(6), place)
    assert again.steps == 6
    assert again.history == whole.history
    torch.testing.assert_close(weights(tiny_llama.network), weights(first), rtol=0, atol=0)


def test_a_run_that_was_over_is_not_trained_on(tiny_llama: Model, tmp_path: Path) -> None:
    start = copy.deepcopy(tiny_llama.network)
    run(tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(4), tmp_path)
    outcome = run(start, LAYOUT, TRAIN, HELD, RECIPE, scheduled(4), tmp_path)
    assert outcome.steps == 4
    torch.testing.assert_close(weights(start), weights(tiny_llama.network), rtol=0, atol=0)


def test_an_interrupt_keeps_the_best_weights(tiny_llama: Model, tmp_path: Path) -> None:
    def interrupt(history: Any, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    outcome = run(
        tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(8), tmp_path, on_step=interrupt
    )
    assert outcome.interrupted and outcome.best_step in (2, 4)
    assert f"step {outcome.best_step} was the best" in outcome.ended(scheduled(8))
    best = min(e["eval_loss"] for e in outcome.history if "eval_loss" in e)
    found = validated(tiny_llama.network, LAYOUT, HELD, 4, False)
    assert found["eval_loss"] == pytest.approx(best, rel=1e-6)


def test_it_stops_where_it_gets_no_better(tiny_llama: Model, tmp_path: Path) -> None:
    # Held out is the opposite of what is learned.
    held = [Example((*e.ids[:-2], 299, 298), e.begin) for e in TRAIN]
    recipe = Recipe(rows=4, learning_rate=3e-2, warmup=0.0, patience=2, seed=0)
    outcome = run(tiny_llama.network, LAYOUT, TRAIN, held, recipe, scheduled(40, every=3), tmp_path)
    assert outcome.best_step is not None
    assert outcome.steps == outcome.best_step + 2 * 3 < 40


def test_a_loss_that_is_lost_ends_the_run(tiny_llama: Model, tmp_path: Path) -> None:
    with torch.no_grad():
        tiny_llama.network.lm_head.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"lower learning_rate than 0.01"):
        run(tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(4), tmp_path)


def test_the_users_random_numbers_go_on_as_they_were(tiny_llama: Model, tmp_path: Path) -> None:
    import random

    import numpy as np

    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = (torch.rand(1).item(), np.random.rand(), random.random())
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    run(tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(1), tmp_path)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_activations_that_are_computed_again_are_the_same(
    tiny_llama: Model, tmp_path: Path
) -> None:
    other = copy.deepcopy(tiny_llama.network)
    for network, again in ((tiny_llama.network, True), (other, False)):
        schedule = Schedule(2, every=2, part=4, recompute=again, mixed=False)
        run(network, LAYOUT, TRAIN, HELD, RECIPE, schedule, tmp_path / str(again))
    torch.testing.assert_close(weights(tiny_llama.network), weights(other), rtol=0, atol=1e-6)


def test_a_network_that_keeps_no_positions_is_cut_afterwards(tiny_llama: Model) -> None:
    import types

    network = tiny_llama.network
    batch = LAYOUT(TRAIN)
    expected, _ = loss_sum(network, batch, mixed=False)
    plain = network.forward

    def forward(self: Any, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
        return plain(input_ids, attention_mask, position_ids)

    network.forward = types.MethodType(forward, network)
    found, _ = loss_sum(network, batch, mixed=False)
    torch.testing.assert_close(found, expected)


def test_an_interrupt_before_any_checkpoint_promises_none(
    tiny_llama: Model, tmp_path: Path
) -> None:
    def interrupt(history: Any, step: int) -> None:
        raise KeyboardInterrupt

    outcome = run(
        tiny_llama.network, LAYOUT, TRAIN, HELD, RECIPE, scheduled(8), tmp_path, on_step=interrupt
    )
    assert outcome.interrupted and outcome.best_step is None
    assert outcome.ended(scheduled(8)) == "interrupted before the first validation"


def test_only_the_first_gpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_device("cpu") == torch.device("cpu")
    monkeypatch.setattr("nbllm.train.loop.choose_device", torch.device)
    assert training_device("cuda:0") == torch.device("cuda:0")
    says = r"cuda:1 is another one.*CUDA_VISIBLE_DEVICES=1"
    with pytest.raises(TrainingError, match=says):
        training_device("cuda:1")
    frame = pd.DataFrame({"text": [f"row {n}" for n in range(40)], "label": ["a", "b"] * 20})
    monkeypatch.setattr("nbllm.train.base.fetch", lambda which: pytest.fail("fetched"))
    with pytest.raises(TrainingError, match=says):
        nbllm.finetune(frame, text="text", label="label", model="minilm", device="cuda:1")
    with pytest.raises(TrainingError, match=says):
        nbllm.pretrain(frame, text="text", device="cuda:1")

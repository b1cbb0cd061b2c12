"""Attention of one pass over rows of several lengths, against softmax as it is written."""

import pytest
import torch

from nbllm.engine.cpu import ragged_attention
from nbllm.engine.cpu.ragged_attention import RaggedNetwork, Step
from nbllm.models.model import Model
from tests.engine.cpu.test_shared_prefix_attention import llama, model_of, prompts


def logits(model: Model, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.network(torch.tensor([ids]), use_cache=False).logits[0, -1]
    return found


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("prefix", [0, 40])
def test_logits_are_those_of_each_row_alone(
    block: int, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ragged_attention, "_BLOCK", block)
    monkeypatch.setattr(ragged_attention, "GROUP", 2)
    model = model_of(llama(2))
    rows = [list(prompt.ids) for prompt in prompts(prefix, [70, 30, 30, 1, 9])]
    own = [row[prefix:] for row in rows]
    network = RaggedNetwork.of(model, rows[0][:prefix])
    assert network is not None
    network.reserve([80, 40, 40, 20, 20])
    with torch.inference_mode():
        # Two prompts; then the next token of each, beside a third; then all three and two more.
        first = network(own[0] + own[1], Step([], [70, 30]))
        second = network([21, 22, *own[2]], Step([70, 30], [30]))
        third = network([23, 24, 25, *own[3], *own[4]], Step([71, 31, 30], [1, 9]))
    expected = [
        [rows[0], rows[1]],
        [[*rows[0], 21], [*rows[1], 22], rows[2]],
        [[*rows[0], 21, 23], [*rows[1], 22, 24], [*rows[2], 25], rows[3], rows[4]],
    ]
    for found, lines in zip((first, second, third), expected, strict=True):
        assert torch.allclose(found, torch.stack([logits(model, ids) for ids in lines]), atol=2e-5)


def test_a_row_that_moves_keeps_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged_attention, "GROUP", 1)
    model = model_of(llama(4))
    rows = [list(prompt.ids) for prompt in prompts(0, [12, 6])]
    network = RaggedNetwork.of(model, ())
    assert network is not None
    network.reserve([20, 10])
    with torch.inference_mode():
        network(rows[0] + rows[1], Step([], [12, 6]))
        network.move(1, 0)
        found = network([33], Step([6], []))
    assert torch.allclose(found[0], logits(model, [*rows[1], 33]), atol=2e-5)

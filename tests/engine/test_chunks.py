"""How many logits are in memory at a time, on a processor and on GPUs of all sizes."""

import pytest
import torch

from nbllm.attention import logit_lens
from nbllm.engine.chunks import logits_at_once
from nbllm.models.model import Model
from tests.pretended.device import move, pretended


@pytest.mark.parametrize(
    ("memory", "allowed"),
    [
        (10**8, 2**25),  # nearly full
        (4 * 10**9, 4 * 10**9 // 20),
        (24 * 10**9, 2**29),
        (141 * 10**9, 2**29),
    ],
)
def test_a_gpu_is_given_as_many_as_it_has_room_for(memory: int, allowed: int) -> None:
    with pretended(memory):
        assert logits_at_once(torch.device("cuda", 0)) == allowed


def test_a_processor_is_given_what_its_caches_take() -> None:
    assert logits_at_once(torch.device("cpu")) == logits_at_once(torch.device("mps")) == 2**25


def test_a_lens_on_a_gpu_runs_the_network_once_for_all_states(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbllm.engine.chunks._LOGITS", 5 * len(tiny_llama.tokenizer))
    passes: list[int] = []
    with pretended():
        move(tiny_llama.network, "cuda:0")
        lens = logit_lens(tiny_llama, "The soup was warm and the staff were kind.")
        tiny_llama.network.register_forward_pre_hook(lambda *_: passes.append(1))
        lens.frame()
    assert len(passes) == 1

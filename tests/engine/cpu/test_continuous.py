"""Rows that enter and leave a batch, against `generate` for each row alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GenerationConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StopStringCriteria,
)

from nbllm.engine.cpu import continuous
from nbllm.engine.cpu.continuous import ContinuousDecoder
from nbllm.engine.cpu.ragged_attention import RaggedNetwork
from nbllm.engine.structured.grammar import JsonGrammar
from nbllm.engine.token_events import on_each_token
from nbllm.models.model import Model
from tests.conftest import seeded
from tests.engine.cpu.test_shared_prefix_attention import SIZE, gpt2, llama, model_of, prompts

LENGTHS = [7, 130, 1, 64, 33, 2, 90, 12, 5, 41, 3]
TOKENS = 14


def alone(model: Model, ids: Sequence[int], ends: Sequence[int] = ()) -> list[int]:
    """What transformers writes after one prompt."""
    with torch.inference_mode():
        out = model.network.generate(
            torch.tensor([list(ids)]),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=list(ends) or None,
            pad_token_id=0,
        )
    written: list[int] = out[0, len(ids) :].tolist()
    return written


def decoder(model: Model, prefix: Sequence[int], **options: Any) -> ContinuousDecoder:
    network = RaggedNetwork.of(model, prefix)
    assert network is not None
    config = GenerationConfig(max_new_tokens=options.pop("max_new_tokens", TOKENS), pad_token_id=0)
    return ContinuousDecoder(network, config, **{"eos_token_ids": []} | options)


FAMILIES: dict[str, Callable[[], Any]] = {
    "a key head per query head": lambda: llama(4),
    "grouped queries": lambda: llama(2),
    "learned positions": gpt2,
    "normalized queries": lambda: seeded(
        Qwen3ForCausalLM, Qwen3Config(num_key_value_heads=2, **SIZE)
    ),
    "one projection": lambda: seeded(
        Phi3ForCausalLM, Phi3Config(**SIZE | {"pad_token_id": 0, "sliding_window": None})
    ),
    "parallel layers": lambda: seeded(
        GPTNeoXForCausalLM, GPTNeoXConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"})
    ),
    "scaled logits": lambda: seeded(
        CohereForCausalLM, CohereConfig(**{k: v for k, v in SIZE.items() if k != "head_dim"})
    ),
}


@pytest.mark.parametrize("prefix", [0, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_is_what_generate_writes_for_it_alone(
    family: str, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "_ROWS", 4)
    monkeypatch.setattr(continuous, "_TOKENS", 100)
    model = model_of(FAMILIES[family]())
    rows = [list(prompt.ids) for prompt in prompts(prefix, LENGTHS)]
    written = decoder(model, rows[0][:prefix])(rows)
    assert written == [alone(model, row) for row in rows]
    assert len({tuple(row) for row in written}) > 4


def test_a_row_that_ends_leaves_its_place_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "_ROWS", 3)
    model = model_of(llama(2))
    rows = [list(prompt.ids) for prompt in prompts(20, LENGTHS)]
    ends = [alone(model, rows[1])[0], alone(model, rows[4])[3], alone(model, rows[6])[8]]
    expected = [alone(model, row, ends) for row in rows]
    assert len({len(row) for row in expected}) > 2
    steps: list[int] = []
    write = decoder(model, rows[0][:20], eos_token_ids=ends)
    with on_each_token(lambda: steps.append(1)):
        assert write(rows) == expected
    # Fewer than if each group of three waited for its last row.
    assert len(steps) < TOKENS * -(-len(rows) // 3)
    assert write(rows[:1]) == expected[:1]


def test_no_keys_are_held_after_a_call() -> None:
    model = model_of(llama(2))
    rows = [list(prompt.ids) for prompt in prompts(20, [5, 9])]
    network = RaggedNetwork.of(model, rows[0][:20])
    assert network is not None
    ContinuousDecoder(network, GenerationConfig(max_new_tokens=3), eos_token_ids=[])(rows)
    assert all(not layer.keys and not layer.values for layer in network.layers)


def test_a_stop_string_ends_a_row(tiny_llama: Model) -> None:
    rows = [list(prompt.ids) for prompt in prompts(0, LENGTHS)]
    texts = [tiny_llama.tokenizer.decode(alone(tiny_llama, row)) for row in rows]
    stop = texts[1][4:6]
    write = decoder(tiny_llama, (), stop=StopStringCriteria(tiny_llama.tokenizer, stop))
    for text, written in zip(texts, write(rows), strict=True):
        found = tiny_llama.tokenizer.decode(written)
        assert text.startswith(found)
        assert (stop in found) == (stop in text)
        assert found == text or stop in found[-len(stop) - 3 :]


def test_a_grammar_holds_each_row(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "s": {"enum": ["a", "bcd"]}},
        "required": ["n", "s"],
        "additionalProperties": False,
    }
    grammar = JsonGrammar(schema, tiny_llama.tokenizer, max_new_tokens=30)
    rows = [list(prompt.ids) for prompt in prompts(0, LENGTHS)]
    expected = []
    for row in rows:
        constraint = grammar.constraint(1, filler=0)
        tiny_llama.network.generate(
            torch.tensor([row]), max_new_tokens=30, do_sample=False, pad_token_id=0,
            logits_processor=[constraint],
        )  # fmt: skip
        expected += constraint.texts()
    monkeypatch.setattr(continuous, "_ROWS", 2)
    constraint = grammar.constraint(len(rows), filler=0)
    decoder(tiny_llama, (), max_new_tokens=30)(rows, constraint)
    assert list(constraint.texts()) == expected


def test_rotations_that_depend_on_the_longest_row_are_refused() -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    config = LlamaConfig(rope_parameters=scaling, max_position_embeddings=64, **SIZE)
    model = model_of(seeded(LlamaForCausalLM, config))
    assert RaggedNetwork.of(model, ()) is None


def test_the_network_itself_is_left_as_it_was() -> None:
    model = model_of(llama(2))
    rows = [list(prompt.ids) for prompt in prompts(8, [5, 9])]
    before = [alone(model, row) for row in rows]
    write = decoder(model, rows[0][:8])
    write(rows)
    assert [alone(model, row) for row in rows] == before
    assert model.network.config._attn_implementation == "sdpa"
    assert not any(hasattr(module, "ragged") for module in model.network.modules())

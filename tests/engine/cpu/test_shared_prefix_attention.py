"""Attention to a shared prefix, against softmax as it is written and one row after the other."""

from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconH1ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nbllm.engine.cpu import shared_prefix_attention
from nbllm.engine.cpu.shared_prefix_attention import SharedPrefixAttention
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.models.model import Model
from tests.conftest import seeded, tiny_model

SIZE = {
    "vocab_size": 400,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
    "initializer_range": 0.2,
}
LABELS = [[5], [6, 7], [6, 8, 9, 10]]


def llama(key_heads: int) -> LlamaForCausalLM:
    return seeded(LlamaForCausalLM, LlamaConfig(num_key_value_heads=key_heads, **SIZE))


def gpt2() -> GPT2LMHeadModel:
    size = {"vocab_size": 400, "n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 512}
    return seeded(GPT2LMHeadModel, GPT2Config(initializer_range=0.2, **size))


def model_of(network: Any) -> Model:
    model = tiny_model("causal")
    model.network = network
    return model


def prompts(prefix: int, lengths: list[int]) -> list[Prompt]:
    """Random tokens from 20 on; the first `prefix` of each are the same."""
    draw = np.random.default_rng(0)
    head = draw.integers(20, 400, prefix).tolist()
    rows = [(*head, *draw.integers(20, 400, length).tolist()) for length in lengths]
    return [Prompt(ids=ids, text="", spans=((0, 0),) * len(ids), field_spans=()) for ids in rows]


def likelihoods(model: Model, rows: list[Prompt]) -> list[list[float]]:
    """The plainest way: one row, one label, no cache."""

    def one(ids: list[int], label: list[int]) -> float:
        with torch.inference_mode():
            logits = model.network(torch.tensor([ids + label]), use_cache=False).logits[0]
        steps = logits.float().log_softmax(-1)[len(ids) - 1 :]
        return sum(float(steps[n, token]) for n, token in enumerate(label))

    return [[one(list(row.ids), label) for label in LABELS] for row in rows]


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("prefix", [1, 7])
@pytest.mark.parametrize("block", [1, 100, 2**20], ids=lambda n: f"{n} scores at a time")
def test_it_is_softmax_over_the_prefix_and_the_own_row(
    monkeypatch: pytest.MonkeyPatch, key_heads: int, prefix: int, block: int
) -> None:
    monkeypatch.setattr(shared_prefix_attention, "_BLOCK", block)
    draw = torch.Generator().manual_seed(0)
    rows, heads, tokens, width, value_width = 3, 4, 5, 8, 6
    query = torch.randn(rows, heads, tokens, width, generator=draw)
    key = torch.randn(rows, key_heads, tokens, width, generator=draw)
    value = torch.randn(rows, key_heads, tokens, value_width, generator=draw)
    prefix_key = torch.randn(key_heads, prefix, width, generator=draw)
    prefix_value = torch.randn(key_heads, prefix, value_width, generator=draw)
    seen = torch.ones(tokens, tokens).tril().bool().repeat(rows, 1, 1, 1)
    seen[1, :, 3:, :2] = False
    mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    result = shared_prefix_attention._attend(query, key, value, mask, 0.3, prefix_key, prefix_value)
    assert result.shape == (rows, tokens, heads, value_width)
    for row in range(rows):
        for head in range(heads):
            of = head * key_heads // heads
            keys = torch.cat([prefix_key[of], key[row, of]]).double()
            values = torch.cat([prefix_value[of], value[row, of]]).double()
            scores = 0.3 * query[row, head].double() @ keys.T
            scores[:, prefix:][~seen[row, 0]] = -torch.inf
            torch.testing.assert_close(
                result[row, :, head].double(), scores.softmax(-1) @ values, atol=1e-6, rtol=1e-6
            )


@pytest.mark.parametrize("prefix", [1, 40])
@pytest.mark.parametrize(
    "network",
    [
        lambda: llama(4),
        lambda: llama(2),
        lambda: llama(1),
        gpt2,
        lambda: seeded(Qwen3ForCausalLM, Qwen3Config(num_key_value_heads=2, **SIZE)),
    ],
    ids=["a key head each", "two key heads", "one key head", "learned positions", "qwen3"],
)
def test_rows_of_very_different_length_equal_one_row_one_label(network: Any, prefix: int) -> None:
    model = model_of(network())
    rows = prompts(prefix, [1, 90, 3, 17])
    scorer = LabelScorer(model, rows[0].ids[:prefix], LABELS)
    assert isinstance(scorer.prefix, SharedPrefixAttention)
    np.testing.assert_allclose(scorer.score(rows), likelihoods(model, rows), atol=5e-5)


def test_in_bf16_it_is_as_near_to_fp32_as_the_other_way_is() -> None:
    model = model_of(llama(2))
    rows = prompts(40, [30, 5, 12, 28, 9, 17])
    exact = np.array(likelihoods(model, rows))
    model.network.to(torch.bfloat16)
    scorer = LabelScorer(model, rows[0].ids[:40], LABELS)
    near = np.abs(scorer.score(rows) - exact).mean()
    scorer.prefix = SharedPrefix(model, rows[0].ids[:40])
    assert near < 1.5 * np.abs(scorer.score(rows) - exact).mean()


def test_a_row_that_is_not_finite_is_so_alone() -> None:
    model = model_of(llama(2))
    rows = prompts(40, [30, 5, 12])
    scorer = LabelScorer(model, rows[0].ids[:40], LABELS)
    before = scorer.score(rows)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[19] = torch.inf
    rows[1] = Prompt((*rows[1].ids[:-1], 19), "", rows[1].spans, ())
    after = scorer.score(rows)
    assert not np.isfinite(after[1]).any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


def hooked() -> LlamaForCausalLM:
    """As accelerate leaves a network that it has spread: a layer's forward is another's."""
    network = llama(2)
    add_hook_to_module(network.model.layers[1], ModelHook())
    return network


def with_eager_attention() -> LlamaForCausalLM:
    network = llama(2)
    network.set_attn_implementation("eager")
    return network


def with_sinks() -> LlamaForCausalLM:
    """A layer that hands its attention function more than queries, keys, values and a scale."""
    network = llama(2)
    network.model.layers[1].self_attn.register_forward_pre_hook(
        lambda module, inputs, options: (inputs, {**options, "s_aux": torch.zeros(4)}),
        with_kwargs=True,
    )
    return network


WINDOWS = ["sliding_attention", "full_attention"]


@pytest.mark.parametrize(
    "network",
    [
        hooked,
        with_eager_attention,
        with_sinks,
        lambda: seeded(
            MistralForCausalLM, MistralConfig(num_key_value_heads=2, sliding_window=24, **SIZE)
        ),
        lambda: seeded(
            Gemma3ForCausalLM,
            Gemma3TextConfig(num_key_value_heads=2, sliding_window=24, layer_types=WINDOWS, **SIZE),
        ),
    ],
    ids=["hooks", "eager", "sinks", "a window", "a window in a layer"],
)
def test_other_attention_goes_the_other_way(network: Any) -> None:
    model = model_of(network())
    rows = prompts(40, [1, 30, 3])
    scorer = LabelScorer(model, rows[0].ids[:40], LABELS)
    assert isinstance(scorer.prefix, SharedPrefix)
    np.testing.assert_allclose(scorer.score(rows), likelihoods(model, rows), atol=5e-5)


def test_what_does_not_keep_keys_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Falcon-H1 has attention in each layer, and beside it a state that is no key."""
    assert FalconH1ForCausalLM._is_stateful
    ids = prompts(40, [1])[0].ids
    model = model_of(llama(2))
    assert SharedPrefixAttention.of(model, ids) is not None
    monkeypatch.setattr(type(model.network), "_is_stateful", True)
    assert SharedPrefixAttention.of(model, ids) is None


def test_attention_outside_of_the_interface_is_refused() -> None:
    config = BloomConfig(vocab_size=400, n_layer=2, n_head=4, hidden_size=64)
    model = model_of(seeded(BloomForCausalLM, config))
    assert SharedPrefixAttention.of(model, prompts(40, [1])[0].ids) is None


def test_no_prefix_is_refused(tiny_llama: Model) -> None:
    assert SharedPrefixAttention.of(tiny_llama, ()) is None


def test_the_network_itself_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(llama(2))
    network, sdpa = model.network, ALL_ATTENTION_FUNCTIONS["sdpa"]
    rows = prompts(40, [6, 9])
    expected = likelihoods(model, rows)
    scorer = LabelScorer(model, rows[0].ids[:40], LABELS)
    assert isinstance(scorer.prefix, SharedPrefixAttention)
    meanwhile = []
    plain = shared_prefix_attention._attend

    def interrupted(*arguments: Any) -> torch.Tensor:
        meanwhile.append(likelihoods(model, rows))
        return plain(*arguments)

    monkeypatch.setattr(shared_prefix_attention, "_attend", interrupted)
    np.testing.assert_allclose(scorer.score(rows), expected, atol=5e-5)
    assert meanwhile == [expected] * 2
    assert network.config._attn_implementation == "sdpa"
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa
    assert not any(hasattr(module, "prefix") for module in network.modules())
    assert [id(p) for p in scorer.prefix.network.parameters()] == [
        id(p) for p in network.parameters()
    ]

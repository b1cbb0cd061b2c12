"""Batches: all of the prompts, within what the device and its memory take, and little padding."""

from collections.abc import Callable, Sequence

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from nbllm.engine import batch_memory
from nbllm.engine.batch_memory import BatchCost
from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.models.memory.budget import kv_bytes
from nbllm.models.model import Model
from tests.conftest import tiny_model

GB = 10**9


@pytest.fixture(autouse=True)
def no_oom_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(batch_memory, "_oom_factors", {})


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says how many bytes are left on the device."""

    def left(free: float) -> None:
        monkeypatch.setattr("nbllm.engine.batching.free_memory", lambda device: int(free))

    left(100 * GB)
    return left


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 1000))
def test_every_prompt_once_and_within_the_budget(lengths: list[int], tokens: int) -> None:
    cut = list(batches(lengths, TokenBudget(tokens)))
    assert sorted(i for batch in cut for i in batch) == list(range(len(lengths)))
    for batch in cut:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens
    order = [lengths[i] for batch in cut for i in batch]
    assert order == sorted(order, reverse=True)


@given(
    st.lists(st.integers(1, 300), max_size=80),
    st.integers(0, 200),
    st.builds(BatchCost, *[st.integers(0, 50)] * 6),
    st.integers(-10, 10**6),
)
def test_no_batch_of_two_takes_more_room_than_there_is(
    lengths: list[int], shared: int, cost: BatchCost, room: int
) -> None:
    for batch in batches(lengths, TokenBudget(10**6, room, cost), shared):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or cost.of(len(batch), longest, shared) <= room


def test_lowering_the_budget_counts_for_the_next_batch() -> None:
    budget = TokenBudget(8)
    cut = batches([2] * 11, budget)
    assert [len(next(cut)), len(next(cut))] == [1, 4]
    budget.lower(4, 2)
    budget.lower(6, 2)
    assert [len(batch) for batch in cut] == [2, 2, 2]


def test_the_first_of_several_batches_is_small() -> None:
    assert [len(batch) for batch in batches([2] * 25, TokenBudget(20))] == [3, 10, 10, 2]
    assert [len(batch) for batch in batches([2] * 10, TokenBudget(20))] == [10]


def test_with_plenty_of_memory_the_device_sets_the_budget(
    memory: Callable[[float], None], tiny_llama: Model
) -> None:
    assert TokenBudget.of(tiny_llama, decodes=False).rows(16, shared=64) == 1536 // 16
    assert TokenBudget.of(tiny_llama, decodes=True).rows(16, shared=64) == 16384 // 16


def test_with_little_memory_it_is_what_fits(
    memory: Callable[[float], None], tiny_llama: Model
) -> None:
    cost = BatchCost.forecast(tiny_llama, decodes=True)
    memory(cost.of(20, 16, 64) / 0.8)
    budget = TokenBudget.of(tiny_llama, decodes=True)
    assert 19 <= budget.rows(16, shared=64) <= 20
    # A longer instruction, held for every row, leaves room for fewer of them.
    assert budget.rows(16, shared=640) < 20 / 2
    memory(0)
    assert TokenBudget.of(tiny_llama, decodes=True).rows(16) == 1


def test_the_processor_shares_what_all_rows_start_with(tiny_llama: Model) -> None:
    assert BatchCost.forecast(tiny_llama, decodes=False).held == 0
    kept = kv_bytes(tiny_llama.network.config, torch.float32, 1)
    assert BatchCost.forecast(tiny_llama, decodes=True).held > kept


def conv1d() -> Model:
    """GPT-2, whose layers are of a class of their own."""
    model, config = tiny_model("causal"), GPT2Config(vocab_size=400, n_embd=64, n_layer=2, n_head=4)
    model.network = GPT2LMHeadModel(config)
    return model


@pytest.mark.parametrize(
    "made", [lambda: tiny_model("causal"), lambda: tiny_model("encoder"), conv1d]
)
def test_the_forecast_is_that_of_a_pass_that_was_counted(made: Callable[[], Model]) -> None:
    from nbllm.models.architecture import skeleton
    from nbllm.models.estimate.dry_run import dry_run

    model = made()
    cost = BatchCost.forecast(model, decodes=True)
    rows, length = 8, 128
    network = skeleton(model.network.config, model.kind, False)
    passed = dry_run(
        network, model.kind, torch.float32, torch.device("cpu"), {"none": {}}, length, rows
    )
    counted = passed.activations["none"] + (passed.cache if model.kind == "causal" else 0)
    assert counted <= cost.of(rows, length) < 4 * counted


def test_the_next_run_starts_where_memory_sufficed(
    memory: Callable[[float], None],
    tiny_llama: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score, sizes = LabelScorer.__call__, []

    def cramped(self: LabelScorer, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        sizes.append(len(prompts))
        if len(prompts) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, prompts)

    monkeypatch.setattr(LabelScorer, "__call__", cramped)
    frame = pd.DataFrame({"text": [f"number {n:03}" for n in range(200)]})
    labels, largest = [], []
    for _ in range(2):
        answered = frame.llm.sentiment("text", model=tiny_llama, ledger=False)
        labels.append(answered["text_sentiment"].tolist())
        largest.append(max(sizes))
        sizes.clear()
    assert largest[0] > 32 and 8 <= largest[1] <= 16
    assert labels[0] == labels[1] and set(labels[0]) <= {"positive", "negative"}


def test_what_was_learnt_grows_with_the_memory_and_is_of_one_model(
    memory: Callable[[float], None], tiny_llama: Model
) -> None:
    memory(10 * GB)
    TokenBudget.of(tiny_llama, decodes=False).lower(64, 20)
    assert 31 <= TokenBudget.of(tiny_llama, decodes=False).rows(20) <= 32
    memory(20 * GB)
    assert 62 <= TokenBudget.of(tiny_llama, decodes=False).rows(20) <= 64
    memory(5 * GB)
    assert 15 <= TokenBudget.of(tiny_llama, decodes=False).rows(20) <= 16
    tiny_llama.quantization = "int8"
    assert TokenBudget.of(tiny_llama, decodes=False).rows(20) == 1536 // 20
    memory(10 * GB)
    tiny_llama.quantization = "none"
    assert TokenBudget.of(tiny_llama, decodes=True).rows(20) == 16384 // 20


def test_a_text_that_is_too_long_alone_says_nothing_of_batches(
    memory: Callable[[float], None], tiny_llama: Model
) -> None:
    TokenBudget.of(tiny_llama, decodes=False).lower(1, 100_000)
    assert TokenBudget.of(tiny_llama, decodes=False).rows(16) == 1536 // 16


def test_only_a_greater_factor_replaces_another(tiny_llama: Model) -> None:
    for factor, known in ((0.5, 1), (3.5, 3.5), (2, 3.5), (4, 4)):
        batch_memory.raise_oom_factor(tiny_llama, factor, decodes=True)
        assert batch_memory.oom_factor(tiny_llama, decodes=True) == known
    assert batch_memory.oom_factor(tiny_llama, decodes=False) == 1


# -- labels, and cards ---------------------------------------------------------------------------


def test_logits_are_foretold_at_every_node_of_the_labels(tiny_llama: Model) -> None:
    words = tiny_llama.network.config.vocab_size
    one = BatchCost.forecast(tiny_llama, decodes=False)
    many = BatchCost.forecast(tiny_llama, decodes=False, label_tokens=216)
    assert one.row == words * (4 + 8) and many.row == 217 * one.row
    # The labels are read as well, and every token behind the prompt looks at those before it.
    added = many.of(1, 20, 5) - one.of(1, 20, 5)
    tokens = 216 * many.token + (236 * 241 - 20 * 25) * many.pair
    assert added == 216 * one.row + tokens + 216 * many.held


def test_many_labels_make_smaller_batches(
    memory: Callable[[float], None], tiny_llama: Model
) -> None:
    few = TokenBudget.of(tiny_llama, decodes=False)
    many = TokenBudget.of(tiny_llama, decodes=False, label_tokens=216)
    assert few.rows(20) == 1536 // 20 and many.rows(20) == 1536 // 236
    cost = many.cost
    memory(cost.of(3, 20) / 0.8)
    assert 2 <= TokenBudget.of(tiny_llama, decodes=False, label_tokens=216).rows(20) <= 3


def test_positions_that_are_too_many_at_once_are_not_foretold_at_once(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = BatchCost.forecast(tiny_llama, decodes=False).row
    monkeypatch.setattr(batch_memory, "_LOGITS", 10 * one + 1)
    assert batch_memory.positions_at_once(tiny_llama) == 10
    assert BatchCost.forecast(tiny_llama, decodes=False, label_tokens=4).row == 5 * one
    assert BatchCost.forecast(tiny_llama, decodes=False, label_tokens=500).row == 10 * one
    monkeypatch.setattr(batch_memory, "_LOGITS", 1)
    assert batch_memory.positions_at_once(tiny_llama) == 1


def test_a_run_tells_its_budget_of_its_labels(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: Model
) -> None:
    given, of = [], TokenBudget.of

    def recorded(model: Model, *, decodes: bool, label_tokens: int = 0) -> TokenBudget:
        given.append(label_tokens)
        return of(model, decodes=decodes, label_tokens=label_tokens)

    monkeypatch.setattr(TokenBudget, "of", recorded)
    frame = pd.DataFrame({"text": ["warm soup", "cold staff"]})
    labels = ["a good long label", "a bad long label", "something else entirely"]
    frame.llm.classify("text", labels=labels, model=tiny_llama, ledger=False)
    assert len(set(given)) == 1 and given[0] > 3


def test_decoding_on_cuda_is_bounded_by_memory(
    memory: Callable[[float], None],
    tiny_llama: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Model, "device", property(lambda self: torch.device("cuda", 0)))
    # 16,384 tokens bound what is only read; a step of decoding shares the weights among rows.
    assert TokenBudget.of(tiny_llama, decodes=False).rows(400) == 16384 // 400
    budget = TokenBudget.of(tiny_llama, decodes=True)
    assert budget.rows(400) == budget.rows(16) == 1024
    memory(budget.cost.of(100, 400, 50) / 0.8)
    assert 99 <= TokenBudget.of(tiny_llama, decodes=True).rows(400, 50) <= 100
    budget = TokenBudget.of(tiny_llama, decodes=True)
    budget.lower(100, 400, 50)
    assert 45 <= budget.rows(400, 50) <= 50

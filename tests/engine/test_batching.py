"""Batches: all of the prompts, within the budget, and little padding."""

from hypothesis import given
from hypothesis import strategies as st

from nbllm.engine.batching import TokenBudget, batches


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 1000))
def test_every_prompt_once_and_within_the_budget(lengths: list[int], tokens: int) -> None:
    cut = list(batches(lengths, TokenBudget(tokens)))
    assert sorted(i for batch in cut for i in batch) == list(range(len(lengths)))
    for batch in cut:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens
    order = [lengths[i] for batch in cut for i in batch]
    assert order == sorted(order, reverse=True)


def test_lowering_the_budget_counts_for_the_next_batch() -> None:
    budget = TokenBudget(8)
    cut = batches([2] * 10, budget)
    assert len(next(cut)) == 4
    budget.lower(4)
    budget.lower(6)
    assert [len(batch) for batch in cut] == [2, 2, 2]

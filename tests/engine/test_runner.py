"""The runner: bad rows fail alone, and memory running out is survived."""

import math
import weakref
from collections.abc import Sequence

import pytest
import torch

from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import is_out_of_memory, run


def prompts(count: int) -> list[Prompt]:
    return [Prompt(ids=(i, 0), text="", spans=((0, 0),) * 2, field_spans=()) for i in range(count)]


class Counting:
    """An engine that answers with the row's number and fails on some."""

    def __init__(self, bad: Sequence[int] = (), fits: int = 10**9) -> None:
        self.bad, self.fits, self.calls = set(bad), fits, 0

    def __call__(self, batch: Sequence[Prompt]) -> list[int]:
        self.calls += 1
        if sum(len(p.ids) for p in batch) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if any(p.ids[0] in self.bad for p in batch):
            raise ValueError("poisoned")
        return [p.ids[0] for p in batch]


def drive(engine: Counting, count: int, tokens: int = 128) -> tuple[dict, dict, TokenBudget]:
    budget = TokenBudget(tokens)
    answers, errors = {}, {}
    for done in run(prompts(count), engine, budget=budget):
        answers.update(done.answers)
        errors.update(done.errors)
    return answers, errors, budget


@pytest.mark.parametrize("bad", [[], [3], [0, 63], [5, 6, 40]])
def test_bad_rows_are_isolated_cheaply(bad: list[int]) -> None:
    engine = Counting(bad)
    answers, errors, _ = drive(engine, 64)
    assert sorted(errors) == bad
    assert answers == {i: i for i in range(64) if i not in bad}
    assert all("poisoned" in text for text in errors.values())
    assert engine.calls - 1 <= 2 * len(bad) * math.log2(64)


def test_a_row_that_comes_back_as_an_error_costs_no_second_call() -> None:
    def engine(batch: Sequence[Prompt]) -> list[object]:
        return [ValueError("odd") if p.ids[0] % 2 else "even" for p in batch]

    steps = list(run(prompts(4), engine, budget=TokenBudget(100)))
    assert [step.forwards for step in steps] == [1]
    assert steps[0].errors == {1: "odd", 3: "odd"}


def test_running_out_of_memory_lowers_the_budget_once() -> None:
    engine = Counting(fits=40)
    answers, errors, budget = drive(engine, 200)
    assert len(answers) == 200 and not errors
    assert budget.room == 32
    # One batch of 64 rows is halved twice; all later ones fit at once.
    assert engine.calls == 1 + 2 + 4 + math.ceil((200 - 64) / 16)


def test_what_did_not_fit_is_freed_before_the_next_try() -> None:
    held: list[weakref.ref[set[int]]] = []

    def engine(batch: Sequence[Prompt]) -> list[int]:
        assert all(tensor() is None for tensor in held)
        activations = {1, 2, 3}  # a local of the frame that the error holds
        held.append(weakref.ref(activations))
        if len(batch) > 1:
            raise RuntimeError("CUDA out of memory")
        return [p.ids[0] for p in batch]

    [done] = run(prompts(4), engine, budget=TokenBudget(8))
    assert done.answers == {i: i for i in range(4)} and len(held) == 7


def test_a_row_too_large_for_memory_alone_is_its_own_error() -> None:
    answers, errors, _ = drive(Counting(fits=1), 2)
    assert not answers
    assert all("out of memory" in text for text in errors.values())


def test_an_interrupt_comes_after_what_was_answered() -> None:
    class Interrupting(Counting):
        def __call__(self, batch: Sequence[Prompt]) -> list[int]:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(batch)

    answered = 0
    with pytest.raises(KeyboardInterrupt):
        for done in run(prompts(30), Interrupting(), budget=TokenBudget(20)):
            answered += len(done.answers)
    assert answered == 3 + 10  # a small batch, and a whole one


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `c`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("not enough memory: you tried to allocate 8 bytes."), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_running_out_of_memory(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory

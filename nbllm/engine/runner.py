"""Runs batches: a row that fails, fails alone, and running out of memory is survived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.locks import FORWARD_LOCK
from nbllm.engine.prompt import Prompt
from nbllm.errors import NbllmError
from nbllm.models.flops import TokenCounts

__all__ = ["BatchResult", "Engine", "run"]

# As torch says it on any device, and the libraries that it calls where there is no room for their
# own: a handle of cuBLAS or cuDNN, which is made when it is first used, or a workspace.
_NO_MEMORY = (
    "out of memory",  # CUDA, MPS, HIP and XPU
    "can't allocate memory",  # the processor
    "not enough memory",  # the same on Windows
    "cublas_status_not_initialized",
    "cublas_status_alloc_failed",
    "cudnn_status_not_initialized",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "cusolver_status_alloc_failed",
    "could not create a primitive",  # oneDNN
)

# Answers prompts, a batch at a time. An answer is anything that JSON holds.
Engine = Callable[[Sequence[Prompt]], Sequence[Any]]


@dataclass
class BatchResult:
    """The result of one batch: answers by index, errors by index, and its cost."""

    answers: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    lasting: list[int] = field(default_factory=list)  # errors that asking again would not change
    # Of the prompts, without a shared prefix.
    read: TokenCounts = field(default_factory=TokenCounts)
    padding: int = 0  # that were computed only to fill the batch
    forwards: int = 0


def run(
    prompts: Sequence[Prompt], answer: Engine, *, budget: TokenBudget, answer_tokens: int = 0
) -> Iterator[BatchResult]:
    """Answer prompts batch by batch.

    Args:
        prompts: the questions.
        answer: one batch of prompts to as many answers; a row that it could not answer is
            an exception among them. If it raises, the batch is cut in half until the rows
            that fail stand alone: at most 2·k·log2(batch) more calls for k of them.
        budget: the size of a batch; halved whenever memory runs out.
        answer_tokens: tokens that an answer takes in a batch beyond its prompt.

    Yields:
        One `BatchResult` per batch.
    """
    lengths = [len(p.ids) - p.prefix_length + answer_tokens for p in prompts]
    shared = max((p.prefix_length for p in prompts), default=0)
    for batch in batches(lengths, budget, shared):
        done = BatchResult()
        _answer(batch, [prompts[i] for i in batch], lengths, answer, budget, done)
        yield done


def _answer(
    batch: list[int],
    prompts: list[Prompt],
    lengths: list[int],
    answer: Engine,
    budget: TokenBudget,
    done: BatchResult,
) -> None:
    used = [lengths[i] for i in batch]
    done.forwards += 1
    answers: Sequence[Any] = ()
    failed: tuple[str, bool] | None = None
    try:
        with FORWARD_LOCK:
            answers = answer(prompts)
    except Exception as error:
        failed = f"{type(error).__name__}: {error}", is_out_of_memory(error)
    # Out of `except`: the error holds on to all tensors of the pass that it came from.
    if failed is not None:
        why, memory = failed
        if memory:
            shared = max(prompt.prefix_length for prompt in prompts)
            budget.lower(len(batch), max(used), shared)
        if len(batch) == 1:
            done.errors[batch[0]] = (
                "out of memory with this row alone; shorten it or take a smaller model"
                if memory
                else why
            )
            return
        half = len(batch) // 2
        for part in (slice(0, half), slice(half, None)):
            _answer(batch[part], prompts[part], lengths, answer, budget, done)
        return
    for index, value in zip(batch, answers, strict=True):
        if isinstance(value, Exception):
            done.errors[index] = str(value)
            done.lasting.append(index)
        else:
            done.answers[index] = value
    for prompt in prompts:
        done.read += TokenCounts.text(len(prompt.ids) - prompt.prefix_length, prompt.prefix_length)
    done.padding += max(used) * len(used) - sum(used)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on any device.

    None of nbllm's own does, though TooLargeError is a MemoryError: it is raised beforehand.

    Args:
        error: raised by a forward pass.
    """
    if isinstance(error, NbllmError):
        return False
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in text for said in _NO_MEMORY)
    )

"""Texts to answers on the model that is in this process, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import BatchResult, run

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import BoundTask, Task
    from nbllm.models.model import Model

__all__ = ["answer_locally"]

# Texts tokenized before the first of them is asked: a second's work or less, and in a few tens of
# batches the last, which may not be full, costs little.
_AHEAD = 2048


def answer_locally(
    texts: Sequence[tuple[str, ...]], task: Task, model: Model, bound: BoundTask, *, truncate: bool
) -> Iterator[BatchResult]:
    """Answer texts batch by batch.

    Args:
        bound: the task, ready on this model.

    Yields:
        What each step brought, by index in `texts`; those that cannot be asked come first of
        their part.
    """
    # The longest first, as in a batch, so that the rows of a part are alike.
    by_length = sorted(range(len(texts)), key=lambda n: -sum(map(len, texts[n])))
    for start in range(0, len(texts), _AHEAD):
        part = sorted(by_length[start : start + _AHEAD])
        yield from _answer_part(part, texts, task, model, bound, truncate=truncate)


def _answer_part(
    part: Sequence[int],
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    bound: BoundTask,
    *,
    truncate: bool,
) -> Iterator[BatchResult]:
    prompts: dict[int, Prompt] = {}
    unasked = BatchResult()
    encoded = bound.encode([texts[n] for n in part], truncate=truncate)
    for n, prompt in zip(part, encoded, strict=True):
        if isinstance(prompt, Prompt):
            prompts[n] = prompt
        else:
            unasked.errors[n] = str(prompt)
    if unasked.errors:
        yield unasked
    order = list(prompts)
    for done in run(
        list(prompts.values()),
        bound,
        budget=TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens),
        answer_tokens=task.answer_tokens(model),
    ):
        yield replace(
            done,
            answers={order[i]: value for i, value in done.answers.items()},
            errors={order[i]: error for i, error in done.errors.items()},
        )

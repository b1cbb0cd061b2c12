"""Texts to answers on the model that is in this process, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import Answered, run

if TYPE_CHECKING:
    from nbllm.frame.kinds.task import Asked, Task
    from nbllm.models.model import Model

__all__ = ["answer_here"]


def answer_here(
    texts: Sequence[tuple[str, ...]], task: Task, model: Model, asked: Asked, *, truncate: bool
) -> Iterator[Answered]:
    """Answer texts batch by batch.

    Args:
        asked: the task, ready on this model.

    Yields:
        What each step brought, by index in `texts`; first those that cannot be asked, if any.
    """
    prompts: dict[int, Prompt] = {}
    unasked = Answered()
    for n, prompt in enumerate(asked.encode(texts, truncate=truncate)):
        if isinstance(prompt, Prompt):
            prompts[n] = prompt
        else:
            unasked.errors[n] = str(prompt)
    if unasked.errors:
        yield unasked
    order = list(prompts)
    for done in run(
        list(prompts.values()),
        asked,
        budget=TokenBudget.of(model, decodes=task.decodes),
        answer_tokens=task.answer_tokens(model),
    ):
        yield replace(
            done,
            answers={order[i]: value for i, value in done.answers.items()},
            errors={order[i]: error for i, error in done.errors.items()},
        )

"""Answers texts batch by batch on the model in this process."""

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

__all__ = ["answer_locally", "renumbered"]

# Texts to tokenize at once: few enough to take a second at most, and enough for tens of batches,
# so that the last one, which may not be full, costs little.
_PART_SIZE = 2048


def answer_locally(
    texts: Sequence[tuple[str, ...]], task: Task, model: Model, bound: BoundTask, *, truncate: bool
) -> Iterator[BatchResult]:
    """Answer texts batch by batch.

    Args:
        texts: The texts, one string per field of the task's template.
        task: The task.
        model: The model.
        bound: The task, bound to this model.
        truncate: Whether to cut texts that do not fit the context, instead of failing them.

    Yields:
        The result of each batch, by index in `texts`. The errors of texts that make no prompt
        precede the batches of their part.
    """
    # Sorted by length, so that the texts of a part are similar and batches need little padding.
    by_length = sorted(range(len(texts)), key=lambda n: -sum(map(len, texts[n])))
    for start in range(0, len(texts), _PART_SIZE):
        part = sorted(by_length[start : start + _PART_SIZE])
        for done in _answer_part([texts[n] for n in part], task, model, bound, truncate=truncate):
            yield renumbered(done, part)


def renumbered(done: BatchResult, indices: Sequence[int]) -> BatchResult:
    """Return a result with each index `i` replaced by `indices[i]`.

    Args:
        done: The result of a batch.
        indices: The new indices.
    """
    return replace(
        done,
        answers={indices[i]: value for i, value in done.answers.items()},
        errors={indices[i]: error for i, error in done.errors.items()},
        lasting=[indices[i] for i in done.lasting],
    )


def _answer_part(
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    bound: BoundTask,
    *,
    truncate: bool,
) -> Iterator[BatchResult]:
    encoded = bound.encode(texts, truncate=truncate)
    prompts = {n: prompt for n, prompt in enumerate(encoded) if isinstance(prompt, Prompt)}
    errors = {n: str(e) for n, e in enumerate(encoded) if not isinstance(e, Prompt)}
    if errors:
        yield BatchResult(errors=errors)
    for done in run(
        list(prompts.values()),
        bound,
        budget=TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens),
        answer_tokens=task.answer_tokens(model),
    ):
        yield renumbered(done, list(prompts))

"""Models that give labels without a prompt: what their head is called, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.errors import LabelError
from nbllm.models.kind import CALLED

if TYPE_CHECKING:
    from nbllm.frame.prompts.examples import Examples
    from nbllm.models.model import Model

__all__ = ["head_labels", "refuse_prompt"]


def head_labels(model: Model) -> tuple[str, ...]:
    """The labels that a classifier was trained to give, in the order of its head."""
    config: Any = model.network.config
    return tuple(str(config.id2label[n]) for n in range(config.num_labels))


def refuse_prompt(model: Model, *, instruction: str | None, examples: Examples | None) -> None:
    """Refuse what a model without a prompt could not be told.

    Raises:
        LabelError: there is an instruction, or there are examples.
    """
    if instruction is not None or examples is not None:
        raise LabelError(
            f"{model.name} is {CALLED[model.kind]}, which reads the text alone: it can be told no "
            "instruction= and shown no examples=. Leave them out, or pass a causal language model."
        )

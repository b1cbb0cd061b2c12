"""Classifiers, which give labels without a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbllm.errors import LabelError
from nbllm.models.kind import CALLED

if TYPE_CHECKING:
    from nbllm.frame.prompts.examples import Examples
    from nbllm.models.model import Model

__all__ = ["head_labels", "refuse_prompt"]


def head_labels(model: Model) -> tuple[str, ...]:
    """Return the labels of a classifier, in the order of its outputs.

    Args:
        model: A classifier.
    """
    config: Any = model.network.config
    return tuple(str(config.id2label[n]) for n in range(config.num_labels))


def refuse_prompt(model: Model, *, instruction: str | None, examples: Examples | None) -> None:
    """Raise an error if a prompt is passed for a model that reads none.

    Args:
        model: The model, for the error message.
        instruction: The instruction, if one was passed.
        examples: The examples, if any were passed.

    Raises:
        LabelError: There is an instruction, or there are examples.
    """
    if instruction is not None or examples is not None:
        raise LabelError(
            f"{model.name} is {CALLED[model.kind]}, which reads the text alone: it can be told no "
            "instruction= and shown no examples=. Leave them out, or pass a causal language model."
        )

"""Prompts of encoder-decoders: a text after the task prefix that the model was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, Template, enclosed
from nbllm.errors import FrameError
from nbllm.frame.prompts.examples import Examples
from nbllm.frame.prompts.few_shot import TEXT

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["configured_prefixes", "refuse_examples", "seq2seq_template"]


def configured_prefixes(model: Model) -> dict[str, str]:
    """Return the task prefixes in a checkpoint's configuration, by the name of the task.

    Args:
        model: An encoder-decoder.
    """
    tasks = getattr(model.network.config, "task_specific_params", None) or {}
    return {name: task["prefix"] for name, task in tasks.items() if "prefix" in task}


def refuse_examples(model: Model, verb: str, examples: Examples | None) -> None:
    """Raise an error if examples are passed, since encoder-decoders do not learn in context.

    Args:
        model: The model, for the error message.
        verb: The name of the verb.
        examples: The examples, if any were passed.

    Raises:
        FrameError: There are examples.
    """
    if examples is not None:
        raise FrameError(
            f"{verb}: {model.name} is an encoder-decoder, which takes no examples. Leave "
            "examples= out, or ask a causal language model."
        )


def seq2seq_template(model: Model, prefix: str = "", *, token: str | None = None) -> Template:
    """Return the template of a text with the encoder's special tokens.

    Args:
        model: An encoder-decoder.
        prefix: The task prefix before the text.
        token: A special token before both, such as a language token.
    """
    parts = [Part("markup", token)] if token else []
    if prefix:
        parts.append(Part("text", prefix.rstrip() + " "))
    return enclosed(model.tokenizer, [*parts, Part("field", TEXT)])

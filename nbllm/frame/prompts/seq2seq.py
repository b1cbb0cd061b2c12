"""How encoder-decoders are asked: in the words that they were trained to see before a text."""

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
    """The words that a checkpoint's configuration puts before a text, by the name of the task."""
    tasks = getattr(model.network.config, "task_specific_params", None) or {}
    return {name: task["prefix"] for name, task in tasks.items() if "prefix" in task}


def refuse_examples(model: Model, verb: str, examples: Examples | None) -> None:
    """Refuse examples, from which an encoder-decoder learns nothing.

    Raises:
        FrameError: there are some.
    """
    if examples is not None:
        raise FrameError(
            f"{verb}: {model.name} is an encoder-decoder, which takes no examples. Leave "
            "examples= out, or ask a causal language model."
        )


def seq2seq_template(model: Model, words: str = "", *, token: str | None = None) -> Template:
    """One text as an encoder reads it.

    Args:
        words: what stands before the text.
        token: a special token that stands before both, such as that of a language.
    """
    parts = [Part("markup", token)] if token else []
    if words:
        parts.append(Part("text", words.rstrip() + " "))
    return enclosed(model.tokenizer, [*parts, Part("field", TEXT)])

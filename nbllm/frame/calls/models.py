"""The model of a call: its choice, a stand-in for validation, and the prompt of one row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from nbllm.engine.encoding import framed
from nbllm.errors import ModelError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.running.preview import Preview
from nbllm.frame.tasks.bound_prompt import compile_template
from nbllm.models.in_memory import loaded
from nbllm.models.loader import resolve

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Task
    from nbllm.models.kind import Kind
    from nbllm.models.model import Model

__all__ = ["choose_encoder", "placeholder_model", "preview_of"]


def choose_encoder(model: Any, verb: str) -> Model:
    """Return the sentence encoder given by object or name, else the one loaded last.

    Args:
        model: The encoder, its name, or None.
        verb: The name of the verb, for error messages.

    Raises:
        ModelError: No encoder is given, and none is loaded.
        UnsupportedModelError: The model is of another kind.
    """
    if model is None:
        model = next((known for known in reversed(loaded()) if known.kind == "encoder"), None)
    if model is None:
        raise ModelError(
            f"{verb} asks a sentence encoder, and none is loaded. Pass one: model='minilm'."
        )
    found = resolve(model)
    require(found, verb, "encoder")
    return found


def preview_of(task: Task, model: Model, texts: tuple[str, ...], *, truncate: bool) -> Preview:
    """Return the exact prompt of a row.

    Args:
        task: The task.
        model: The model.
        texts: The texts of the row, in the order of the template's fields.
        truncate: Whether to cut texts that do not fit, instead of raising an error.

    Raises:
        TextTooLongError: The row does not fit the context.
    """
    limit = model.context_length - task.answer_tokens(model)
    if model.kind == "extractive_qa":  # splits a long text into several sequences
        [prompt] = task.bind(model, limit).encode([texts], truncate=truncate)
    else:
        template = task.template
        compiled = compile_template(template, model, limit) if template else framed(model)
        [prompt] = compiled.encode([texts], limit=limit, truncate=truncate)
    if isinstance(prompt, Exception):
        raise prompt
    # Encoders share no prefix: they read their first special token again in each row.
    return Preview(prompt if task.template else replace(prompt, prefix_length=0))


def placeholder_model(kind: Kind) -> Model:
    """Return a stand-in for a model, with which tasks validate their arguments."""
    return cast("Model", _PlaceholderModel(kind))


class _BareTokenizer:
    """The tokenizer of a base model without special tokens."""

    bos_token = chat_template = None


@dataclass(frozen=True)
class _PlaceholderModel:
    kind: str
    name: str = "the model"
    context_length: int = 2048
    tokenizer: _BareTokenizer = field(default_factory=_BareTokenizer)

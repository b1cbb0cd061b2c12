"""The format of a few-shot prompt, for base models and for chat models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat

if TYPE_CHECKING:
    from nbllm.engine.prompt import Template
    from nbllm.models.model import Model

__all__ = ["TEXT", "chat_template", "label_parts"]

TEXT = "text"  # the template field of tasks that read one column


def label_parts(
    instruction: str | None, examples: Iterable[tuple[str, str]], *, text: str, answer: str
) -> list[Part]:
    """Return the instruction, the examples and the row's text, ending before the answer.

    Args:
        instruction: The instruction, if there is one.
        examples: The (text, answer) pairs that come first.
        text: The heading of a text, such as "Review".
        answer: The heading of an answer, such as "Sentiment".
    """
    head = f"{instruction}\n\n" if instruction else ""
    shots = "".join(f"{text}: {given}\n{answer}: {label}\n\n" for given, label in examples)
    return [
        Part("text", f"{head}{shots}{text}: "),
        Part("field", TEXT),
        Part("text", f"\n{answer}:"),
    ]


def chat_template(
    model: Model, head: str, examples: Iterable[tuple[str, str]] = (), *, field: str = TEXT
) -> Template:
    """Return a conversation with the examples as earlier turns, open for the row's answer.

    Args:
        model: A causal model with a chat template.
        head: The beginning of each user message: the instruction and a separator.
        examples: The (text, answer) pairs that come first.
        field: The template's field for the row's text.
    """
    turns: list[tuple[str, Sequence[Part]]] = []
    for text, answer in examples:
        turns.append(("user", [Part("text", head + text)]))
        turns.append(("assistant", [Part("text", answer)]))
    turns.append(("user", [Part("text", head), Part("field", field)]))
    return chat(model.tokenizer, turns)

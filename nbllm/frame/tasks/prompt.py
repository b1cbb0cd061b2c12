"""The caller's own prompt, over as many columns as it names."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.kinds.text import TextTask
from nbllm.frame.tasks.arguments import Examples, read_examples, require

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["prompt", "prompt_columns"]


def prompt_columns(template: str) -> list[str]:
    """The columns that a prompt names in braces, each once.

    Raises:
        FrameError: it names none, or its braces do not close.

    Example:
        >>> prompt_columns("Is {product} any good? {review}")
        ['product', 'review']
    """
    names = [part.value for part in _parse(template) if part.kind == "field"]
    if not names:
        raise FrameError(
            f"the prompt {template!r} names no column. Put the name of one in braces, such as "
            "{review}; write a brace itself as {{ or }}."
        )
    return list(dict.fromkeys(names))


def prompt(
    model: Model,
    *,
    template: str,
    instruction: str | None = None,
    examples: Examples | None = None,
    max_new_tokens: int = 64,
) -> TextTask:
    """The task of answering the caller's prompt.

    Args:
        template: the prompt, with columns in braces: "Who is {person}?".
        instruction: a system message, for models that were taught to take one.
        examples: (prompt, answer) pairs to show first.
        max_new_tokens: where an answer is cut.
    """
    require(model, "prompt", "causal")
    parts = _parse(template)
    shown = [] if examples is None else read_examples(examples, None)
    if model.tokenizer.chat_template is not None:
        turns = [("system", [Part("text", instruction)])] if instruction else []
        for asked, answered in shown:
            turns.append(("user", [Part("text", asked)]))
            turns.append(("assistant", [Part("text", answered)]))
        turns.append(("user", parts))
        whole = chat(model.tokenizer, turns)
    else:
        head = f"{instruction}\n\n" if instruction else ""
        head += "".join(f"{asked}\n{answered}\n\n" for asked, answered in shown)
        whole = plain(model.tokenizer, [Part("text", head), *parts, Part("text", "\n")])
    return TextTask(verb="prompt", template=whole, max_new_tokens=max_new_tokens)


def _parse(template: str) -> list[Part]:
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise FrameError(
            f"the prompt {template!r} cannot be read: {error}. "
            "Write a brace itself as {{ or }}."
        ) from error
    parts = []
    for literal, name, spec, conversion in pieces:
        if literal:
            parts.append(Part("text", literal))
        if name is None:
            continue
        if not name or spec or conversion:
            raise FrameError(
                f"the prompt {template!r} formats a column. Name it alone, as {{review}}, and "
                "format the column itself before."
            )
        parts.append(Part("field", name))
    return parts

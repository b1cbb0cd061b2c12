"""The caller's own prompt, over as many columns as it names."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import FIELDS, Examples, read_examples
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["prompt", "prompt_columns"]

# As str.format has it, but a name goes on to its brace: columns may have a colon in theirs.
_PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]+)\}|(?P<text>[^{}]+)|[{}]", re.DOTALL)


def prompt_columns(template: str) -> list[str]:
    """The columns that a prompt names in braces, each once.

    Raises:
        FrameError: it names none, or a brace names no column.

    Example:
        >>> prompt_columns("Is {product} any good? {review}")
        ['product', 'review']
    """
    names = [part.value for part in _parse(template) if part.kind == "field"]
    if not names:
        raise FrameError(
            f"the prompt {template!r} names no column. Put the name of one in braces, such as "
            "{review}; write a brace itself as {{ or }}. A column whose own name has a brace has "
            "to be renamed first."
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
    shown = [] if examples is None else read_examples(examples, FIELDS["prompt"])
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
    """The text of a prompt and the columns that it names, whatever else these have than braces."""
    parts: list[Part] = []
    for piece in _PIECE.finditer(template):
        name, text = piece["name"], piece["text"]
        if name is not None:
            parts.append(Part("field", name))
        elif piece["brace"] is not None:
            parts.append(Part("text", piece["brace"][0]))
        elif text is not None:
            parts.append(Part("text", text))
        else:
            raise FrameError(
                f"the prompt {template!r:.200} has a brace at {piece.start()} that names no "
                "column. Put the name of one in braces, such as {review}, or write a brace itself "
                "as {{ or }}. A column whose own name has a brace has to be renamed first."
            )
    return _joined(parts)


def _joined(parts: list[Part]) -> list[Part]:
    """The parts with texts that follow each other as one."""
    joined: list[Part] = []
    for kind, run in groupby(parts, key=lambda part: part.kind):
        values = [part.value for part in run]
        joined += [Part(kind, value) for value in (["".join(values)] if kind == "text" else values)]
    return joined

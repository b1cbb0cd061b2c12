"""The verb `prompt`: answers the user's own prompt, which may name several columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

from nbllm.engine.prompt import Part, chat, plain
from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.tasks.text import TextTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Prompt", "prompt_columns"]

_EXAMPLE_FIELDS = ("prompt", "answer")

# The syntax of str.format without format specs, since names of columns may contain a colon.
_PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]+)\}|(?P<text>[^{}]+)|[{}]", re.DOTALL)


def prompt_columns(template: str) -> list[str]:
    """Return the columns that a prompt names in braces, without repetitions.

    Args:
        template: The prompt.

    Raises:
        FrameError: The prompt names no column, or has a single brace.

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


@dataclass(frozen=True)
class Options:
    """The options of `Prompt`."""

    instruction: str | None = option(
        "The system message; without a chat template, text in front of the examples.", None
    )
    examples: Examples | None = option(
        "(prompt, answer) pairs to put first; or dicts or a frame with the names "
        '"prompt" and "answer".',
        None,
    )
    max_new_tokens: int = option("The maximum number of tokens of an answer.", 64)


class Prompt(Verb[Options]):
    """Answer a prompt of your own for each row.

    A missing or blank value is inserted as an empty text. If all values of a row are missing or
    blank, its answer is null.

    Raises:
        ColumnError: A column is missing, or a new column would overwrite one.
        FrameError: The prompt names no column, or `into` is missing.
        LabelError: An example has another form.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.prompt("Name one use of a {thing}.", into="use")  # doctest: +SKIP
    """

    name = "prompt"
    options = Options
    subject = "template"
    subject_doc = (
        "The prompt, with names of columns in braces. Numbers and dates are formatted as by `str`, "
        "whole numbers without a decimal point. Write `{{` and `}}` for literal braces."
    )
    setting_docs: ClassVar[Mapping[str, str]] = {"into": "The name of the new column."}
    required_settings: ClassVar[tuple[str, ...]] = ("into",)
    any_type = True

    def columns(self, subject: str, options: Options) -> dict[str, str]:
        return {name: name for name in prompt_columns(subject)}

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> TextTask:
        require(model, self.name, "causal")
        instruction = options.instruction
        parts = _parse(subject)
        examples = options.examples
        pairs = [] if examples is None else read_examples(examples, _EXAMPLE_FIELDS)
        if model.tokenizer.chat_template is not None:
            turns = [("system", [Part("text", instruction)])] if instruction else []
            for prompt, answer in pairs:
                turns.append(("user", [Part("text", prompt)]))
                turns.append(("assistant", [Part("text", answer)]))
            turns.append(("user", parts))
            template = chat(model.tokenizer, turns)
        else:
            head = f"{instruction}\n\n" if instruction else ""
            head += "".join(f"{prompt}\n{answer}\n\n" for prompt, answer in pairs)
            template = plain(model.tokenizer, [Part("text", head), *parts, Part("text", "\n")])
        return TextTask(verb=self.name, template=template, max_new_tokens=options.max_new_tokens)


VERB = Prompt()


def _parse(template: str) -> list[Part]:
    """Return the texts and column names of a prompt; a name may hold anything but braces."""
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
    return _join_texts(parts)


def _join_texts(parts: list[Part]) -> list[Part]:
    """Return the parts with successive texts joined to one."""
    joined: list[Part] = []
    for kind, run in groupby(parts, key=lambda part: part.kind):
        some = list(run)
        joined += [Part("text", "".join(part.value for part in some))] if kind == "text" else some
    return joined

"""The caller's own prompt, over as many columns as it names."""

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

_FIELDS = ("prompt", "answer")  # of an example

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


@dataclass(frozen=True)
class Options:
    """What stands around the prompt, and how much is written."""

    instruction: str | None = option("a system message.", None)
    examples: Examples | None = option(
        "(prompt, answer) pairs to show the model first; as dicts or a frame, by the names "
        '"prompt" and "answer".',
        None,
    )
    max_new_tokens: int = option("where an answer is cut.", 64)


class Prompt(Verb[Options]):
    """Ask your own prompt of each row.

    A value that is missing or blank is an empty text in it; a row where all are has a null.

    Raises:
        ColumnError: a column is missing, or a new one is in the way.
        FrameError: the prompt names no column, or `into` is missing.
        LabelError: an example of another form.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.prompt("Name one use of a {thing}.", into="use")  # doctest: +SKIP
    """

    name = "prompt"
    options = Options
    subject = "template"
    subject_doc = (
        "the prompt, with columns in braces; numbers and dates are written as `str` does, whole "
        "numbers without a point. A brace itself is `{{` or `}}`."
    )
    setting_docs: ClassVar[Mapping[str, str]] = {"into": "name of the new column."}
    required_settings: ClassVar[tuple[str, ...]] = ("into",)
    any_type = True

    def columns(self, subject: str, options: Options) -> dict[str, str]:
        return {name: name for name in prompt_columns(subject)}

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    def task(self, model: Model, subject: str, options: Options) -> TextTask:
        require(model, self.name, "causal")
        instruction = options.instruction
        parts = _parse(subject)
        shown = [] if options.examples is None else read_examples(options.examples, _FIELDS)
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
        return TextTask(verb=self.name, template=whole, max_new_tokens=options.max_new_tokens)


VERB = Prompt()


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
        some = list(run)
        joined += [Part("text", "".join(part.value for part in some))] if kind == "text" else some
    return joined

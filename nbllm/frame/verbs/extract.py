"""Extraction: named fields out of a text, each in a column of its own type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Part, chat, plain
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, examples_of
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.fields import FieldsTask, list_fields, read_fields_example, read_schema

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["VERB", "Extract", "Options"]

_FIELDS = ("text", "fields")  # of an example
_INSTRUCTION = "Read the text and write these fields as JSON, with what the text says."


@dataclass(frozen=True)
class Options:
    """Which fields are read."""

    schema: Any = option(
        "a Pydantic model, a JSON schema, or names with their types or descriptions: "
        '`{"product": "what was bought", "price": float | None}`. A type may be named ("int"), '
        'be a part of a JSON schema (`{"enum": ["red", "blue"]}`), or be such a mapping of the '
        "fields inside. Objects and lists become JSON text.",
        positional=True,
    )
    instruction: str | None = option(
        "what to ask, instead of the fields with what the text says.", None
    )
    examples: Examples | None = option(
        "(text, dict of fields) pairs to show the model; as dicts or a frame, by the names "
        '"text" and "fields". Times without an offset are taken as UTC\'s.',
        None,
    )
    max_new_tokens: int = option(
        "what an answer may take; open strings are cut where it runs out.", 128
    )


class Extract(Verb[Options]):
    """Read the fields of a schema out of each text, one column a field.

    The model can write nothing but JSON that is valid against the schema, which is
    `<column>_extract`; the fields are `<column>_extract_<field>`, of their own type. Valid
    is not right: a small model fills in what it cannot find. Strings that the schema leaves
    open share the room of max_new_tokens, lists end at 16 items, numbers lie within 10^15 and
    have six decimals.

    Raises:
        ColumnError: the column is missing or not text, or a new one is in the way.
        FrameError: the schema has no fields, recurs, or uses what is not supported; an example
            does not fit it; or no answer fits max_new_tokens.
        LabelError: a field is called "error" or "run", as columns of the run are.
        UnsupportedModelError: the model is of another kind.

    Example:
        >>> df.llm.extract("message", {"order": int, "wish": str})  # doctest: +SKIP
    """

    name = "extract"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _FIELDS

    def task(self, model: Model, subject: str, options: Options) -> FieldsTask:
        require(model, self.name, "causal")
        known = read_schema(options.schema)
        asked = f"{options.instruction or _INSTRUCTION}\n{list_fields(known)}"
        given = [] if options.examples is None else examples_of(options.examples, _FIELDS)
        shown = [read_fields_example(text, answer, known) for text, answer in given]
        if model.tokenizer.chat_template is not None:
            turns = []
            for text, answer in shown:
                turns.append(("user", [Part("text", f"{asked}\n\nText: {text}")]))
                turns.append(("assistant", [Part("text", answer)]))
            turns.append(("user", [Part("text", f"{asked}\n\nText: "), Part("field", TEXT)]))
            template = chat(model.tokenizer, turns)
        else:
            # JSON begins a line, because its first token then needs no space in front.
            solved = "".join(f"Text: {text}\nJSON:\n{answer}\n\n" for text, answer in shown)
            head = Part("text", f"{asked}\n\n{solved}Text: ")
            template = plain(
                model.tokenizer, [head, Part("field", TEXT), Part("text", "\nJSON:\n")]
            )
        return FieldsTask(self.name, template, options.max_new_tokens, known)


VERB = Extract()

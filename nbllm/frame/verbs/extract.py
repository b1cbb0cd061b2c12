"""The verb `extract`: reads the fields of a schema from a text into typed columns.

Flat fields are spans of the text, by `GroundedTask`; others are generated, by `FieldsTask`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.engine.prompt import Part, plain
from nbllm.errors import FrameError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, examples_of
from nbllm.frame.prompts.few_shot import TEXT, chat_template
from nbllm.frame.tasks.fields import (
    FieldsTask,
    check_fields_example,
    describe_fields,
    normalize_schema,
)
from nbllm.frame.tasks.grounded import GroundedTask, grounded_template
from nbllm.frame.tasks.grounded_fields import can_be_grounded

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["VERB", "Extract", "Options"]

_EXAMPLE_FIELDS = ("text", "fields")
_INSTRUCTION = "Read the text and write these fields as JSON, with what the text says."


@dataclass(frozen=True)
class Options:
    """The options of `Extract`."""

    schema: Any = option(
        "The fields: a Pydantic model, a JSON schema, or a mapping of names to types or "
        'descriptions: `{"product": "what was bought", "price": float | None}`. A type may also be '
        'its name ("int"), part of a JSON schema (`{"enum": ["red", "blue"]}`), or a mapping of '
        "nested fields. Objects and lists become JSON text.",
        positional=True,
    )
    instruction: str | None = option(
        "The instruction in front of the list of fields, instead of the built-in one.", None
    )
    examples: Examples | None = option(
        "(text, dict of fields) pairs for the prompt; or dicts or a frame with the names "
        '"text" and "fields". Times without an offset are UTC.',
        None,
    )
    grounded: bool = option(
        "Whether texts, numbers and dates are taken from the text, word for word, instead of "
        "generated. A schema with objects, lists, formats other than dates, or fields of several "
        "types is generated all the same.",
        True,
    )
    scores: bool = option(
        "Whether to add a column `<column>_extract_<field>_score` for each field: the probability "
        "of its value, or of null. Only where fields are grounded.",
        False,
    )
    max_new_tokens: int = option(
        "The maximum number of tokens of a generated answer; strings without a maximum length are "
        "cut to fit it.",
        128,
    )


class Extract(Verb[Options]):
    """Extract the fields of a schema from each text, one column per field.

    `<column>_extract` holds the fields as JSON, and `<column>_extract_<field>` each field,
    in its own type.

    By default nothing is generated. A text is a span of at most five words of the row's
    text; a number or a date is one that the row's text spells; an enum or a boolean is its
    most likely value. All are chosen by the model's likelihoods, calibrated on texts of
    nbllm's own. A field whose type includes None, or that is not required, is null where
    "none" is more likely than any span. One that may not be null gets its most likely span,
    and is null only where the text has no span of its type. A span that several fields claim
    goes to the likeliest of them; the others are null where they may be. A span may still be
    the wrong one.

    With `grounded=False`, and for objects, lists, formats other than dates and fields of
    several types, the model generates JSON that is always valid against the schema. Valid
    is not correct: a small model invents values that the text does not state. Strings
    without a maximum length share the tokens of max_new_tokens, lists have at most 16
    items, and numbers have a magnitude up to 10^15 and six decimals.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: The schema has no fields, is recursive or uses an unsupported feature; an
            example is invalid against it; no answer fits max_new_tokens; or `scores` are
            wanted of fields that are generated.
        LabelError: A field is named "error" or "run", like columns that every run adds.
        UnsupportedModelError: The model is of another kind.

    Example:
        >>> df.llm.extract("message", {"order": int, "wish": str})  # doctest: +SKIP
    """

    name = "extract"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> GroundedTask | FieldsTask:
        require(model, self.name, "causal")
        schema = normalize_schema(options.schema)
        given = [] if options.examples is None else examples_of(options.examples, _EXAMPLE_FIELDS)
        pairs = [check_fields_example(text, answer, schema) for text, answer in given]
        if options.grounded and can_be_grounded(schema):
            template = grounded_template(model, schema, options.instruction, pairs)
            return GroundedTask(self.name, template, schema, options.scores)
        if options.scores:
            raise FrameError(
                "scores=True is for fields that are read from the text, and these are generated. "
                "Leave it out, or grounded=False and fields that are objects, lists or of several "
                "types."
            )
        instruction = f"{options.instruction or _INSTRUCTION}\n{describe_fields(schema)}"
        if model.tokenizer.chat_template is not None:
            template = chat_template(model, f"{instruction}\n\nText: ", pairs)
        else:
            # JSON begins on a new line, because its first token then has no leading space.
            shots = "".join(f"Text: {text}\nJSON:\n{answer}\n\n" for text, answer in pairs)
            head = Part("text", f"{instruction}\n\n{shots}Text: ")
            template = plain(
                model.tokenizer, [head, Part("field", TEXT), Part("text", "\nJSON:\n")]
            )
        return FieldsTask(self.name, template, options.max_new_tokens, schema)

    def quotes(self, record: Mapping[str, Any], answer: str) -> Mapping[str, str]:
        fields = json.loads(answer)
        return {
            name: str(fields[name]) for name in fields if type(fields[name]) in (str, int, float)
        }

    def can_read(self, record: Mapping[str, Any]) -> bool:
        return "schema" in record["parameters"]


VERB = Extract()

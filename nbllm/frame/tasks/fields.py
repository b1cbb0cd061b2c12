"""Named fields out of a text, each in a column of its own type, by a schema that is kept to."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.checks import shown
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import Template
from nbllm.engine.structured.grammar import accepts, check_schema
from nbllm.errors import FrameError
from nbllm.frame.columns import is_missing
from nbllm.frame.prompts.field_types import is_schema, schema_of_types
from nbllm.frame.tasks.base import Output
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compiled
from nbllm.wording import with_article

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = [
    "FieldsTask",
    "fields",
    "list_fields",
    "parse",
    "read_fields_example",
    "read_schema",
]

_DTYPES: Mapping[str, Any] = {
    "string": nw.String,
    "integer": nw.Int64,
    "number": nw.Float64,
    "boolean": nw.Boolean,
}
_CALLED = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_FORMATS = {"date": "date as YYYY-MM-DD", "time": "time", "date-time": "date and time"}

# What a schema says of itself, and nothing that an answer depends on.
_REMARKS = {"title", "$defs", "definitions", "$schema", "$id", "$comment", "examples"}


@dataclass(frozen=True)
class FieldsTask:
    """Write JSON of a schema after the prompt: one field a column."""

    verb: str
    template: Template
    max_new_tokens: int
    schema: Mapping[str, Any]  # as `read_schema` gives it

    decodes = True
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The JSON as it was written, and its fields."""
        each = (Output("field", f"_{name}", dtype) for name, dtype in fields(self.schema).items())
        return (Output("value", "", nw.String), *each)

    def parameters(self) -> dict[str, Any]:
        # As text, because the order of the fields decides too.
        schema = json.dumps(self.schema, ensure_ascii=False)
        return {"max_new_tokens": self.max_new_tokens, "schema": schema}

    def answer_tokens(self, model: Model) -> int:
        return self.max_new_tokens

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compiled(self.template, model, limit)
        generator = TextGenerator(
            model, template.prefix_ids, max_new_tokens=self.max_new_tokens, schema=self.schema
        )
        return BoundPromptTask(template, generator, limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: JSON with fields of the schema's types."""
        try:
            found = parse(value, self.schema)
        except (AttributeError, ArithmeticError, TypeError, ValueError, RecursionError):
            return False
        types = fields(self.schema)
        return all(_is_of(part, types[name]) for name, part in found.items())

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        parsed = [parse(answer, self.schema) for answer in answers]
        return [list(answers), *([row[name] for row in parsed] for name in fields(self.schema))]


def fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The narwhals dtype of each field's column.

    Text, whole numbers, numbers and booleans have their own; a list, an object and a field of
    several types are JSON in a String column, which pandas, polars and Parquet all hold.

    Args:
        schema: as `read_schema` gives it.
    """
    return {name: _dtype(part) for name, part in schema["properties"].items()}


def parse(answer: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each field's column in one answer; a field left out has its default or None.

    Args:
        answer: JSON that is valid against the schema.
        schema: as `read_schema` gives it.
    """
    found = json.loads(answer)
    return {
        name: _value(found.get(name, part.get("default")), _dtype(part))
        for name, part in schema["properties"].items()
    }


def read_schema(schema: Any) -> dict[str, Any]:
    """A schema in one form: a JSON schema with its references resolved and its objects closed.

    Args:
        schema: a Pydantic model, a JSON schema, or names with their types or descriptions.

    Raises:
        FrameError: it is none of those, has no fields, recurs, or cannot be made a grammar of.

    Example:
        >>> read_schema({"price": float})["properties"]
        {'price': {'type': 'number'}}
    """
    described = _describe(schema)
    resolved = _resolve(described, described, ())
    if resolved.get("type") != "object":
        raise FrameError(
            "the schema describes no object with named fields. Pass a Pydantic model, a JSON "
            'schema of type "object", or a mapping such as {"price": float}.'
        )
    check_schema(resolved)
    return resolved


def _describe(schema: Any) -> Mapping[str, Any]:
    """Whatever was passed as a JSON schema."""
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return dict(schema.model_json_schema())
    if not isinstance(schema, Mapping):
        raise FrameError(
            f"schema={shown(schema)} names no fields. Pass a Pydantic model (the class), a JSON "
            'schema, or a mapping such as {"product": str, "price": float | None}.'
        )
    return schema if is_schema(schema) else schema_of_types(schema)


def _resolve(part: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """A part of a schema without references, remarks and room for fields that it does not name."""
    if not isinstance(part, Mapping):
        raise FrameError(f'{part!r:.60} in the schema is no schema. Write {{"type": ...}}.')
    if "$ref" in part:
        name = str(part["$ref"])
        if name in within:
            raise FrameError(
                f"the schema refers to {name} inside of itself, and an answer has an end. "
                "Write out as many levels as you want."
            )
        rest = {key: value for key, value in part.items() if key != "$ref"}
        return _resolve({**_target(name, root), **rest}, root, (*within, name))
    if len(part.get("allOf", ())) == 1:
        rest = {key: value for key, value in part.items() if key != "allOf"}
        return _resolve({**part["allOf"][0], **rest}, root, within)

    def inner(child: Any) -> dict[str, Any]:
        return _resolve(child, root, within)

    resolved = {k: _inside(k, v, inner) for k, v in part.items() if k not in _REMARKS}
    if "properties" in part or "object" in _kinds(part):
        if not part.get("properties"):
            raise FrameError(
                "the schema has an object that names no fields. Give it properties; for free "
                "names, ask for a list of objects with a name and a value."
            )
        resolved |= {"type": part.get("type", "object"), "additionalProperties": False}
    return resolved


def _target(name: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for step in name.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, Mapping) and step else found
    if not name.startswith("#") or not isinstance(found, Mapping):
        raise FrameError(
            f"the schema refers to {name!r}, which is not in it. Put it under $defs and refer to "
            "it as #/$defs/name."
        )
    return found


def _inside(key: str, value: Any, each: Callable[[Any], Any]) -> Any:
    if key == "properties":
        return {name: each(child) for name, child in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [each(child) for child in value]
    return each(value) if key == "items" else value


def _kinds(part: Mapping[str, Any]) -> list[str]:
    """The JSON types that a part of a schema may be, each once."""
    if "enum" in part or "const" in part:
        return list(dict.fromkeys(map(_kind, part.get("enum", [part.get("const")]))))
    if "anyOf" in part or "oneOf" in part:
        choices = [*part.get("anyOf", ()), *part.get("oneOf", ())]
        return list(dict.fromkeys(kind for choice in choices for kind in _kinds(choice)))
    kinds = part.get("type", ["any"])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return kinds.get(type(value), "any")


def _dtype(part: Mapping[str, Any]) -> Any:
    kinds = set(_kinds(part)) - {"null"}
    if kinds == {"integer", "number"}:
        return nw.Float64
    return _DTYPES.get(kinds.pop(), nw.String) if len(kinds) == 1 else nw.String


def _value(value: Any, dtype: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if dtype == nw.Int64:
        return int(value)  # JSON knows no difference between 3 and 3.0
    if dtype == nw.Float64:
        return float(value)
    return value if dtype == nw.Boolean else _written(value)


def _is_of(value: Any, dtype: Any) -> bool:
    """Whether a column of that dtype can hold a value."""
    if value is None:
        return True
    if dtype == nw.Int64:
        return isinstance(value, int) and abs(value) < 1 << 63
    kind = {nw.Float64: float, nw.Boolean: bool}.get(dtype, str)
    return isinstance(value, kind)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def list_fields(schema: Mapping[str, Any]) -> str:
    """The fields for the prompt, one a line."""
    lines = []
    for name, part in schema["properties"].items():
        about = f" {part['description']}" if part.get("description") else ""
        lines.append(f"- {name} ({_called(part)}){':' if about else ''}{about}")
    return "\n".join(lines)


def _called(part: Mapping[str, Any]) -> str:
    """A type in words, for the prompt."""
    if "enum" in part or "const" in part:
        values = part.get("enum", [part.get("const")])
        return " or ".join(_written(value) for value in values)
    if "anyOf" in part or "oneOf" in part:
        return " or ".join(map(_called, [*part.get("anyOf", ()), *part.get("oneOf", ())]))
    return " or ".join(_called_kind(kind, part) for kind in _kinds(part))


def _called_kind(kind: str, part: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {_called(part['items'])}" if "items" in part else "list"
    if kind == "object":
        named = (f"{name} ({_called(inner)})" for name, inner in part["properties"].items())
        return f"object with {', '.join(named)}"
    if kind == "string" and "format" in part:
        return _FORMATS.get(part["format"], str(part["format"]))
    return _CALLED.get(kind, kind)


def read_fields_example(text: Any, answer: Any, schema: Mapping[str, Any]) -> tuple[str, str]:
    answer = _without_model(answer)
    if not isinstance(text, str) or not isinstance(answer, Mapping):
        raise FrameError(
            f"the example {(text, answer)!r:.120} is not a (text, fields) pair. Pass pairs of a "
            "string and a dict of its fields."
        )
    ordered = {name: answer[name] for name in schema["properties"] if name in answer}
    written = _written(_plain({**ordered, **answer}, text))
    if not accepts(schema, written):
        raise FrameError(
            f"the fields of the example {text[:40]!r} do not fit the schema: {written:.200}. "
            "Give each field that is required, of its type and no other."
        )
    return text, written


def _without_model(value: Any) -> Any:
    """An object of a Pydantic model as a dict."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _plain(value: Any, text: str) -> Any:
    """A value of an example as JSON has it; a time without an offset is taken as UTC's.

    Raises:
        FrameError: JSON has no such value.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.datetime64) and not isinstance(value.item(), datetime.date):
        value = value.astype("datetime64[us]")  # Python has no nanoseconds
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value.item()
    value = _without_model(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part, text) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part, text) for part in value]
    if isinstance(value, datetime.datetime | datetime.time):
        # RFC 3339, which JSON schemas mean by a time, has no form without an offset.
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise FrameError(
        f"the example {text[:40]!r} has {value!r:.80}, {with_article(type(value).__name__)}, which "
        "JSON cannot hold. Write it as a text or a number, as the model should."
    )

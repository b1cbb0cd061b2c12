"""Tasks that extract named fields from a text as JSON of a schema, into typed columns."""

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
from nbllm.frame.tasks.bound_prompt import BoundPromptTask, compile_template
from nbllm.wording import with_article

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = [
    "FieldsTask",
    "check_fields_example",
    "describe_fields",
    "field_dtypes",
    "normalize_schema",
    "parse_answer",
]

_DTYPES: Mapping[str, Any] = {
    "string": nw.String,
    "integer": nw.Int64,
    "number": nw.Float64,
    "boolean": nw.Boolean,
}
_TYPE_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_FORMAT_NAMES = {"date": "date as YYYY-MM-DD", "time": "time", "date-time": "date and time"}

# Keywords that no answer depends on.
_ANNOTATIONS = {"title", "$defs", "definitions", "$schema", "$id", "$comment", "examples"}


@dataclass(frozen=True)
class FieldsTask:
    """Generate JSON that is valid against a schema, with one column for each field."""

    verb: str
    template: Template
    max_new_tokens: int
    schema: Mapping[str, Any]  # as returned by `normalize_schema`

    decodes = True
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The generated JSON, and its fields."""
        each = (
            Output("field", f"_{name}", dtype) for name, dtype in field_dtypes(self.schema).items()
        )
        return (Output("value", "", nw.String), *each)

    def parameters(self) -> dict[str, Any]:
        # As text, because answers depend on the order of the fields.
        schema = json.dumps(self.schema, ensure_ascii=False)
        return {"max_new_tokens": self.max_new_tokens, "schema": schema}

    def answer_tokens(self, model: Model) -> int:
        return self.max_new_tokens

    def bind(self, model: Model, limit: int) -> BoundPromptTask:
        template = compile_template(self.template, model, limit)
        generator = TextGenerator(
            model, template.prefix_ids, max_new_tokens=self.max_new_tokens, schema=self.schema
        )
        return BoundPromptTask(template, generator, limit)

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: JSON with fields of the schema's types."""
        try:
            found = parse_answer(value, self.schema)
        except (AttributeError, ArithmeticError, TypeError, ValueError, RecursionError):
            return False
        types = field_dtypes(self.schema)
        return all(_fits(part, types[name]) for name, part in found.items())

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        parsed = [parse_answer(answer, self.schema) for answer in answers]
        return [
            list(answers),
            *([row[name] for row in parsed] for name in field_dtypes(self.schema)),
        ]


def field_dtypes(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the narwhals dtype of each field's column.

    Text, integers, numbers and booleans have their own dtype. A list, an object or a field of
    several types is JSON in a String column, a type that pandas, polars and Parquet share.

    Args:
        schema: A schema from `normalize_schema`.
    """
    return {name: _dtype(part) for name, part in schema["properties"].items()}


def parse_answer(answer: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each field's column; a missing field has its default or None.

    Args:
        answer: JSON that is valid against the schema.
        schema: A schema from `normalize_schema`.
    """
    found = json.loads(answer)
    return {
        name: _column_value(found.get(name, part.get("default")), _dtype(part))
        for name, part in schema["properties"].items()
    }


def normalize_schema(schema: Any) -> dict[str, Any]:
    """Return a JSON schema with resolved references and closed objects.

    Args:
        schema: A Pydantic model, a JSON schema, or a mapping of names to types or descriptions.

    Raises:
        FrameError: The schema is none of these, has no fields, is recursive, or cannot be
            compiled to a grammar.

    Example:
        >>> normalize_schema({"price": float})["properties"]
        {'price': {'type': 'number'}}
    """
    original = _to_json_schema(schema)
    resolved = _resolve(original, original, ())
    if resolved.get("type") != "object":
        raise FrameError(
            "the schema describes no object with named fields. Pass a Pydantic model, a JSON "
            'schema of type "object", or a mapping such as {"price": float}.'
        )
    check_schema(resolved)
    return resolved


def _to_json_schema(schema: Any) -> Mapping[str, Any]:
    """Return any accepted form of a schema as a JSON schema."""
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        return dict(schema.model_json_schema())
    if not isinstance(schema, Mapping):
        raise FrameError(
            f"schema={shown(schema)} names no fields. Pass a Pydantic model (the class), a JSON "
            'schema, or a mapping such as {"product": str, "price": float | None}.'
        )
    return schema if is_schema(schema) else schema_of_types(schema)


def _resolve(part: Any, root: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    """Return a subschema with resolved references, without annotations, and with closed objects.

    References point into `root`; `within` holds those that lead here, for detecting recursion.
    """
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
        return _resolve({**_resolve_reference(name, root), **rest}, root, (*within, name))
    if len(part.get("allOf", ())) == 1:
        rest = {key: value for key, value in part.items() if key != "allOf"}
        return _resolve({**part["allOf"][0], **rest}, root, within)

    def inner(child: Any) -> dict[str, Any]:
        return _resolve(child, root, within)

    resolved = {k: _map_subschemas(k, v, inner) for k, v in part.items() if k not in _ANNOTATIONS}
    if "properties" in part or "object" in _json_types(part):
        if not part.get("properties"):
            raise FrameError(
                "the schema has an object that names no fields. Give it properties; for free "
                "names, ask for a list of objects with a name and a value."
            )
        resolved |= {"type": part.get("type", "object"), "additionalProperties": False}
    return resolved


def _resolve_reference(name: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for step in name.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, Mapping) and step else found
    if not name.startswith("#") or not isinstance(found, Mapping):
        raise FrameError(
            f"the schema refers to {name!r}, which is not in it. Put it under $defs and refer to "
            "it as #/$defs/name."
        )
    return found


def _map_subschemas(key: str, value: Any, function: Callable[[Any], Any]) -> Any:
    """Return the value of a keyword with a function applied to each subschema in it."""
    if key == "properties":
        return {name: function(child) for name, child in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [function(child) for child in value]
    return function(value) if key == "items" else value


def _json_types(part: Mapping[str, Any]) -> list[str]:
    """Return the distinct JSON types of a subschema."""
    if "enum" in part or "const" in part:
        return list(dict.fromkeys(map(_json_type, part.get("enum", [part.get("const")]))))
    if "anyOf" in part or "oneOf" in part:
        choices = [*part.get("anyOf", ()), *part.get("oneOf", ())]
        return list(dict.fromkeys(kind for choice in choices for kind in _json_types(choice)))
    kinds = part.get("type", ["any"])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _json_type(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return kinds.get(type(value), "any")


def _dtype(part: Mapping[str, Any]) -> Any:
    kinds = set(_json_types(part)) - {"null"}
    if kinds == {"integer", "number"}:
        return nw.Float64
    return _DTYPES.get(kinds.pop(), nw.String) if len(kinds) == 1 else nw.String


def _column_value(value: Any, dtype: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if dtype == nw.Int64:
        return int(value)  # 3.0 is an integer in JSON
    if dtype == nw.Float64:
        return float(value)
    return value if dtype == nw.Boolean else _to_json(value)


def _fits(value: Any, dtype: Any) -> bool:
    """Return whether a column of a dtype can hold a value."""
    if value is None:
        return True
    if dtype == nw.Int64:
        return isinstance(value, int) and abs(value) < 1 << 63
    kind = {nw.Float64: float, nw.Boolean: bool}.get(dtype, str)
    return isinstance(value, kind)


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def describe_fields(schema: Mapping[str, Any]) -> str:
    """Return the list of fields for the prompt, one per line.

    Args:
        schema: A schema from `normalize_schema`.
    """
    lines = []
    for name, part in schema["properties"].items():
        description = f": {part['description']}" if part.get("description") else ""
        lines.append(f"- {name} ({_describe_type(part)}){description}")
    return "\n".join(lines)


def _describe_type(part: Mapping[str, Any]) -> str:
    """Return a type in words, for the prompt."""
    if "enum" in part or "const" in part:
        values = part.get("enum", [part.get("const")])
        return " or ".join(_to_json(value) for value in values)
    if "anyOf" in part or "oneOf" in part:
        return " or ".join(map(_describe_type, [*part.get("anyOf", ()), *part.get("oneOf", ())]))
    return " or ".join(_describe_json_type(kind, part) for kind in _json_types(part))


def _describe_json_type(kind: str, part: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {_describe_type(part['items'])}" if "items" in part else "list"
    if kind == "object":
        inner = (f"{name} ({_describe_type(p)})" for name, p in part["properties"].items())
        return f"object with {', '.join(inner)}"
    if kind == "string" and "format" in part:
        return _FORMAT_NAMES.get(part["format"], str(part["format"]))
    return _TYPE_NAMES.get(kind, kind)


def check_fields_example(text: Any, answer: Any, schema: Mapping[str, Any]) -> tuple[str, str]:
    """Return an example as its text and its fields in JSON, in the order of the schema.

    Args:
        text: The text of the example.
        answer: A mapping of its fields, or a Pydantic object.
        schema: A schema from `normalize_schema`.

    Raises:
        FrameError: The example is not such a pair, or its fields do not fit the schema.
    """
    answer = _dump_model(answer)
    if not isinstance(text, str) or not isinstance(answer, Mapping):
        raise FrameError(
            f"the example {(text, answer)!r:.120} is not a (text, fields) pair. Pass pairs of a "
            "string and a dict of its fields."
        )
    ordered = {name: answer[name] for name in schema["properties"] if name in answer}
    fields = _to_json(_to_json_value({**ordered, **answer}, text))
    if not accepts(schema, fields):
        raise FrameError(
            f"the fields of the example {text[:40]!r} do not fit the schema: {fields:.200}. "
            "Give each field that is required, of its type and no other."
        )
    return text, fields


def _dump_model(value: Any) -> Any:
    """Return a Pydantic object as a dict, and any other value unchanged."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _to_json_value(value: Any, text: str) -> Any:
    """Return a value of an example as JSON can hold it; a time without an offset is UTC.

    Raises:
        FrameError: JSON cannot hold the value.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.datetime64) and not isinstance(value.item(), datetime.date):
        value = value.astype("datetime64[us]")  # Python's datetime has no nanoseconds
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        value = value.item()
    value = _dump_model(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Mapping):
        return {str(name): _to_json_value(part, text) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_to_json_value(part, text) for part in value]
    if isinstance(value, datetime.datetime | datetime.time):
        # JSON schema uses RFC 3339, where a time requires an offset.
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise FrameError(
        f"the example {text[:40]!r} has {value!r:.80}, {with_article(type(value).__name__)}, which "
        "JSON cannot hold. Write it as a text or a number, as the model should."
    )

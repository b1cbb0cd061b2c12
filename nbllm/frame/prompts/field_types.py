"""Fields as users name them, with types, descriptions or parts of a JSON schema, as one schema."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Optional, Union

from nbllm.blank import is_blank
from nbllm.errors import FrameError, NbllmError

__all__ = ["is_schema", "schema_of_types"]

# Types as they are written where no Python is, in a file of settings or a form.
_NAMED: Mapping[str, Any] = {
    "str": str,
    "string": str,
    "text": str,
    "int": int,
    "integer": int,
    "float": float,
    "number": float,
    "bool": bool,
    "boolean": bool,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "time": datetime.time,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "None": None,
    "null": None,
}
_WITHIN = re.compile(r"(list|List|Optional)\[([^,]+)\]", re.DOTALL)
# A type and no description, though none of those above.
_LIKE_A_TYPE = re.compile(
    r"(?:\w+\.)*\w+\[.*\]|list|dict|tuple|set|array|object|any|Any|bytes|timedelta|duration|Decimal",
    re.DOTALL,
)

_JSON_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
# Of a part of a JSON schema: what says its type, and what may stand beside that.
_TYPING = frozenset({"enum", "const", "anyOf", "oneOf", "allOf", "$ref", "items"})
_BESIDE = frozenset(
    {
        "type", "title", "description", "default", "examples", "format", "pattern", "minLength",
        "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minItems", "maxItems", "uniqueItems", "prefixItems", "required", "properties",
        "additionalProperties", "readOnly", "writeOnly", "deprecated",
    }
)  # fmt: skip
# Words of JSON schemas, whose values may be strings.
_WORDS = frozenset(
    {"type", "title", "description", "default", "examples", "format", "pattern", "enum"}
)


def schema_of_types(types: Mapping[Any, Any]) -> Mapping[str, Any]:
    """Return the JSON schema of an object with these fields, by way of Pydantic.

    Args:
        types: name to a type, the name of one, a description, a part of a JSON schema, or such a
            mapping of the fields inside.

    Raises:
        FrameError: there are no names, or what a name stands for cannot be read.
    """
    from pydantic import PydanticUserError, TypeAdapter

    try:
        return dict(TypeAdapter(_typed_dict(types)).json_schema())
    except NbllmError:
        raise
    except KeyError as error:
        raise FrameError(
            f"the schema refers to {error.args[0]!r}, which is not in it. Pass it as a whole JSON "
            'schema with "properties", and put what it refers to under $defs.'
        ) from error
    except (PydanticUserError, TypeError) as error:
        raise FrameError(
            f"the schema cannot be read: {str(error).splitlines()[0]} Give each field a type "
            "(str, float | None, list[str], Literal['a', 'b'] ...) or a description."
        ) from error


def is_schema(part: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is a part of a JSON schema, and not fields with their types.

    Example:
        >>> is_schema({"type": "integer"}), is_schema({"type": str, "title": str})
        (True, False)
    """
    properties = part.get("properties")
    if isinstance(properties, Mapping):
        return all(isinstance(inner, Mapping | str | bool) for inner in properties.values())
    others = set(part) - _TYPING - _BESIDE
    if not all(str(word).startswith(("$", "x-")) for word in others):
        return False
    kinds = part.get("type")
    listed = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(listed, list) and listed and _JSON_TYPES.issuperset(map(str, listed)):
        return True
    return any(_says_a_type(word, part[word]) for word in _TYPING.intersection(part))


def _refuse_unclear(part: Mapping[Any, Any]) -> None:
    """Refuse what may be a schema without a type as well as fields with their descriptions.

    Raises:
        FrameError: a mapping of strings under names that JSON schemas have too.
    """
    if part and _WORDS.issuperset(part) and all(isinstance(v, str) for v in part.values()):
        raise FrameError(
            f"{part!r:.120} in the schema may be a JSON schema without a type that there is, or "
            f"fields that are called {', '.join(part)}. As a schema, give it a type of "
            f"{', '.join(sorted(_JSON_TYPES))}; as fields, give each a Python type, such as str."
        )


def _says_a_type(word: str, value: Any) -> bool:
    if word == "const":
        return isinstance(value, str | int | float | bool | None)
    if word == "$ref":
        return isinstance(value, str)
    if word == "items":
        return isinstance(value, Mapping) and is_schema(value)
    return isinstance(value, list)


def _typed_dict(types: Mapping[Any, Any]) -> Any:
    from typing_extensions import TypedDict  # the one that Pydantic takes before Python 3.12

    odd = [name for name in types if not isinstance(name, str) or is_blank(name)]
    if not types or odd:
        raise FrameError(
            f"{odd[0]!r} is no name of a field. Use a string."
            if odd
            else 'the schema names no fields. Name one, such as {"product": str}.'
        )
    return TypedDict("Fields", {name: _type(name, kind) for name, kind in types.items()})  # type: ignore[operator]


def _type(name: str, kind: Any) -> Any:
    """What a field is, as Pydantic takes it."""
    from pydantic import Field, WithJsonSchema

    if isinstance(kind, Mapping):
        if is_schema(kind):
            return Annotated[Any, WithJsonSchema(dict(kind))]
        _refuse_unclear(kind)
        return _typed_dict(kind)
    if kind is Decimal:  # which JSON schemas of Pydantic write as text too
        return float
    if not isinstance(kind, str):
        return kind
    named = _named(kind)
    if named is not _UNKNOWN:
        return named
    if is_blank(kind) or _LIKE_A_TYPE.fullmatch(kind.strip()):
        raise FrameError(
            f"the field {name!r} is described by {kind!r}, which is neither a type that can be "
            "written nor a description. Pass the type itself (list[str], Literal['a', 'b'], "
            "int | None), or say in words what to write."
        )
    return Annotated[str, Field(description=kind)]


_UNKNOWN = object()


def _named(text: str) -> Any:
    """The type that a string names, `_UNKNOWN` where it names none."""
    text = text.strip()
    if text in _NAMED:
        return _NAMED[text]
    if found := _WITHIN.fullmatch(text):
        inner = _named(found[2])
        if inner is _UNKNOWN:
            return _UNKNOWN
        # Of what is known at run time alone, which the checkers of types cannot follow.
        return Optional[inner] if found[1] == "Optional" else list[inner]  # type: ignore[valid-type]  # noqa: UP045
    if "|" not in text:
        return _UNKNOWN
    parts = [_named(part) for part in text.split("|")]
    if any(part is _UNKNOWN for part in parts):
        return _UNKNOWN
    return Union[tuple(parts)]  # noqa: UP007

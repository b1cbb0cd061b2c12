"""The fields of a schema whose values are read from a text: of which kind each is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbllm.frame.tasks.span_candidates import date_of, integer_of, number_of

__all__ = ["NONE", "READERS", "GroundedField", "can_be_grounded", "grounded_fields", "spell"]

NONE = "none"  # null, in the prompt

_TEXT_KEYWORDS = {"type", "description", "default", "minLength", "maxLength", "pattern"}
_NUMBER_KEYWORDS = {
    "type", "description", "default", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum",
}  # fmt: skip
_CHOICE_KEYWORDS = {"type", "description", "default", "enum", "const"}
READERS: Mapping[str, Callable[[str], Any]] = {
    "string": lambda words: words,
    "integer": integer_of,
    "number": number_of,
    "date": date_of,
}


@dataclass(frozen=True)
class GroundedField:
    """One field of a schema, as it is asked for."""

    name: str
    label: str  # in the prompt
    part: Mapping[str, Any]  # its schema, without null
    kind: str  # "choice", or one of `READERS`
    values: tuple[Any, ...]  # of a choice
    may_be_null: bool
    omitted: bool  # null is written by leaving the field out

    @property
    def numbers(self) -> int:
        """How many numbers of the offset belong to it."""
        return len(self.spelled) if self.kind == "choice" else 1

    @property
    def spelled(self) -> list[str]:
        """The values of a choice in the prompt, "none" last where null is one."""
        return [spell(value) for value in self.values] + [NONE] * self.may_be_null


def can_be_grounded(schema: Mapping[str, Any]) -> bool:
    """Return whether each field is a text, a number, a date or one of a set of values.

    Objects, lists, other formats and fields of several types need generation.

    Args:
        schema: A schema from `normalize_schema`.
    """
    return all(_kind(_without_null(part)) for part in schema["properties"].values())


def spell(value: Any) -> str:
    """Return a value of a field in the words of the prompt.

    Args:
        value: A text, a number or a boolean.

    Example:
        >>> spell(True), spell(2.5)
        ('yes', '2.5')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_null(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a field's schema without its null, by whichever way it was written."""
    for key in ("anyOf", "oneOf"):
        if key in part:
            choices = [choice for choice in part[key] if choice.get("type") != "null"]
            rest = {name: value for name, value in part.items() if name != key}
            return {**choices[0], **rest} if len(choices) == 1 else part
    if isinstance(part.get("type"), list):
        kinds = [kind for kind in part["type"] if kind != "null"]
        return {**part, "type": kinds[0]} if len(kinds) == 1 else part
    if None in part.get("enum", ()):
        return {**part, "enum": [value for value in part["enum"] if value is not None]}
    return part


def _kind(part: Mapping[str, Any]) -> str | None:
    """Return the kind of a field without null; None where it cannot be grounded."""
    names, kind = set(part), part.get("type")
    if "enum" in part or "const" in part:
        values = part.get("enum", [part.get("const")])
        plain_values = all(isinstance(value, str | int | float) for value in values)
        spelled = [spell(value) for value in values]
        distinct = len(set(spelled)) == len(spelled) and NONE not in spelled
        quoted = any('"' in words for words in spelled)
        return "choice" if plain_values and distinct and not quoted and values else None
    if kind == "boolean":
        return "choice" if names <= _CHOICE_KEYWORDS else None
    if kind == "string":
        is_date = part.get("format") == "date"
        fits = names - {"format"} <= _TEXT_KEYWORDS and (is_date or "format" not in part)
        return ("date" if is_date else "string") if fits else None
    return str(kind) if kind in ("integer", "number") and names <= _NUMBER_KEYWORDS else None


def grounded_fields(schema: Mapping[str, Any]) -> list[GroundedField]:
    """Return the fields of a schema, in its order.

    Args:
        schema: A schema of which `can_be_grounded` is true.
    """
    required = schema.get("required", ())
    names = list(schema["properties"])
    words = {name: " ".join(name.replace("_", " ").split()) for name in names}
    if len(set(words.values())) < len(names):
        words = {name: name for name in names}
    fields = []
    for name, part in schema["properties"].items():
        bare = _without_null(part)
        kind = _kind(bare)
        assert kind is not None
        described = f" ({part['description']})" if part.get("description") else ""
        takes_null = bare is not part
        values = bare.get("enum", [bare["const"]] if "const" in bare else [True, False])
        fields.append(
            GroundedField(
                name,
                f"{words[name]}{described}",
                bare,
                kind,
                tuple(values) if kind == "choice" else (),
                takes_null or name not in required,
                not takes_null and name not in required,
            )
        )
    return fields

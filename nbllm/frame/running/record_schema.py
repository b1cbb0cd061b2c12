"""Validates the records and reports of runs, which may come from untrusted sources.

A record is read from the metadata of a frame or Parquet file, or from a ledger. Its readers rely on
the checks here: its types, its size, and the consistency of its fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from dataclasses import Field as DataclassField
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, NotRequired, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

from nbllm.frame.running.report import RunReport

__all__ = ["RUN_ID", "record_fault", "report_fault"]

RUN_ID = re.compile("[a-z]{1,20}-[0-9a-f]{12}")  # the verb, and a hash of the question and columns

# Limits of a record, which usually has some thousand characters: a prompt, examples and labels.
_MAX_CHARACTERS = 10_000_000
_MAX_VALUES = 200_000
_MAX_DEPTH = 20
_LARGEST_INTEGER = 1 << 62

_Name = Annotated[str, Field(min_length=1, max_length=10_000)]
_Names = Annotated[Sequence[_Name], Field(min_length=1)]
# Beyond these bounds, probabilities are 0, 1 or NaN.
_Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]
_Part = Annotated[Sequence[str], Field(min_length=2, max_length=2)]  # kind and value


class _Model(TypedDict):
    name: _Name
    source: _Name
    revision: _Name
    quantization: _Name
    dtype: _Name
    device: _Name
    device_map: NotRequired[_Name]
    adapter: NotRequired[_Name]
    adapter_revision: NotRequired[str]
    adapter_merged: NotRequired[Literal["yes", "no"]]
    text_engine: NotRequired[_Name]


class _Parameters(TypedDict, total=False):
    """The checked parameters of all tasks; each task has some of them."""

    labels: _Names
    answers: Sequence[str]
    heads: Sequence[_Count]
    described: Sequence[str]
    several: _Digest | Literal[True]
    aspects: _Names
    statements: Sequence[str]
    statement: str
    schema: str
    to: str | None
    question: str | None


class _Scaling(TypedDict):
    temperature: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
    bias: Sequence[_Number]


class _Record(TypedDict):
    id: Annotated[str, Field(pattern=f"^{RUN_ID.pattern}$")]
    question: _Digest
    verb: Annotated[str, Field(pattern="^[a-z]{1,20}$")]
    model: _Model
    template: Sequence[_Part]
    parameters: _Parameters
    limit: Annotated[int, Field(ge=1)]
    truncate: bool
    columns: Annotated[dict[_Name, str], Field(min_length=1, max_length=1000)]
    output: _Name
    outputs: Sequence[str]
    writes: bool
    offset: NotRequired[Sequence[_Number] | None]
    scaling: NotRequired[_Scaling]
    versions: NotRequired[dict[str, str]]


def record_fault(value: Any) -> str | None:
    """Return why a value is not a valid record of a run; None if it is one."""
    return _bounds_fault(value) or _type_fault(_records(), value) or _consistency_fault(value)


def report_fault(value: Any) -> str | None:
    """Return why a value does not hold the fields of a valid report; None if it does."""
    fault = _bounds_fault(value) or _type_fault(_reports(), value)
    if fault is None:
        required = {field.name for field in fields(RunReport) if _is_required(field)}
        if not required <= value.keys() <= {field.name for field in fields(RunReport)}:
            return "it has not the fields of a report"
    return fault


def _is_required(field: DataclassField[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@cache
def _records() -> TypeAdapter[Any]:
    return TypeAdapter(_Record)


@cache
def _reports() -> TypeAdapter[Any]:
    types = get_type_hints(RunReport) | {"model": _Model}
    return TypeAdapter(TypedDict("_Report", types, total=False))  # type: ignore[operator]


def _bounds_fault(value: Any) -> str | None:
    """Return whether a value exceeds the limits of a record or cannot be JSON, as an error."""
    room, stack = _MAX_CHARACTERS, [(value, 0)]
    for _ in range(_MAX_VALUES):
        if not stack:
            return None
        item, depth = stack.pop()
        if isinstance(item, str):
            room -= len(item)
            if not _is_utf8(item):
                return "it holds half a surrogate pair"
        elif isinstance(item, int):
            if abs(item) > _LARGEST_INTEGER:
                return "it holds a number beyond all bounds"
        elif isinstance(item, (dict, list, tuple)):
            if len(item) > _MAX_VALUES or depth == _MAX_DEPTH:
                break
            children = [*item, *item.values()] if isinstance(item, dict) else item
            stack += [(child, depth + 1) for child in children]
        elif isinstance(item, float):
            if not isfinite(item):
                return "it holds a number that is none"
        elif item is not None:
            return f"it holds a value of type {type(item).__name__}"
        if room < 0:
            break
    return "it is larger than any record"


def _is_utf8(value: str) -> bool:
    """Return whether UTF-8 can encode a text, as tokenizers and browsers require."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _type_fault(adapter: TypeAdapter[Any], value: Any) -> str | None:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:100]
        return f"{place}: {first['msg']}"[:200] if place else first["msg"][:200]
    return None


def _consistency_fault(record: Mapping[str, Any]) -> str | None:
    """Return which fields of a record contradict each other; None if none do."""
    return next((fault for fault, fits in _CONSISTENCY.items() if not fits(record)), None)


def _fields_fit(record: Mapping[str, Any]) -> bool:
    """Return whether the template has one field per column; without a template, any columns fit."""
    parts = record["template"]
    names = dict.fromkeys(value for kind, value in parts if kind == "field")
    known = all(kind in ("markup", "text", "field") for kind, _ in parts)
    return not parts or (known and list(names) == list(record["columns"]))


def _labels_fit(record: Mapping[str, Any]) -> bool:
    """Return whether labels and heads are unique, and lists per label are as long as the labels."""
    parameters = record["parameters"]
    per_label = ("answers", "heads", "described")
    labels = parameters.get("labels")
    if labels is None:
        return not any(name in parameters for name in (*per_label, "several"))
    counts = {len(parameters[name]) for name in per_label if name in parameters}
    counts |= {len(set(labels)), len(set(parameters.get("heads", labels)))}
    return counts == {len(labels)}


def _calibration_fits(record: Mapping[str, Any]) -> bool:
    parameters, offset = record["parameters"], record.get("offset")
    count = len(parameters.get("labels", ()))
    if "scaling" in record and len(record["scaling"]["bias"]) != count:
        return False
    if offset is None:
        return True
    if "answers" in parameters:
        return len(offset) == count
    if "several" in parameters:
        return len(offset) == 2 * count
    if "refusal" in parameters:
        return len(offset) == 2  # intercept and slope of the fit
    if "grounded" in parameters:
        return len(offset) > 0  # one or more numbers for each field
    return len(offset) == len(parameters.get("statements", (None,)))


def _aspects_fit(record: Mapping[str, Any]) -> bool:
    parameters = record["parameters"]
    aspects, statements = parameters.get("aspects", ()), parameters.get("statements", ())
    if not aspects:
        return not statements
    return len(set(aspects)) == len(aspects) and not len(statements) % len(aspects)


def _schema_fits(record: Mapping[str, Any]) -> bool:
    """Whether a schema is JSON with fields."""
    text = record["parameters"].get("schema")
    if text is None:
        return True
    try:
        found = json.loads(text)["properties"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
    return isinstance(found, dict) and bool(found)


def _device_map_fits(record: Mapping[str, Any]) -> bool:
    """Return whether the device map, if any, is a JSON object of device names or numbers."""
    try:
        devices = json.loads(record["model"].get("device_map", "{}"))
    except (ValueError, RecursionError):
        return False
    return isinstance(devices, dict) and all(isinstance(d, (str, int)) for d in devices.values())


_CONSISTENCY: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "its id is not one of its verb": lambda record: record["id"].startswith(f"{record['verb']}-"),
    "the fields of its template are not those of its columns": _fields_fit,
    "its labels and what is said of each differ in number": _labels_fit,
    "its calibration is not one of its labels": _calibration_fits,
    "its aspects and the statements about them differ in number": _aspects_fit,
    "its schema has no fields": _schema_fits,
    "its device map names no places": _device_map_fits,
}

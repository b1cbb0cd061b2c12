"""What the record of a run may say, wherever it was read: it may be anybody's.

A record comes with a frame, in the metadata of a Parquet file, or out of a ledger. Whoever reads
one relies on what is checked here: its types, its size, and that its parts fit each other.
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
from typing_extensions import TypedDict  # Python's own, to pydantic, is that of 3.12 and later

from nbllm.frame.running.report import RunReport

__all__ = ["RUN_ID", "record_fault", "report_fault"]

RUN_ID = re.compile("[a-z]{1,20}-[0-9a-f]{12}")  # the verb, and a hash of all that decides

# Of one record, which is some thousand characters long: a prompt with its examples and labels.
_MOST_CHARACTERS = 10_000_000
_MOST_VALUES = 200_000
_DEEPEST = 20
_LARGEST_INTEGER = 1 << 62

_Name = Annotated[str, Field(min_length=1, max_length=10_000)]
_Names = Annotated[Sequence[_Name], Field(min_length=1)]
# Beyond these, probabilities are 0 or 1, or no number at all.
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


class _Parameters(TypedDict, total=False):
    """What any task has among its parameters; each has some of them."""

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
    """What is wrong with a value that should be a run's record; None where nothing is."""
    return _bounds_fault(value) or _type_fault(_records(), value) or _sense_fault(value)


def report_fault(value: Any) -> str | None:
    """What is wrong with a value that should be the fields of a run's report."""
    found = _bounds_fault(value) or _type_fault(_reports(), value)
    if found is None:
        needed = {one.name for one in fields(RunReport) if _is_needed(one)}
        known = {one.name for one in fields(RunReport)}
        if not needed <= value.keys() <= known:
            return "it has not the fields of a report"
    return found


def _is_needed(one: DataclassField[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


@cache
def _records() -> TypeAdapter[Any]:
    return TypeAdapter(_Record)


@cache
def _reports() -> TypeAdapter[Any]:
    types = get_type_hints(RunReport) | {"model": _Model}
    return TypeAdapter(TypedDict("_Report", types, total=False))  # type: ignore[operator]


def _bounds_fault(value: Any) -> str | None:
    """Whether it is larger or deeper than any record, or holds what JSON has no name for."""
    room, waiting = _MOST_CHARACTERS, [(value, 0)]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return None
        one, depth = waiting.pop()
        if isinstance(one, str):
            room -= len(one)
            if not _is_text(one):
                return "it holds half a surrogate pair"
        elif isinstance(one, int):
            if abs(one) > _LARGEST_INTEGER:
                return "it holds a number beyond all bounds"
        elif isinstance(one, (dict, list, tuple)):
            if len(one) > _MOST_VALUES or depth == _DEEPEST:
                break
            inner = [*one, *one.values()] if isinstance(one, dict) else one
            waiting += [(part, depth + 1) for part in inner]
        elif isinstance(one, float):
            if not isfinite(one):
                return "it holds a number that is none"
        elif one is not None:
            return f"it holds a value of type {type(one).__name__}"
        if room < 0:
            break
    return "it is larger than any record"


def _is_text(value: str) -> bool:
    """Whether it can be written down: neither a tokenizer nor a browser takes the other."""
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


def _sense_fault(record: Mapping[str, Any]) -> str | None:
    """Whether parts that are read together do not fit each other."""
    return next((name for name, fits in _FITS.items() if not fits(record)), None)


def _fields_fit(record: Mapping[str, Any]) -> bool:
    """Whether the template takes the texts of the columns; without one, the text is read as is."""
    parts = record["template"]
    named = dict.fromkeys(value for kind, value in parts if kind == "field")
    known = all(kind in ("markup", "text", "field") for kind, _ in parts)
    return not parts or (known and list(named) == list(record["columns"]))


def _columns_fit(record: Mapping[str, Any]) -> bool:
    columns, verb = record["columns"], record["verb"]
    if verb == "similarity":
        needed = {"text"} if record["parameters"].get("to", "") else {"text", "other"}
        return needed <= columns.keys() and "to" in record["parameters"]
    if verb in ("filter", "summarize", "embed"):
        return list(columns) == ["text"]
    return True


def _labels_fit(record: Mapping[str, Any]) -> bool:
    """Whether all that each label has one of is there as often as labels, and none comes twice."""
    asked = record["parameters"]
    kinds = ("answers", "heads", "described")
    labels = asked.get("labels")
    if labels is None:
        return not any(name in asked for name in (*kinds, "several"))
    counts = {len(asked[name]) for name in kinds if name in asked}
    counts |= {len(set(labels)), len(set(asked.get("heads", labels)))}
    return counts == {len(labels)}


def _calibration_fits(record: Mapping[str, Any]) -> bool:
    asked, offset = record["parameters"], record.get("offset")
    count = len(asked.get("labels", ()))
    if "scaling" in record and len(record["scaling"]["bias"]) != count:
        return False
    if offset is None:
        return True
    if "answers" in asked:
        return len(offset) == count
    if "several" in asked:
        return len(offset) == 2 * count
    return len(offset) == len(asked.get("statements", (None,)))


def _aspects_fit(record: Mapping[str, Any]) -> bool:
    asked = record["parameters"]
    aspects, statements = asked.get("aspects", ()), asked.get("statements", ())
    if not aspects:
        return not statements
    return len(set(aspects)) == len(aspects) and not len(statements) % len(aspects)


def _schema_fits(record: Mapping[str, Any]) -> bool:
    """Whether a schema is JSON with fields."""
    text = record["parameters"].get("schema")
    if text is None:
        return bool(record["verb"] != "extract")
    try:
        found = json.loads(text)["properties"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
    return isinstance(found, dict) and bool(found)


def _device_map_fits(record: Mapping[str, Any]) -> bool:
    """Whether it is JSON that names places."""
    try:
        places = json.loads(record["model"].get("device_map", "{}"))
    except (ValueError, RecursionError):
        return False
    return isinstance(places, dict) and all(isinstance(p, (str, int)) for p in places.values())


_FITS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "the fields of its template are not those of its columns": _fields_fit,
    "its columns are not those of its verb": _columns_fit,
    "its labels and what is said of each differ in number": _labels_fit,
    "its calibration is not one of its labels": _calibration_fits,
    "its aspects and the statements about them differ in number": _aspects_fit,
    "its schema has no fields": _schema_fits,
    "its device map names no places": _device_map_fits,
}

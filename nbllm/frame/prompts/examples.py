"""Few-shot examples, in any form that distinguishes the text from the answer.

All verbs use `examples_of`. Tuples and lists are matched by position. Dicts, frames and named
tuples are matched by name, since the first column of a frame may be an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw

from nbllm.checks import shown
from nbllm.errors import LabelError

__all__ = [
    "Examples",
    "Fields",
    "examples_of",
    "read_examples",
    "read_triples",
]

# Tuples, dicts, a frame, a mapping of text to answer, or a single example.
Examples = Any

Fields = tuple[str, ...]

# Accepted synonyms of a field. A predicate has none: a column of yes and no is not a predicate.
_ALIASES: Mapping[str, frozenset[str]] = {
    "message": frozenset({"text"}),
    "label": frozenset({"answer"}),
    "intent": frozenset({"label", "answer"}),
    "summary": frozenset({"answer"}),
    "translation": frozenset({"answer"}),
    "fields": frozenset({"answer"}),
}
# Fields that a column of another name never matches by elimination.
_NAMED_ONLY = frozenset({"predicate", "prompt"})

_NUMERALS = {2: "two", 3: "three"}


def read_examples(
    examples: Examples, fields: Fields, labels: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """Return examples as (text, answer) pairs of strings.

    Args:
        examples: Examples in any form that `examples_of` accepts.
        fields: The names of the fields, the answer's last.
        labels: The valid answers, or None for any.

    Raises:
        LabelError: The form is not clear, a value is not a string, or an answer is not a label.
    """
    pairs = [(text, answer) for text, answer in _strings(examples, fields)]
    if labels is None:
        return pairs
    for text, answer in pairs:
        if answer.strip() not in labels:
            raise LabelError(
                f"the example {text[:40]!r} is labelled {answer!r}, which is none of "
                f"{', '.join(labels)}. Correct it, or add the label."
            )
    return [(text, answer.strip()) for text, answer in pairs]


def read_triples(examples: Examples, fields: Fields) -> list[tuple[str, str, str]]:
    """Return examples as (text, question, answer) triples of strings.

    Args:
        examples: Examples in any form that `examples_of` accepts.
        fields: The names of the fields, the answer's last.

    Raises:
        LabelError: The form is not clear, or a value is not a string.
    """
    return [(text, question, answer) for text, question, answer in _strings(examples, fields)]


def examples_of(
    examples: Examples, fields: Fields, *, columns: Sequence[str] = (), verb: str = ""
) -> list[tuple[Any, ...]]:
    """Return examples as tuples, with one value for each field.

    Args:
        examples: Tuples; dicts or a frame with the names of the fields; a mapping of text to
            answer, for two fields; or a single tuple or dict. A frame with default column names
            is read by position.
        fields: The names of the fields, the answer's last.
        columns: The columns of the user's frame that the fields before the answer come from.
        verb: The verb whose answer columns, such as `review_sentiment`, match the answer.

    Raises:
        LabelError: It is not clear which part is which field.
    """
    names = _FieldNames(fields, columns, verb)
    if nw.dependencies.is_into_dataframe(examples):
        data = nw.from_native(examples, eager_only=True)
        indices = names.indices(list(data.columns))
        return [tuple(row[index] for index in indices) for row in data.rows()]
    if isinstance(examples, Mapping):
        if names.are_complete(examples):
            return [names.pick(examples)]
        if len(fields) == 2:
            return [(text, answer) for text, answer in examples.items()]
    elif isinstance(examples, tuple) and examples and isinstance(examples[0], str):
        return [names.example(examples)]
    elif isinstance(examples, Iterable) and not _is_unordered(examples):
        values: Any = getattr(examples, "tolist", lambda: examples)()
        return [names.example(example) for example in values]
    raise LabelError(
        f"examples={shown(examples)} does not say what is the text and what the answer. "
        f"{_advice(fields)}"
    )


def _strings(examples: Examples, fields: Fields) -> list[tuple[str, ...]]:
    found = examples_of(examples, fields)
    for example in found:
        if not all(isinstance(value, str) for value in example):
            raise _malformed(example, fields)
    return [tuple(map(str, example)) for example in found]  # converts numpy's strings


def _malformed(example: Any, fields: Fields) -> LabelError:
    return LabelError(
        f"the example {example!r:.200} is not a ({', '.join(fields)}) tuple of "
        f"{_NUMERALS[len(fields)]} strings. {_advice(fields)}"
    )


class _FieldNames:
    """Matches the keys of an example to fields, with the arguments of `examples_of`."""

    def __init__(self, fields: Fields, columns: Sequence[str], verb: str) -> None:
        self._fields = fields
        self._columns = dict(zip(fields[:-1], columns, strict=False))
        # An answer column of `filter` holds no predicate, and "prompt" names another field.
        self._verb = "" if _NAMED_ONLY.intersection(fields) else verb

    def example(self, example: Any) -> tuple[Any, ...]:
        """Return one example of a list as a tuple."""
        if hasattr(example, "_asdict"):  # a named tuple, such as a row of itertuples()
            example = example._asdict()
        elif nw.dependencies.is_pandas_series(example):  # a row of a frame
            example = example.to_dict()
        if isinstance(example, Mapping):
            return self.pick(example)
        values = example.tolist() if hasattr(example, "tolist") else example
        if not isinstance(values, tuple | list) or len(values) != len(self._fields):
            raise _malformed(example, self._fields)
        return tuple(values)

    def pick(self, example: Mapping[Any, Any]) -> tuple[Any, ...]:
        """Return the values of the fields of a dict."""
        keys = list(example)
        return tuple(example[keys[index]] for index in self.indices(keys))

    def are_complete(self, keys: Iterable[Any]) -> bool:
        """Return whether the keys of a mapping are the fields and nothing else."""
        found = self._candidates(list(keys))
        return sorted(n for indices in found for n in indices) == list(range(len(self._fields)))

    def indices(self, keys: list[Any]) -> list[int]:
        """Return the index of each field among keys.

        Raises:
            LabelError: No key, or more than one, matches a field.
        """
        count = len(self._fields)
        if keys in (list(range(count)), [f"column_{n}" for n in range(count)]):
            return list(range(count))  # the default column names of pandas and polars
        found = self._candidates(keys)
        missing = [n for n, indices in enumerate(found) if not indices]
        left = [n for n in range(len(keys)) if not any(n in indices for indices in found)]
        if len(keys) == count and len(missing) == len(left) == 1:
            field = self._fields[missing[0]]
            if field not in _NAMED_ONLY and not _is_id(keys[left[0]]):
                found[missing[0]] = left
        unclear = [n for n, indices in enumerate(found) if len(indices) != 1]
        if unclear:
            raise LabelError(
                f"which of {', '.join(map(repr, keys))} is the {self._fields[unclear[0]]} of an "
                f"example is not clear. {_advice(self._fields)}"
            )
        return [index for (index,) in found]

    def _candidates(self, keys: Sequence[Any]) -> list[list[int]]:
        """Return the indices of the keys that match each field, column names before synonyms."""
        own = [
            [n for n, key in enumerate(keys) if self._is_column(field, key)]
            for field in self._fields
        ]
        taken = {n for indices in own for n in indices}
        return [
            indices or [n for n, key in enumerate(keys) if n not in taken and _is_name(field, key)]
            for field, indices in zip(self._fields, own, strict=True)
        ]

    def _is_column(self, field: str, key: Any) -> bool:
        """Return whether a key is the column of a field in the user's frame."""
        if field != self._fields[-1]:
            return bool(key == self._columns.get(field, ""))
        return bool(self._verb) and f"_{key}".endswith(f"_{self._verb}")


def _is_name(field: str, key: Any) -> bool:
    return key == field or key in _ALIASES.get(field, ())


def _is_id(key: Any) -> bool:
    name = str(key).lower()
    return name in ("index", "row", "key", "unnamed: 0") or name.split("_")[-1] == "id"


def _is_unordered(examples: Any) -> bool:
    """Return whether examples have no order, or no element that could be an example."""
    return isinstance(examples, str | bytes | set | frozenset) or nw.dependencies.is_into_series(
        examples
    )


def _advice(fields: Fields) -> str:
    return (
        f"Pass a list of ({', '.join(fields)}) tuples, or dicts or a frame that call these "
        f"{', '.join(map(repr, fields))}."
    )

"""Solved examples, from any form that says which part is the text and which the answer.

`examples_of` is the one reader for all verbs. What goes by position is a tuple or list; whatever
has names (a dict, a frame, a named tuple) goes by these, since the first column of a frame may as
well be an id.
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

# Tuples, dicts or a frame of them, a mapping of text to answer, or one example alone.
Examples = Any

Fields = tuple[str, ...]

# By what other names a field may go. A predicate has none: a column of yes and no is none.
_ALIASES: Mapping[str, frozenset[str]] = {
    "message": frozenset({"text"}),
    "label": frozenset({"answer"}),
    "intent": frozenset({"label", "answer"}),
    "summary": frozenset({"answer"}),
    "translation": frozenset({"answer"}),
    "fields": frozenset({"answer"}),
}
# Fields that no column of another name is taken for, only because it is left.
_EXPLICIT = frozenset({"predicate", "prompt"})

_COUNTS = {2: "two", 3: "three"}


def read_examples(
    examples: Examples, fields: Fields, labels: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """Return examples as (text, answer) pairs of strings.

    Args:
        examples: as `examples_of` takes them.
        fields: their names, the answer's last.
        labels: what the answer may be.

    Raises:
        LabelError: examples that cannot be read, a value that is no string, or an answer that is
            no label.
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
    """Return examples as (text, question, answer), three strings.

    Raises:
        LabelError: examples that cannot be read, or a value that is no string.
    """
    return [(text, asks, answer) for text, asks, answer in _strings(examples, fields)]


def examples_of(
    examples: Examples, fields: Fields, *, columns: Sequence[str] = (), verb: str = ""
) -> list[tuple[Any, ...]]:
    """Return examples as tuples, one value a field.

    Args:
        examples: tuples; dicts or a frame, by the names of the fields; a mapping of text to
            answer, where an example is these two; or one tuple or dict alone. A frame whose
            columns nobody named is read in their order.
        fields: their names, the answer's last.
        columns: of the user's frame that the fields before the answer are read from, in order.
        verb: whose answers, in columns such as `review_sentiment`, may be the answer.

    Raises:
        LabelError: the form does not say which part is which.
    """
    names = _Names(fields, columns, verb)
    if nw.dependencies.is_into_dataframe(examples):
        data = nw.from_native(examples, eager_only=True)
        places = names.places(list(data.columns))
        return [tuple(row[place] for place in places) for row in data.rows()]
    if isinstance(examples, Mapping):
        if names.are_all(examples):
            return [names.pick(examples)]
        if len(fields) == 2:
            return [(text, answer) for text, answer in examples.items()]
    elif isinstance(examples, tuple) and examples and isinstance(examples[0], str):
        return [names.example(examples)]
    elif isinstance(examples, Iterable) and not _is_unordered(examples):
        listed: Any = getattr(examples, "tolist", lambda: examples)()
        return [names.example(example) for example in listed]
    raise LabelError(
        f"examples={shown(examples)} does not say what is the text and what the answer. "
        f"{_advice(fields)}"
    )


def _strings(examples: Examples, fields: Fields) -> list[tuple[str, ...]]:
    found = examples_of(examples, fields)
    for example in found:
        if not all(isinstance(value, str) for value in example):
            raise _malformed(example, fields)
    return [tuple(map(str, example)) for example in found]  # numpy's strings are Python's, then


def _malformed(example: Any, fields: Fields) -> LabelError:
    return LabelError(
        f"the example {example!r:.200} is not a ({', '.join(fields)}) tuple of "
        f"{_COUNTS[len(fields)]} strings. {_advice(fields)}"
    )


class _Names:
    """By which names the fields of an example may go."""

    def __init__(self, fields: Fields, columns: Sequence[str], verb: str) -> None:
        self._fields = fields
        self._columns = dict(zip(fields[:-1], columns, strict=False))
        # The answers of a filter are no predicates, and "prompt" is what another field is called.
        self._verb = "" if _EXPLICIT.intersection(fields) else verb

    def example(self, example: Any) -> tuple[Any, ...]:
        """One example of a list as a tuple."""
        if hasattr(example, "_asdict"):  # a named tuple, such as a row of itertuples()
            example = example._asdict()
        elif nw.dependencies.is_pandas_series(example):  # a row of a frame
            example = example.to_dict()
        if isinstance(example, Mapping):
            return self.pick(example)
        found = example.tolist() if hasattr(example, "tolist") else example
        if not isinstance(found, tuple | list) or len(found) != len(self._fields):
            raise _malformed(example, self._fields)
        return tuple(found)

    def pick(self, example: Mapping[Any, Any]) -> tuple[Any, ...]:
        """The fields of a dict."""
        keys = list(example)
        return tuple(example[keys[place]] for place in self.places(keys))

    def are_all(self, keys: Iterable[Any]) -> bool:
        """Whether a mapping names the fields and nothing else, so that it is one example."""
        found = self._found(list(keys))
        return sorted(n for places in found for n in places) == list(range(len(self._fields)))

    def places(self, keys: list[Any]) -> list[int]:
        """The place of each field among names.

        Raises:
            LabelError: a field has no name there, or several.
        """
        count = len(self._fields)
        if keys in (list(range(count)), [f"column_{n}" for n in range(count)]):
            return list(range(count))  # as pandas and polars number what has no names
        found = self._found(keys)
        missing = [n for n, places in enumerate(found) if not places]
        left = [n for n in range(len(keys)) if not any(n in places for places in found)]
        if len(keys) == count and len(missing) == len(left) == 1:
            field = self._fields[missing[0]]
            if field not in _EXPLICIT and not _is_id(keys[left[0]]):
                found[missing[0]] = left
        unclear = [n for n, places in enumerate(found) if len(places) != 1]
        if unclear:
            raise LabelError(
                f"which of {', '.join(map(repr, keys))} is the {self._fields[unclear[0]]} of an "
                f"example is not clear. {_advice(self._fields)}"
            )
        return [place for (place,) in found]

    def _found(self, keys: Sequence[Any]) -> list[list[int]]:
        """For each field, the places of names that it may go by: the surest that there are."""
        own = [
            [n for n, key in enumerate(keys) if self._is_own(field, key)] for field in self._fields
        ]
        taken = {n for places in own for n in places}
        return [
            places or [n for n, key in enumerate(keys) if n not in taken and _is_called(field, key)]
            for field, places in zip(self._fields, own, strict=True)
        ]

    def _is_own(self, field: str, key: Any) -> bool:
        """Whether the user's frame calls the field so."""
        if field != self._fields[-1]:
            return bool(key == self._columns.get(field, ""))
        return bool(self._verb) and f"_{key}".endswith(f"_{self._verb}")


def _is_called(field: str, key: Any) -> bool:
    return key == field or key in _ALIASES.get(field, ())


def _is_id(key: Any) -> bool:
    name = str(key).lower()
    return name in ("index", "row", "key", "unnamed: 0") or name.split("_")[-1] == "id"


def _is_unordered(examples: Any) -> bool:
    """Whether what it holds has no order, or no part that could be an example."""
    return isinstance(examples, str | bytes | set | frozenset) or nw.dependencies.is_into_series(
        examples
    )


def _advice(fields: Fields) -> str:
    return (
        f"Pass a list of ({', '.join(fields)}) tuples, or dicts or a frame that call these "
        f"{', '.join(map(repr, fields))}."
    )

"""Validates and normalizes the arguments of verbs, by their names.

A reader takes a value as the user passed it and returns it as the verb requires it, such as a
tuple for one string. For an invalid value it raises a FrameError that names the argument, the
value and what to pass instead. Arguments that are not listed here are validated where they are
used: labels, examples and schemas by their tasks, models by the loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from nbllm.blank import is_blank
from nbllm.checks import (
    Reader,
    check_choice,
    check_flag,
    check_text,
    check_whole,
    near,
    reads,
    shown,
)
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.prompts.arguments import as_list

__all__ = [
    "check_names",
    "read_argument",
    "reads_arguments",
]


def read_argument(
    name: str, value: Any, *, optional: bool = False, shown_as: str | None = None
) -> Any:
    """Return the value of an argument as the verb requires it.

    Args:
        name: The name of the argument.
        value: The value as the user passed it.
        optional: Whether None stands for "not given", and is returned as it is.
        shown_as: The name in error messages, if it is another.

    Raises:
        FrameError: The value is invalid for this argument.
    """
    if name not in _READERS or (optional and value is None):
        return value
    return _READERS[name](shown_as or name, value)


def check_names(name: str, value: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return one string or several as a tuple, each of them a known name.

    Args:
        name: The name of the argument.
        value: The value as the user passed it.
        known: The valid strings.

    Raises:
        FrameError: The value holds something that is not a string, or is not known.
    """
    found, known = _names(name, value), tuple(known)
    unknown = [item for item in found if item not in known]
    if unknown:
        raise FrameError(
            f"{name}={unknown[0]!r} is none of {', '.join(known)}. "
            f"{near(unknown[0], known)}Choose among those."
        )
    return found


# -- readers, of type `nbllm.checks.Reader` ------------------------------------------------------


def _column(name: str, value: Any) -> Any:
    # A tuple is the name of a multi-level column; `to_narwhals` has the better error for it.
    if isinstance(value, (str, tuple)):
        return value
    raise FrameError(
        f"{name} is {shown(value)}, and {name}= takes {_A_COLUMN}.{_column_hint(value)}"
    )


_A_COLUMN = "the name of one column of the frame, as a string"


def _column_hint(value: Any) -> str:
    """Return what to pass instead of a series, a list of names or a name that is no string."""
    if isinstance(value, Integral):
        return (
            " Name columns by strings, for instance with frame.columns = frame.columns.map(str) in "
            "pandas."
        )
    series_name = getattr(value, "name", None)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        if len(value) > 1:
            fields = " ".join(f"{{{item}}}" for item in value)
            return (
                f" Pass one of them, or ask of several by df.llm.prompt({shown(fields)}, into=…)."
            )
        series_name = value[0]
    return (
        f" Pass {series_name!r}."
        if isinstance(series_name, str)
        else " Pass that, such as 'review'."
    )


def _texts(name: str, value: Any) -> str | list[str]:
    if isinstance(value, str):
        return check_text(name, value, error=FrameError)
    found = as_list(value, name)
    odd = [text for text in found if not isinstance(text, str) or is_blank(text)]
    if odd or not found:
        what = f"holds {shown(odd[0])}, which has no text" if odd else "is empty"
        raise FrameError(f"{name}= {what}. Pass a string with words, or a list of such.")
    return found


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    found = as_list(value, name)
    if not all(isinstance(item, str) for item in found):
        raise FrameError(f"{name}={shown(value)} holds no names. Pass a string, or several.")
    return tuple(found)


def _columns(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, str) and not _is_listed(value):
        return (_column(name, value),)
    found = (value,) if isinstance(value, str) else tuple(value)
    for column in found:
        _column(name, column)
    if not found:
        raise FrameError(f"{name}= names no column. Pass one, or leave it out.")
    twice = sorted({column for column in found if found.count(column) > 1})
    if twice:
        raise FrameError(f"{name}= names {twice[0]!r} twice. Name each column once.")
    return found


def _is_listed(value: Any) -> bool:
    """Return whether a value is an ordered collection: no text, mapping, set or matrix."""
    if isinstance(value, (str, bytes, Mapping, set, frozenset)) or getattr(value, "ndim", 1) != 1:
        return False
    return isinstance(value, Iterable)


def _probability(name: str, value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1:
        return float(value)
    raise FrameError(f"{name}={shown(value)} is no probability. Pass a number from 0 to 1.")


def _confidence(name: str, value: Any) -> float:
    level = _probability(name, value)
    if level in (0, 1):
        raise FrameError(f"{name}={level:g} is no level of confidence. Pass one such as 0.95.")
    return level


def _row(name: str, value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise FrameError(
            f"{name}={shown(value)} is no label of a row. Pass one of the frame's index, or a "
            "position in polars."
        ) from None
    return value


def _model(name: str, value: Any) -> Any:
    from nbllm.models.loader import check_named

    check_named(name, value)
    return value


_READERS: Mapping[str, Reader] = {
    **dict.fromkeys(
        ("column", "other", "against", "context_column", "source_column", "key"), _column
    ),
    "by": _columns,
    **dict.fromkeys(
        (
            "into", "instruction", "predicate", "question", "style", "to", "source", "template",
            "language", "output",
        ),
        partial(check_text, error=FrameError),
    ),
    "query": _texts,
    **dict.fromkeys(("entities", "metrics"), _names),
    "keep": partial(check_names, known=KEEP),
    **dict.fromkeys(
        (
            "neutral", "multi", "perplexity", "probabilities", "ledger", "truncate", "background",
            "trust_record", "grounded", "scores", "evidence",
        ),
        partial(check_flag, error=FrameError),
    ),
    **dict.fromkeys(
        ("k", "max_words", "max_new_tokens", "workers"), partial(check_whole, error=FrameError)
    ),
    "threshold": _probability,
    "confidence": _confidence,
    "seed": partial(check_whole, least=0, error=FrameError),
    "engine": partial(check_choice, known=("local", "ray"), error=FrameError),
    "how": partial(check_choice, known=("fused", "dense", "bm25"), error=FrameError),
    "row": _row,
    **dict.fromkeys(("model", "encoder"), _model),
}  # fmt: skip

_read = reads(**_READERS)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def reads_arguments(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return the function wrapped so that its arguments are validated before it is called."""
    return _read(function)

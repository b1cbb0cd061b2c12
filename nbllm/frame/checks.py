"""What each argument of a verb may be, by its name: read once, before anything else is done.

A reader takes a value as the user wrote it and returns it as the verb wants it, such as a tuple
for one string. What it cannot read raises a FrameError that names the argument, says what it was,
and what to pass. Arguments that are not here are read where they are used: labels, examples and
schemas by their tasks, models by the loader.
"""

from __future__ import annotations

import inspect
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
    kept,
    near,
    reads,
    shown,
)
from nbllm.errors import FrameError
from nbllm.frame import KEEP
from nbllm.frame.prompts.arguments import listed

__all__ = [
    "check_names",
    "read_argument",
    "read_options",
    "reads_arguments",
    "shaping",
]


def read_options(
    verb: str, options: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """Arguments of a verb that came by name beside the verb's, such as those of `preview`.

    Args:
        parameters: those that say what the verb asks.

    Raises:
        FrameError: there is no such argument, it cannot take its value, or one is missing.
    """
    for name in options:
        if name not in parameters:
            raise FrameError(
                f"{verb} takes no {name}= here. {near(name, parameters)}"
                f"It takes: {', '.join(parameters) or 'none'}."
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise FrameError(f"{verb} needs {name}=. Pass it as the verb itself takes it.")
    return {
        name: read_argument(name, kept(value), optional=parameters[name].default is None)
        for name, value in options.items()
    }


def shaping(method: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments of a verb that say what is asked: not those of the run, and not the first."""
    _, _, *others = inspect.signature(method).parameters.values()
    return {other.name: other for other in others if other.name not in _OF_A_RUN}


def read_argument(name: str, value: Any, *, optional: bool = False) -> Any:
    """An argument as the verb wants it.

    Args:
        optional: whether None stands for "not given".

    Raises:
        FrameError: the argument cannot take the value.
    """
    if name not in _READERS or (optional and value is None):
        return value
    return _READERS[name](name, value)


def check_names(name: str, value: Any, known: Iterable[str]) -> tuple[str, ...]:
    """One string or several, each of those that are known, as a tuple.

    Raises:
        FrameError: another value, or one that is not known.
    """
    found, known = _names(name, value), tuple(known)
    unknown = [item for item in found if item not in known]
    if unknown:
        raise FrameError(
            f"{name}={unknown[0]!r} is none of {', '.join(known)}. "
            f"{near(unknown[0], known)}Choose among those."
        )
    return found


# -- readers: an argument's name and its value, to the value as it is used -----------------------


def _column(name: str, value: Any) -> Any:
    # A tuple names a column of several levels, which the frame itself is refused for.
    if isinstance(value, (str, tuple)):
        return value
    raise FrameError(f"{name} is {shown(value)}, and {name}= takes {_A_COLUMN}.{_own_name(value)}")


_A_COLUMN = "the name of one column of the frame, as a string"


def _own_name(value: Any) -> str:
    """What to pass instead of a column's values, a list of names or a name that is no string."""
    if isinstance(value, Integral):
        return (
            " Name columns by strings, for instance with frame.columns = frame.columns.map(str) in "
            "pandas."
        )
    inside = getattr(value, "name", None)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        if len(value) > 1:
            fields = " ".join(f"{{{item}}}" for item in value)
            return (
                f" Pass one of them, or ask of several by df.llm.prompt({shown(fields)}, into=…)."
            )
        inside = value[0]
    return f" Pass {inside!r}." if isinstance(inside, str) else " Pass that, such as 'review'."


def _texts(name: str, value: Any) -> str | list[str]:
    """One text, or several."""
    if isinstance(value, str):
        return check_text(name, value, error=FrameError)
    found = listed(value, name)
    odd = [text for text in found if not isinstance(text, str) or is_blank(text)]
    if odd or not found:
        what = f"holds {shown(odd[0])}, which has no text" if odd else "is empty"
        raise FrameError(f"{name}= {what}. Pass a string with words, or a list of such.")
    return found


def _names(name: str, value: Any) -> tuple[str, ...]:
    """One string or several, which are read as a tuple."""
    if isinstance(value, str):
        return (value,)
    found = listed(value, name)
    if not all(isinstance(item, str) for item in found):
        raise FrameError(f"{name}={shown(value)} holds no names. Pass a string, or several.")
    return tuple(found)


def _columns(name: str, value: Any) -> tuple[str, ...]:
    """One column or several, each once."""
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
    """Whether a value is several, in an order of its own: no mapping, no set and no text."""
    if isinstance(value, (str, bytes, Mapping, set, frozenset)) or getattr(value, "ndim", 1) != 1:
        return False
    return isinstance(value, Iterable)


def _share(name: str, value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1:
        return float(value)
    raise FrameError(f"{name}={shown(value)} is no probability. Pass a number from 0 to 1.")


def _level(name: str, value: Any) -> float:
    level = _share(name, value)
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
    """A model or its name; the verb loads it, once the rest is read."""
    from nbllm.models.loader import check_named

    check_named(name, value)
    return value


_READERS: Mapping[str, Reader] = {
    **dict.fromkeys(("column", "other", "context_column", "source_column", "key"), _column),
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
            "trust_record",
        ),
        partial(check_flag, error=FrameError),
    ),
    **dict.fromkeys(
        ("k", "max_words", "max_new_tokens", "workers"), partial(check_whole, error=FrameError)
    ),
    "threshold": _share,
    "confidence": _level,
    "seed": partial(check_whole, least=0, error=FrameError),
    "engine": partial(check_choice, known=("local", "ray"), error=FrameError),
    "how": partial(check_choice, known=("fused", "dense", "bm25"), error=FrameError),
    "row": _row,
    **dict.fromkeys(("model", "encoder"), _model),
}  # fmt: skip

# What says how a verb is run, and not what it asks.
_OF_A_RUN = frozenset(
    {"background", "by", "engine", "into", "keep", "ledger", "model", "probabilities", "truncate",
     "workers"}
)  # fmt: skip

_read = reads(**_READERS)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def reads_arguments(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return the function, with its arguments read before anything else is done."""
    return _read(function)

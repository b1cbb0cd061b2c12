"""What an argument may be, and how a message speaks of what it was."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from nbllm.blank import is_blank
from nbllm.errors import ArgumentError
from nbllm.wording import with_article

__all__ = [
    "Reader", "check_choice", "check_flag", "check_integer", "check_integers", "check_listed",
    "check_number", "check_place", "check_span", "check_text", "check_token", "check_whole", "kept",
    "near", "reads", "shown",
]  # fmt: skip

# An argument's name and its value as the user wrote it, to the value as it is used.
Reader = Callable[[str, Any], Any]
_P = ParamSpec("_P")
_T = TypeVar("_T")


def reads(**readers: Reader) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Read the arguments of a function, or of a method, before it is called with what was read.

    None is read only where the argument has another default: else it stands for "not given".

    Args:
        readers: by the name of the argument.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        declared = signature(function)

        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                bound = declared.bind(*args, **kwargs)
            except TypeError:
                odd = next((name for name in kwargs if name not in declared.parameters), None)
                if odd is None:
                    # Python says which argument is missing, and of which function.
                    return function(*args, **kwargs)
                known = [name for name in declared.parameters if name != "self"]
                raise ArgumentError(
                    f"{function.__name__} takes no {odd}=. {near(odd, known)}"
                    f"It takes: {', '.join(known)}."
                ) from None
            for name, value in bound.arguments.items():
                # What is checked first is read again, and an iterator has an end.
                value = bound.arguments[name] = kept(value)
                optional = declared.parameters[name].default is None
                if name in readers and not (optional and value is None):
                    bound.arguments[name] = readers[name](name, value)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def kept(value: Any) -> Any:
    """The value, with what can be read but once as a list."""
    if isinstance(value, Iterator):
        return list(value)
    # Such as the options of a verb, which come as one argument.
    return {key: kept(one) for key, one in value.items()} if type(value) is dict else value


def check_flag(name: str, value: Any, *, error: type[ArgumentError] = ArgumentError) -> bool:
    """Return the value as a bool, where it is True or False; numpy's count too.

    Args:
        name: of the argument.
        value: as the user passed it.
        error: the exception to raise where it is neither.
    """
    # numpy's truth values are no bool, and say so by their type's name alone.
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise error(f"{name}={shown(value)} is neither True nor False. Pass one of them.")


def check_integer(name: str, value: Any) -> int:
    """A whole number, also one of numpy's; whether it is in range, who asked for it says."""
    if isinstance(value, bool):
        raise ArgumentError(f"{name}={value} is no whole number. Pass one.")
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name}={shown(value)} is no whole number. Pass one.") from None


def check_integers(name: str, value: Any) -> list[int]:
    """Several whole numbers."""
    return [check_integer(f"one of {name}", item) for item in check_listed(name, value)]


def check_span(name: str, value: Any) -> tuple[int, int]:
    """A start and an end."""
    found = check_integers(name, value)
    if len(found) != 2:
        raise ArgumentError(f"{name}={shown(value)} is no span. Pass (start, end).")
    return found[0], found[1]


def check_token(name: str, value: Any) -> int | str:
    """A token by its id or by its text."""
    return value if isinstance(value, str) else check_integer(name, value)


def check_listed(name: str, value: Any) -> list[Any]:
    """Several values, in an order of their own."""
    unordered = isinstance(value, (str, bytes, Mapping, set, frozenset))
    if unordered or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise ArgumentError(f"{name}={shown(value)} is not a list. Pass one.")
    return list(value)


def check_text(name: str, value: Any, *, error: type[ArgumentError] = ArgumentError) -> str:
    """Return the value, where it is a string that is not blank.

    Args:
        name: of the argument.
        value: as the user passed it.
        error: the exception to raise where it is not.
    """
    if isinstance(value, str) and not is_blank(value):
        return value
    odd = "says nothing" if isinstance(value, str) else "is no text"
    raise error(f"{name}={shown(value)} {odd}. Pass a string with words.")


def check_place(name: str, value: Any) -> bool | str | Path:
    """True, False, or a place on disk."""
    if isinstance(value, (bool, Path)) or (isinstance(value, str) and value.strip()):
        return value
    raise ArgumentError(f"{name}={shown(value)} is no place. Pass True, False or a folder.")


def check_whole(
    name: str, value: Any, *, least: int = 1, error: type[ArgumentError] = ArgumentError
) -> int:
    """Return the value as an int, where it is a whole number that is not too small.

    Args:
        name: of the argument.
        value: as the user passed it; numpy's integers count too.
        least: the smallest value allowed.
        error: the exception to raise where it is not.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise error(f"{name}={shown(value)} is no whole number of {least} or more. Pass one.")


def check_number(name: str, value: Any) -> float:
    """Return the value as a float, where it is finite and above 0.

    Args:
        name: of the argument.
        value: as the user passed it; numpy's numbers count too.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf:
        return float(value)
    raise ArgumentError(f"{name}={shown(value)} is no number above 0. Pass one.")


def check_choice(
    name: str, value: Any, known: Iterable[str], *, error: type[ArgumentError] = ArgumentError
) -> str:
    """Return the value, where it is one of the words that an argument takes.

    Args:
        name: of the argument.
        value: as the user passed it.
        known: the words that it takes.
        error: the exception to raise where it is none of them.
    """
    words = tuple(known)
    if isinstance(value, str) and value in words:
        return value
    raise error(
        f"{name}={shown(value)} is none of {', '.join(words)}. {near(value, words)}"
        "Choose among those."
    )


def shown(value: Any) -> str:
    """A value as a message quotes it: on one line, and a frame or array by its type alone.

    Example:
        >>> shown("a"), shown([1, 2])
        ("'a'", '[1, 2]')
    """
    if hasattr(value, "shape") and getattr(value, "ndim", None) != 0:
        return with_article(type(value).__name__)
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def near(name: Any, known: Iterable[str]) -> str:
    """Which of the known names may be meant, as a sentence of its own; nothing where none is.

    Example:
        >>> near("sentimant", ["sentiment", "search"])
        "Did you mean 'sentiment'? "
    """
    found = get_close_matches(str(name), list(known), n=1)
    return f"Did you mean {found[0]!r}? " if found else ""

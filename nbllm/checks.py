"""What an argument may be, and how a message speaks of what it was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

from nbllm.errors import ArgumentError
from nbllm.wording import with_article

__all__ = ["check_choice", "check_number", "check_whole", "near", "shown"]


def check_whole(
    name: str, value: Any, *, least: int = 1, error: type[ArgumentError] = ArgumentError
) -> int:
    """A whole number of at least so many, also one of numpy's.

    Args:
        name: of the argument.
        error: what is raised where it is none.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise error(f"{name}={shown(value)} is no whole number of {least} or more. Pass one.")


def check_number(name: str, value: Any, *, error: type[ArgumentError] = ArgumentError) -> float:
    """A finite number above 0, also one of numpy's.

    Args:
        name: of the argument.
        error: what is raised where it is none.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf:
        return float(value)
    raise error(f"{name}={shown(value)} is no number above 0. Pass one.")


def check_choice(
    name: str, value: Any, known: Iterable[str], *, error: type[ArgumentError] = ArgumentError
) -> str:
    """One of some words.

    Args:
        name: of the argument.
        error: what is raised where it is none.
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

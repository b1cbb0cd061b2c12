"""Old names of public arguments and attributes, which keep working for one release.

@deprecated_argument("among", "corpus")
def evaluate(..., corpus=None): ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from nbllm._warnings import warn_user
from nbllm.errors import ArgumentError

__all__ = ["deprecated_argument", "warn_renamed"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def warn_renamed(old: str, new: str) -> None:
    """Warn the user that a name has changed.

    Args:
        old: The name that was used, as the user wrote it: "among=", "nbllm.data.fetch".
        new: The name to use instead.
    """
    warn_user(
        f"{old} is now {new}; the old name will be removed in the next release.", DeprecationWarning
    )


def deprecated_argument(old: str, new: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Return a decorator that accepts the keyword `old` as the argument `new`.

    The signature that is shown has only the new name. Stack decorators for several arguments.

    Args:
        old: The former name of the argument.
        new: Its present name, which the decorated function takes as a keyword.

    Returns:
        A decorator of a function or method. What it returns raises ArgumentError for a call that
        gives both names.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            if old in kwargs:
                if new in kwargs:
                    raise ArgumentError(f"{old}= and {new}= are one argument. Give {new}= alone.")
                warn_renamed(f"{old}=", f"{new}=")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate

"""Which verbs there are: a module each in `nbllm.frame.verbs`, and those that a user registers."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbllm.checks import check_choice
from nbllm.errors import FrameError

if TYPE_CHECKING:
    from nbllm.frame.calls.verb import Verb

__all__ = [
    "RESERVED",
    "built_in",
    "find_row_verb",
    "find_verb",
    "is_registered",
    "is_verb",
    "register_verb",
    "verb_names",
]

_ROOM = "nbllm.frame.verbs"

# What df.llm has beside verbs.
RESERVED = frozenset(
    {"calibrate", "corrected", "estimate", "evaluate", "explain", "explore", "preview", "report"}
)

_registered: dict[str, Verb[Any]] = {}


@cache
def built_in() -> tuple[str, ...]:
    """Return the names of nbllm's own verbs, in alphabetical order."""
    room = import_module(_ROOM)
    return tuple(sorted(module.name for module in pkgutil.iter_modules(room.__path__)))


def verb_names() -> tuple[str, ...]:
    """Return the names of all verbs, in alphabetical order."""
    return tuple(sorted({*built_in(), *_registered}))


def is_verb(name: str) -> bool:
    """Return whether there is a verb of this name."""
    return name in _registered or name in built_in()


def is_registered(name: str) -> bool:
    """Return whether a user registered a verb of this name."""
    return name in _registered


def find_verb(name: Any) -> Verb[Any]:
    """Return a verb by its name.

    Raises:
        FrameError: there is none.
    """
    check_choice("verb", name, verb_names(), error=FrameError)
    if name in _registered:
        return _registered[name]
    verb: Verb[Any] = import_module(f"{_ROOM}.{name}").VERB
    return verb


def find_row_verb(name: Any) -> Verb[Any]:
    """Return a verb that asks one question of each row, by its name.

    Raises:
        FrameError: there is none.
    """
    known = [each for each in verb_names() if find_verb(each).one_question_per_row]
    check_choice("verb", name, known, error=FrameError)
    return find_verb(name)


def register_verb(verb: Verb[Any]) -> None:
    """Add a verb of your own to `df.llm`, with everything that nbllm's verbs have.

    Registered again under the same name, it takes the place of the one before.

    Args:
        verb: an instance of a subclass of `nbllm.verbs.Verb`.

    Raises:
        FrameError: its name is no word of lower-case letters, or that of one of nbllm's verbs.
    """
    from nbllm.frame.calls.verb import Verb

    if not isinstance(verb, Verb):
        raise FrameError(
            f"register_verb takes an instance of a subclass of nbllm.verbs.Verb, and {verb!r} is "
            "none. If it is the class itself, call it."
        )
    name = verb.name
    # It begins the id of a run, and is an attribute of df.llm.
    if not (name.isascii() and name.isalpha() and name.islower() and len(name) <= 20):
        raise FrameError(f"the name {name!r} is not one of 1 to 20 lower-case letters, a to z.")
    if name in built_in() or name in RESERVED:
        raise FrameError(f"df.llm has {name!r} already. Give your verb another name.")
    _registered[name] = verb

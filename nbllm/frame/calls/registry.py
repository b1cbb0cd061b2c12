"""The registry of verbs: the modules of `nbllm.frame.verbs`, and verbs that a user registers."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbllm.checks import check_choice, shown
from nbllm.errors import FrameError, ProvenanceError
from nbllm.frame.calls.options import arguments_of

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
    "verb_for_labels",
    "verb_for_prompts",
    "verb_names",
    "verb_of",
]

_PACKAGE = "nbllm.frame.verbs"

# The attributes of df.llm that are not verbs.
RESERVED = frozenset(
    {"calibrate", "corrected", "estimate", "evaluate", "explain", "explore", "preview", "report"}
)

_registered: dict[str, Verb[Any]] = {}


@cache
def built_in() -> tuple[str, ...]:
    """Return the names of nbllm's own verbs, in alphabetical order."""
    path = import_module(_PACKAGE).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))


def verb_names() -> tuple[str, ...]:
    """Return the names of all verbs, in alphabetical order."""
    return tuple(sorted({*built_in(), *_registered}))


def is_verb(name: str) -> bool:
    """Return whether a verb of this name exists."""
    return name in _registered or name in built_in()


def is_registered(name: str) -> bool:
    """Return whether a user registered a verb of this name."""
    return name in _registered


def find_verb(name: Any) -> Verb[Any]:
    """Return a verb by its name.

    Raises:
        FrameError: There is no such verb.
    """
    check_choice("verb", name, verb_names(), error=FrameError)
    if name in _registered:
        return _registered[name]
    verb: Verb[Any] = import_module(f"{_PACKAGE}.{name}").VERB
    return verb


def find_row_verb(name: Any) -> Verb[Any]:
    """Return a verb with `one_question_per_row`, by its name.

    Raises:
        FrameError: There is no such verb.
    """
    known = [each for each in verb_names() if find_verb(each).one_question_per_row]
    check_choice("verb", name, known, error=FrameError)
    return find_verb(name)


def verb_of(record: Mapping[str, Any]) -> Verb[Any] | None:
    """Return the verb of a run; None for a user's verb that is not registered in this process.

    Args:
        record: The record of the run, which may have been modified.

    Raises:
        ProvenanceError: The record lacks fields that the verb requires.
    """
    if not is_verb(record["verb"]):
        return None
    verb = find_verb(record["verb"])
    if not verb.can_read(record):
        raise ProvenanceError(
            f"the record of run {shown(record['id'])} is not one of {verb.name}: it was changed. "
            "Ask the rows again, or take a frame that was not changed."
        )
    return verb


def verb_for_labels(labels: Sequence[str]) -> tuple[Verb[Any], dict[str, Any]]:
    """Return the verb that chooses among exactly these labels, and its options for them.

    Args:
        labels: The labels; empty for a classifier's own.
    """
    verbs = [find_verb(name) for name in built_in()]
    for verb in verbs:
        if (fixed := verb.fixed_labels.get(frozenset(labels))) is not None:
            return verb, dict(fixed)
    [verb] = [verb for verb in verbs if "labels" in arguments_of(verb.options)]
    return verb, {"labels": list(labels)} if labels else {}


def verb_for_prompts() -> Verb[Any]:
    """Return the verb whose first argument is the user's own prompt."""
    [verb] = [verb for name in built_in() if (verb := find_verb(name)).subject == "template"]
    return verb


def register_verb(verb: Verb[Any]) -> None:
    """Add a verb of your own to `df.llm`, with everything that nbllm's verbs have.

    A verb that you registered before under the same name is replaced.

    Args:
        verb: An instance of a subclass of `nbllm.verbs.Verb`.

    Raises:
        FrameError: The name is not one of 1 to 20 lower-case letters, or `df.llm` has it already.
    """
    from nbllm.frame.calls.verb import Verb

    if not isinstance(verb, Verb):
        raise FrameError(
            f"register_verb takes an instance of a subclass of nbllm.verbs.Verb, and {verb!r} is "
            "none. If it is the class itself, call it."
        )
    name = verb.name
    # Run ids begin with the name, and it becomes an attribute of df.llm.
    if not (name.isascii() and name.isalpha() and name.islower() and len(name) <= 20):
        raise FrameError(f"the name {name!r} is not one of 1 to 20 lower-case letters, a to z.")
    if name in built_in() or name in RESERVED:
        raise FrameError(f"df.llm has {name!r} already. Give your verb another name.")
    _registered[name] = verb

"""Finds the modules of a network that an adapter's configuration names."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbllm.checks import shown
from nbllm.errors import UnsupportedModelError
from nbllm.wording import counted

__all__ = ["check_names", "name_modules"]

# A string in these is a regular expression, a list holds the ends of names.
_EXPRESSIONS = ("exclude_modules", "feedforward_modules", "target_modules")
_EVERY_LINEAR = "all-linear"
# Their keys are matched with the end of a name by all types of peft but these.
_RANKS = ("rank_pattern", "alpha_pattern")
_OTHER_RANKS = ("ADALORA", "OSF")
_NAME = re.compile(r"[\w.-]{1,500}")
_LONGEST = 10_000  # characters of an expression
_MOST_KEYS = 1000  # expressions in one pattern


def check_names(settings: Mapping[str, Any], folder: Path) -> None:
    """Refuse names of modules that are none, and expressions that cannot be matched quickly.

    peft puts names into expressions of its own, so a name may have no other meaning there.

    Args:
        settings: the adapter's configuration.
        folder: where it lies.

    Raises:
        UnsupportedModelError: naming the field.
    """
    for field, value in settings.items():
        if not field.endswith(("_modules", "_parameters", "_pattern", "_to_save", "_indices")):
            continue
        if field in _EXPRESSIONS and isinstance(value, str):
            _matching(value, [], field, folder)
            continue
        named = [value] if isinstance(value, str) else value
        for name in named if isinstance(named, (list, dict)) else []:
            expression = isinstance(value, dict) and field in _RANKS
            if isinstance(name, str) and not _NAME.fullmatch(name):
                if not expression or settings.get("peft_type") in _OTHER_RANKS:
                    raise UnsupportedModelError(
                        f"The adapter in {folder} names {shown(name)} in {field}, which is no name "
                        "of a module. Write names there, such as 'q_proj'."
                    )
                _matching(name, [], field, folder)


def name_modules(config: Any, modules: Sequence[str], folder: Path) -> None:
    """Replace the expressions of a configuration of peft by the names of modules.

    Args:
        config: the configuration, which is changed.
        modules: the names of all modules of the network.
        folder: where the configuration lies.

    Raises:
        UnsupportedModelError: an expression cannot be matched, or matches nothing that can be
            named.
    """
    for field in _EXPRESSIONS:
        value = getattr(config, field, None)
        if isinstance(value, str) and value.lower() != _EVERY_LINEAR:
            setattr(config, field, _named(value, modules, field, folder))
    for field in _RANKS:
        value = getattr(config, field, None)
        if isinstance(value, dict) and str(config.peft_type.value) not in _OTHER_RANKS:
            setattr(config, field, _ranks(value, modules, field, folder))


def _named(expression: str, modules: Sequence[str], field: str, folder: Path) -> set[str]:
    matching = _matching(expression, modules, field, folder)
    # peft takes a name for the end of one too.
    if {name for name in modules if not matching.isdisjoint(_ends(name))} != matching:
        raise UnsupportedModelError(
            f"The adapter in {folder} selects modules by {shown(expression)} in {field}, and the "
            "names of some are the ends of others. Write the names there as a list."
        )
    return matching


def _ends(name: str) -> list[str]:
    """A name and what follows each of its dots."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _ranks(
    stated: Mapping[str, Any], modules: Sequence[str], field: str, folder: Path
) -> dict[str, Any]:
    """The value of each module by the first key that matches it, one key for all of one value."""
    if sum(not _NAME.fullmatch(key) for key in stated) > _MOST_KEYS:
        raise UnsupportedModelError(
            f"The adapter in {folder} has more than {counted(_MOST_KEYS, 'expression')} in "
            f"{field}. Write the names of modules there."
        )
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in modules:
        for end in _ends(name):
            by_end[end].append(name)
    found: dict[str, Any] = {}
    for key, value in stated.items():
        plain = _NAME.fullmatch(key)
        names = by_end[key] if plain else _matching(rf"(?:.*\.)?(?:{key})", modules, field, folder)
        found = dict.fromkeys(names, value) | found
    of_value: dict[str, list[str]] = defaultdict(list)
    for name in modules:
        if name in found:
            of_value[json.dumps(found[name])].append(re.escape(name))
    return {f"(?:{'|'.join(names)})": json.loads(value) for value, names in of_value.items()}


def _matching(expression: str, names: Sequence[str], field: str, folder: Path) -> set[str]:
    """The names that a regular expression matches from their beginning to their end."""
    import pyarrow
    from pyarrow.compute import match_substring_regex

    if len(expression) > _LONGEST:
        raise _unmatchable(expression, field, folder, f"{len(expression):,} characters")
    column = pyarrow.array(names, pyarrow.string())
    try:
        # By itself first: a parenthesis too many must not close ours.
        match_substring_regex(column[:0], pattern=expression)
        matches = match_substring_regex(column, pattern=rf"\A(?:{expression})\z")
    except ValueError as error:
        reason = str(error).partition("\n")[0].removeprefix("Invalid regular expression: ")
        raise _unmatchable(expression, field, folder, reason[:100]) from error
    return set(column.filter(matches).to_pylist())


def _unmatchable(expression: str, field: str, folder: Path, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"The adapter in {folder} selects modules by {shown(expression)} in {field}, which cannot "
        f"be matched in bounded time ({why}). Write the names of the modules there as a list, such "
        "as ['q_proj', 'v_proj']."
    )

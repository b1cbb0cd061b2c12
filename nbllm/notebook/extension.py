"""Registers nbllm's magics in an IPython shell, and removes them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from IPython.core.interactiveshell import InteractiveShell

from nbllm.notebook.attention_magic import AttentionMagic
from nbllm.notebook.completion import complete
from nbllm.notebook.llm_magics import LlmMagics

__all__ = ["load", "unload"]

_MAGICS = (("cell", "attention"), ("line", "llm"), ("cell", "llm"))
_COMPLETED = ("%llm", "%%llm")


@dataclass
class _Before:
    """What the names stood for before; None for a name that was free."""

    magics: dict[tuple[str, str], Callable[..., Any] | None] = field(default_factory=dict)
    completers: dict[str, Any] = field(default_factory=dict)


_before: WeakKeyDictionary[InteractiveShell, _Before] = WeakKeyDictionary()


def load(shell: InteractiveShell) -> None:
    """Register the magics, once however often it is called."""
    if shell in _before:
        return
    magics, completers = shell.magics_manager.magics, _completers(shell)
    _before[shell] = _Before(
        {(kind, name): magics[kind].get(name) for kind, name in _MAGICS},
        {name: completers.get(name) for name in _COMPLETED},
    )
    shell.register_magics(AttentionMagic, LlmMagics)
    for name in _COMPLETED:
        completers.pop(name, None)
        shell.set_hook("complete_command", complete, str_key=name)  # type: ignore[no-untyped-call]


def unload(shell: InteractiveShell) -> None:
    """Restore what the magics' names stood for before they were loaded."""
    if shell not in _before:
        return
    before = _before.pop(shell)
    for (kind, name), magic in before.magics.items():
        _put_back(shell.magics_manager.magics[kind], name, magic)
    for name, completer in before.completers.items():
        _put_back(_completers(shell), name, completer)


def _put_back(there: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        there.pop(name, None)
    else:
        there[name] = value


def _completers(shell: InteractiveShell) -> dict[str, Any]:
    """Who completes a line, by what it begins with; IPython has no way to take one out."""
    found: dict[str, Any] = shell.strdispatchers["complete_command"].strs
    return found

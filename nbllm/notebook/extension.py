"""Registers and unregisters nbllm's magics in an IPython shell."""

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
class _Replaced:
    """The magics and completers that nbllm's replaced; None for an unused name."""

    magics: dict[tuple[str, str], Callable[..., Any] | None] = field(default_factory=dict)
    completers: dict[str, Any] = field(default_factory=dict)


_replaced: WeakKeyDictionary[InteractiveShell, _Replaced] = WeakKeyDictionary()


def load(shell: InteractiveShell) -> None:
    """Register the magics, unless they are registered already."""
    if shell in _replaced:
        return
    magics, completers = shell.magics_manager.magics, _completers(shell)
    _replaced[shell] = _Replaced(
        {(kind, name): magics[kind].get(name) for kind, name in _MAGICS},
        {name: completers.get(name) for name in _COMPLETED},
    )
    shell.register_magics(AttentionMagic, LlmMagics)
    for name in _COMPLETED:
        completers.pop(name, None)
        shell.set_hook("complete_command", complete, str_key=name)  # type: ignore[no-untyped-call]


def unload(shell: InteractiveShell) -> None:
    """Restore the magics and completers that nbllm's replaced."""
    if shell not in _replaced:
        return
    replaced = _replaced.pop(shell)
    for (kind, name), magic in replaced.magics.items():
        _restore(shell.magics_manager.magics[kind], name, magic)
    for name, completer in replaced.completers.items():
        _restore(_completers(shell), name, completer)


def _restore(registry: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        registry.pop(name, None)
    else:
        registry[name] = value


def _completers(shell: InteractiveShell) -> dict[str, Any]:
    """Return the completers by prefix; IPython has no public way to remove one."""
    completers: dict[str, Any] = shell.strdispatchers["complete_command"].strs
    return completers

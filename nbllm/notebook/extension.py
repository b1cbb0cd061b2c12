"""Putting nbllm's magics into an IPython shell, and taking them out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from IPython.core.interactiveshell import InteractiveShell

from nbllm.notebook.magics import AttentionMagic

__all__ = ["load", "unload"]

# What was called %%attention before, by shell; None where nothing was.
_before: WeakKeyDictionary[InteractiveShell, Callable[..., Any] | None] = WeakKeyDictionary()


def load(shell: InteractiveShell) -> None:
    """Register the magics; loading twice is loading once."""
    if shell in _before:
        return
    _before[shell] = shell.magics_manager.magics["cell"].get("attention")
    shell.register_magics(AttentionMagic)


def unload(shell: InteractiveShell) -> None:
    """Put back what the magics' names stood for before they were loaded."""
    if shell not in _before:
        return
    cells, before = shell.magics_manager.magics["cell"], _before.pop(shell)
    if before is None:
        cells.pop("attention", None)
    else:
        cells["attention"] = before

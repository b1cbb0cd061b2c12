"""Installed versions of the packages that decide the numbers, for the record of a run."""

from __future__ import annotations

import importlib.metadata
from functools import cache

__all__ = ["versions"]

_VERSIONED = ("nbllm", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")


def versions() -> dict[str, str]:
    """Return the installed packages and their versions.

    Example:
        >>> "torch" in versions()
        True
    """
    return dict(_found())


@cache
def _found() -> tuple[tuple[str, str], ...]:
    found = []
    for name in _VERSIONED:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)

"""Tab completion of %llm and %%llm."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["complete"]

_COMMANDS = ("load", "list", "unload", "status")
_OPTIONS = {
    "load": ("--quantize", "--device", "--dtype", "--revision", "--adapter", "--accept-license"),
    "%%llm": ("--model", "--max-tokens", "--temperature", "--system", "--out"),
}


def complete(shell: Any, event: Any) -> list[str]:
    """Return completions: subcommands, options, and models in memory or in the catalog.

    Args:
        shell: The IPython shell.
        event: The completion event, with the `line` to complete.
    """
    words = event.line.split()
    magic, rest = words[0], words[1:]
    if event.line[-1:] not in (" ", "") and rest:
        rest = rest[:-1]  # without the incomplete word
    if magic == "%%llm":
        if rest[-1:] == ["--model"]:
            return [*_in_memory(), *_in_catalog()]
        return list(_OPTIONS["%%llm"])
    if not rest:
        return list(_COMMANDS)
    if rest[-1] == "--quantize":
        return ["auto", "none", "int8", "nf4", "fp4", "int4"]
    if rest[0] == "load":
        return [*_in_catalog(), *_OPTIONS["load"]] if len(rest) == 1 else [*_OPTIONS["load"]]
    return _in_memory() if rest[0] == "unload" else []


def _in_memory() -> list[str]:
    # Without a loaded model, Tab does not import the heavy modules.
    models = sys.modules.get("nbllm.models.in_memory")
    return [] if models is None else sorted({model.name for model in models.loaded()})


def _in_catalog() -> list[str]:
    from nbllm.models.fetch.catalog import CATALOG

    return sorted(CATALOG)

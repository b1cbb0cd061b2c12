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
    """Return subcommands, options and models: those in memory, and those that `load` has names for.

    Args:
        shell: The IPython shell.
        event: The completion event, whose `line` is completed.
    """
    words = event.line.split()
    magic, rest = words[0], words[1:]
    if event.line[-1:] not in (" ", "") and rest:
        rest = rest[:-1]  # the word that is being written
    if magic == "%%llm":
        if rest[-1:] == ["--model"]:
            return [*_in_memory(), *_on_the_shelf()]
        return list(_OPTIONS["%%llm"])
    if not rest:
        return list(_COMMANDS)
    if rest[-1] == "--quantize":
        return ["auto", "none", "int8", "nf4", "fp4", "int4"]
    if rest[0] == "load":
        return [*_on_the_shelf(), *_OPTIONS["load"]] if len(rest) == 1 else [*_OPTIONS["load"]]
    return _in_memory() if rest[0] == "unload" else []


def _in_memory() -> list[str]:
    # Where nothing is loaded, nothing heavy is imported for the sake of a Tab.
    models = sys.modules.get("nbllm.models.in_memory")
    return [] if models is None else sorted({model.name for model in models.loaded()})


def _on_the_shelf() -> list[str]:
    from nbllm.models.fetch.catalog import CATALOG

    return sorted(CATALOG)

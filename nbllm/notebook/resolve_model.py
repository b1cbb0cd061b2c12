"""Resolves the option `--model` of the magics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.models.model import Model

__all__ = ["resolve_model"]


def resolve_model(shell: InteractiveShell, name: str | None) -> Model:
    """Return the model that the option `--model` of a magic names.

    Args:
        shell: The shell with the user's variables.
        name: The name of a variable with a model, or of a model for `nbllm.load`, which is not
            loaded again if it is in memory; None for the model loaded last that generates text,
            else the default model.
    """
    from nbllm.models.loader import choose
    from nbllm.models.model import Model

    variable = None if name is None else shell.user_ns.get(name)
    return choose(variable if isinstance(variable, Model) else name)

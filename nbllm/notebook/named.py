"""The model that a magic's `--model` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.models.model import Model

__all__ = ["named_model"]


def named_model(shell: InteractiveShell, name: str | None) -> Model:
    """By the name of a variable, by that of a model in memory, or loaded by this name.

    Without a name, the model loaded last that can be asked, else the default one.
    """
    from nbllm.models.loader import choose
    from nbllm.models.model import Model

    variable = None if name is None else shell.user_ns.get(name)
    return choose(variable if isinstance(variable, Model) else name)

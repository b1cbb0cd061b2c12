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
    from nbllm.models.loader import choose, load, loaded
    from nbllm.models.model import Model

    if name is None:
        return choose()
    variable = shell.user_ns.get(name)
    if isinstance(variable, Model):
        return variable
    named = [model for model in loaded() if model.name == name]
    return named[-1] if named else load(name)

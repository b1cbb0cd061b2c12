"""The model that a magic's `--model` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbllm.models.model import Model

__all__ = ["resolve_model"]


def resolve_model(shell: InteractiveShell, name: str | None) -> Model:
    """Return the model that the option `--model` of a magic names.

    Args:
        shell: The shell whose variables count.
        name: The name of a variable that holds a model, or what `nbllm.load` takes; a model in
            memory is not loaded again. None stands for the model loaded last that writes text,
            else the default one.
    """
    from nbllm.models.loader import choose
    from nbllm.models.model import Model

    variable = None if name is None else shell.user_ns.get(name)
    return choose(variable if isinstance(variable, Model) else name)

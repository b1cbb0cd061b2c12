"""Warnings that point at the user's own line, however deep in nbllm they are raised."""

from __future__ import annotations

import inspect
import warnings

from nbllm.escaping import visible

__all__ = ["warn_user"]


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of nbllm that led here.

    `skip_file_prefixes` of `warnings.warn` does this from Python 3.12 on.

    Args:
        message: The text of the warning; control characters in it are made visible.
        category: The class of the warning.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "nbllm":
        frame = frame.f_back
        level += 1
    warnings.warn(visible(message), category, stacklevel=level)

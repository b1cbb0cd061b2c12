"""Temporary hooks on the parts of a network, for the passes of one thread.

A run in the background may be using the same network. Its passes must not be captured, nor
changed by a hook that replaces an input; and it registers hooks of its own while it holds the
forward lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from nbllm.engine.locks import FORWARD_LOCK

__all__ = ["hooked"]

Hook = Callable[..., Any]


@contextmanager
def hooked(
    *, before: Iterable[tuple[nn.Module, Hook]] = (), after: Iterable[tuple[nn.Module, Hook]] = ()
) -> Iterator[None]:
    """Register temporary hooks for passes of the calling thread; holds the forward lock.

    Args:
        before: Modules and their hooks, called as hook(module, inputs).
        after: Modules and their hooks, called as hook(module, inputs, output).
            What a hook returns, unless None, replaces the inputs or the output.

    Example:
        >>> import torch
        >>> outputs = []
        >>> layer = nn.Linear(2, 3)
        >>> with hooked(after=[(layer, lambda module, inputs, output: outputs.append(output))]):
        ...     _ = layer(torch.zeros(1, 2))
        >>> outputs[0].shape
        torch.Size([1, 3])
    """
    with FORWARD_LOCK, ExitStack() as hooks:
        for module, hook in before:
            hooks.callback(module.register_forward_pre_hook(_here(hook)).remove)
        for module, hook in after:
            hooks.callback(module.register_forward_hook(_here(hook)).remove)
        yield


def _here(hook: Hook) -> Hook:
    thread = threading.get_ident()

    def in_this_thread(*arguments: Any) -> Any:
        return hook(*arguments) if threading.get_ident() == thread else None

    return in_this_thread

"""Hooks on the parts of a network, for the passes of one thread.

A run in the background may be using the same network. It must neither be heard nor, where
a hook changes what a part is given, be answered wrongly; and it hangs hooks of its own in, for
as long as it has its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from nbllm.engine.locks import FORWARD_LOCK

__all__ = ["hooked", "only_last_logits"]

Hook = Callable[..., Any]


@contextmanager
def hooked(
    *, before: Iterable[tuple[nn.Module, Hook]] = (), after: Iterable[tuple[nn.Module, Hook]] = ()
) -> Iterator[None]:
    """Hooks on modules while it is open, deaf to the passes of other threads, in our turn.

    Those of `before` are called as hook(module, inputs) and those of `after` as
    hook(module, inputs, output). What one returns, unless None, takes the place of the
    inputs or of the output.

        with hooked(after=[(layer, lambda module, inputs, output: heard.append(output))]):
            network(input_ids=ids)
    """
    with FORWARD_LOCK, ExitStack() as hooks:
        for module, hook in before:
            hooks.callback(module.register_forward_pre_hook(_here(hook)).remove)
        for module, hook in after:
            hooks.callback(module.register_forward_hook(_here(hook)).remove)
        yield


def only_last_logits(head: nn.Module) -> AbstractContextManager[None]:
    """An output matrix computes the logits of the last token alone while it is open.

    with only_last_logits(network.get_output_embeddings()):
        logits = network(input_ids=ids).logits  # (rows, 1, vocabulary)
    """

    def last(_head: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        # A strided batch would be multiplied by frozen weights row by row.
        return (given[0][:, -1:].contiguous(),)

    return hooked(before=[(head, last)])


def _here(hook: Hook) -> Hook:
    thread = threading.get_ident()

    def in_this_thread(*arguments: Any) -> Any:
        return hook(*arguments) if threading.get_ident() == thread else None

    return in_this_thread

"""Events between two tokens: progress is reported, and waiting threads get the forward lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import StoppingCriteria

from nbllm.engine.locks import FORWARD_LOCK

__all__ = ["TokenEvents", "on_each_token", "token_generated"]

_callback: ContextVar[Callable[[], None] | None] = ContextVar("_callback", default=None)


@contextmanager
def on_each_token(callback: Callable[[], None]) -> Iterator[None]:
    """Call a function whenever each row of the current batch has one token more.

    Args:
        callback: called without arguments while the context is open, by this thread.
    """
    before = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(before)


def token_generated() -> None:
    """Report a decoding step, and let waiting threads in; a batch may take minutes."""
    if (callback := _callback.get()) is not None:
        callback()
    FORWARD_LOCK.yield_to_waiting()


class TokenEvents(StoppingCriteria):
    """A criterion that calls `token_generated`, and stops nothing."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        """Return that no row stops."""
        token_generated()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

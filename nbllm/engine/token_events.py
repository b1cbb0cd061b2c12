"""What happens between two tokens of a text: who follows it is told, and others have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import StoppingCriteria

from nbllm.engine.locks import FORWARD_LOCK

__all__ = ["TokenEvents", "on_each_token", "token_generated"]

_tell: ContextVar[Callable[[], None] | None] = ContextVar("_tell", default=None)


@contextmanager
def on_each_token(tell: Callable[[], None]) -> Iterator[None]:
    """Call this whenever each row of the batch at work has one token more."""
    before = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(before)


def token_generated() -> None:
    """Called after each pass that writes; a batch of long texts may take minutes."""
    if (tell := _tell.get()) is not None:
        tell()
    FORWARD_LOCK.yield_to_waiting()


class TokenEvents(StoppingCriteria):
    """Calls `token_generated`, and stops nothing."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        token_generated()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

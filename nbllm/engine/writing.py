"""What happens between two tokens of a text: who follows it is told, and others have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import StoppingCriteria

from nbllm.engine.locks import turn

__all__ = ["TokenWritten", "following", "token_written"]

_tell: ContextVar[Callable[[], None] | None] = ContextVar("_tell", default=None)


@contextmanager
def following(tell: Callable[[], None]) -> Iterator[None]:
    """Call this whenever each row of the batch at work has one token more."""
    before = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(before)


def token_written() -> None:
    """Called after each pass that writes; a batch of long texts may take minutes."""
    if (tell := _tell.get()) is not None:
        tell()
    turn.let_others()


class TokenWritten(StoppingCriteria):
    """Calls `token_written`, and stops nothing."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        token_written()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

"""Runs that are stopped in the middle, for the tests of what then happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from nbllm.engine.prompt import Prompt
from nbllm.frame.tasks.label import _BatchInvariantTask

Score = Callable[[_BatchInvariantTask, Sequence[Prompt]], Sequence]


def interrupted_after(calls: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many batches of rows be answered, and then raise."""
    score: Score = _BatchInvariantTask.__call__
    left = iter(range(calls))

    def some(self: _BatchInvariantTask, prompts: Sequence[Prompt]) -> Sequence:
        if next(left, None) is None:
            raise error
        return score(self, prompts)

    monkeypatch.setattr(_BatchInvariantTask, "__call__", some)

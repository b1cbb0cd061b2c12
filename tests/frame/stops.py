"""Runs that are stopped in the middle, for the tests of what then happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from nbllm.engine.prompt import Prompt
from nbllm.frame.tasks.label import _Repeatable

Score = Callable[[_Repeatable, Sequence[Prompt]], Sequence]


def interrupted_after(calls: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many batches of rows be answered, and then raise."""
    score: Score = _Repeatable.__call__
    left = iter(range(calls))

    def some(self: _Repeatable, prompts: Sequence[Prompt]) -> Sequence:
        if next(left, None) is None:
            raise error
        return score(self, prompts)

    monkeypatch.setattr(_Repeatable, "__call__", some)

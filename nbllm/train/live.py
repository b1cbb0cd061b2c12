"""A run as it goes: curves below the notebook's cell, or a line in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from html import escape
from typing import Any

from nbllm.models.theme import STYLE
from nbllm.train.curves import svg
from nbllm.train.plan import spoken

__all__ = ["Live"]

_AT_MOST_EVERY = 1.0  # seconds

History = Sequence[dict[str, float]]


class Live:
    """Shows a run until it is closed; what was shown last stays.

    Args:
        title: what is trained.
        steps: how many there will be at most.
        unit: what a loss is in.
    """

    def __init__(self, title: str, steps: int, unit: str) -> None:
        self.title = title
        self.steps = steps
        self.unit = unit
        self.notes: list[str] = []
        self._references: Sequence[tuple[str, float]] = ()
        self._shown: float | None = None
        self._began: tuple[float, int] | None = None
        self._handle: Any = None
        self._bar: Any = None

    def refer(self, references: Sequence[tuple[str, float]]) -> None:
        """Draw lines to hold the curves against."""
        self._references = references

    def __call__(self, history: History, step: int) -> None:
        """What is known after a step."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        if self._shown is not None and now - self._shown < _AT_MOST_EVERY:
            return
        self._shown = now
        self._show(history, step, self._left(now, step))

    def close(self, history: History, step: int, end: str) -> None:
        """Show how it ended."""
        self._show(history, step, end)
        if self._bar is not None:
            self._bar.close()

    def _left(self, now: float, step: int) -> str:
        assert self._began is not None
        began, first = self._began
        if step <= first:
            return ""
        return f"at most {spoken((now - began) / (step - first) * (self.steps - step))} left"

    def _show(self, history: History, step: int, state: str) -> None:
        if _in_notebook():
            self._draw(history, step, state)
        else:
            self._write(history, step, state)

    def _draw(self, history: History, step: int, state: str) -> None:
        from IPython.display import HTML, display

        drawn = svg(history, unit=self.unit, references=self._references)
        notes = "".join(f'<div style="{STYLE["about"]}">{escape(n)}</div>' for n in self.notes[-3:])
        shown = HTML(  # type: ignore[no-untyped-call]
            f'<div style="{STYLE["card"]}"><div style="{STYLE["name"]}">{escape(self.title)}</div>'
            f'<div style="{STYLE["about"]}">step {step:,} of {self.steps:,}'
            f"{', ' + escape(state) if state else ''}</div>{drawn}{notes}</div>"
        )
        if self._handle is None:
            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)

    def _write(self, history: History, step: int, state: str) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=self.steps, desc=self.title, unit="step", initial=step, dynamic_ncols=True
            )
        self._bar.n = step
        losses = {
            short: f"{found[-1]:.3g}"
            for short, name in (("loss", "loss"), ("held out", "eval_loss"))
            if (found := [entry[name] for entry in history if name in entry])
        }
        self._bar.set_postfix(losses)


def _in_notebook() -> bool:
    """Whether output goes to a kernel's front end."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"

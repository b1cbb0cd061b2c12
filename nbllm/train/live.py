"""Progress of a training: curves below the cell, or a line in a terminal; in both cases a job."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbllm.activity.jobs import EndState, Job
from nbllm.display.card import card, remarks
from nbllm.display.progress_bar import ProgressBar
from nbllm.train.curves import svg
from nbllm.wording import rough_duration

if TYPE_CHECKING:
    from nbllm.train.recipe import Outcome, Schedule

__all__ = ["Live"]

_AT_MOST_EVERY = 1.0  # seconds

History = Sequence[dict[str, float]]


class Live:
    """Shows a run until it is closed; what was shown last stays.

    It is in the list of jobs too, from where it can be cancelled: then it is interrupted, as by
    the user.

    Args:
        verb: "finetune" or "pretrain".
        model: The name of the model that is trained, or "".
        folder: The name of the folder of the run.
        steps: Steps at most.
        rows: Rows per step.
        unit: The unit of a loss.

    Example:
        >>> with Live("finetune", "minilm", "tuned", steps=9, rows=8, unit="nats") as live:
        ...     live([{"step": 1.0, "loss": 0.7}], 1)  # doctest: +SKIP
    """

    def __init__(
        self, verb: str, model: str, folder: str, *, steps: int, rows: int, unit: str
    ) -> None:
        self.title: str = f"{verb} {model}".strip()
        self.verb: str = verb
        self.model: str = model
        self.folder: str = folder
        self.steps = steps
        self.rows = rows
        self.unit = unit
        self.notes: list[str] = []
        self._references: Sequence[tuple[str, float]] = ()
        self._shown: float | None = None
        self._began: tuple[float, int] | None = None
        self._handle: Any = None
        self._bar: Any = None
        self._job: Job

    def __enter__(self) -> Live:
        self._job = Job.begin(
            verb=self.verb,
            output=self.folder,
            model=self.model,
            rows=self.steps * self.rows,
            texts=self.steps,
            unit="step",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._job.end("interrupted")
        elif error is not None:
            self._job.end("failed", f"{type(error).__name__}: {error}")
        if self._bar is not None:
            self._bar.close()

    def refer(self, references: Sequence[tuple[str, float]]) -> None:
        """Draw reference lines to compare the curves with."""
        self._references = references

    def __call__(self, history: History, step: int) -> None:
        """Show the losses after a step. Raises KeyboardInterrupt where the job was cancelled."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        speed = self._speed(now, step)
        left = (self.steps - step) / speed if speed else None
        self._tell(step, speed, left)
        if self._job.cancelled:
            raise KeyboardInterrupt
        if self._shown is not None and now - self._shown < _AT_MOST_EVERY:
            return
        self._shown = now
        self._show(
            history, step, "" if left is None else f"at most {rough_duration(max(1, left))} left"
        )

    def close(self, outcome: Outcome, plan: Schedule) -> None:
        """Show how the run ended."""
        self._show(outcome.history, outcome.steps, outcome.ended(plan))
        self._tell(outcome.steps, 0.0, None)
        stopped: EndState = "cancelled" if self._job.cancelled else "interrupted"
        self._job.end(stopped if outcome.interrupted else "done")

    def _speed(self, now: float, step: int) -> float:
        """Steps a second; 0 where there was none yet."""
        assert self._began is not None
        began, first = self._began
        return (step - first) / (now - began) if now > began else 0.0

    def _tell(self, step: int, speed: float, left: float | None) -> None:
        self._job.update(
            answered=step,
            known=0,
            failed=0,
            share=step / max(1, self.steps),
            rows_per_second=speed * self.rows,
            seconds_left=left,
        )

    def _show(self, history: History, step: int, state: str) -> None:
        if _in_notebook():
            self._draw(history, step, state)
        else:
            self._write(history, step)

    def _draw(self, history: History, step: int, state: str) -> None:
        from IPython.display import HTML, display

        drawn = svg(history, unit=self.unit, references=self._references)
        about = f"step {step:,} of {self.steps:,}" + (f", {state}" if state else "")
        html = card(self.title, remarks(about), drawn, remarks(*self.notes[-3:]))
        shown = HTML(html)  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)

    def _write(self, history: History, step: int) -> None:
        if self._bar is None:
            self._bar = ProgressBar(
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

"""Displays a run in a terminal or a log, by a bar of tqdm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from nbllm.display.progress_bar import ProgressBar
from nbllm.frame.running.report import RunReport
from nbllm.wording import rate

__all__ = ["Bar"]

# The longest rows run first, so their number, which tqdm would use, is no measure of the work.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {texts} [{elapsed}<{left}, {speed}{postfix}]"


class Step(Protocol):
    """The part of `progress.Step` that a bar shows."""

    @property
    def report(self) -> RunReport: ...

    @property
    def state(self) -> str: ...

    @property
    def doing(self) -> str: ...

    @property
    def percent(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def seconds_left(self) -> float | None: ...


class RunMonitor(Protocol):
    """The part of `progress.RunMonitor` that a bar shows."""

    @property
    def steps(self) -> Sequence[Step]: ...

    @property
    def stopping(self) -> bool: ...


class _Bar(ProgressBar):
    """A bar of tqdm that counts per cent of the work."""

    texts, speed = "", ""
    seconds_left: float | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        left = "?" if self.seconds_left is None else self.format_interval(self.seconds_left)
        return {**super().format_dict, "left": left, "texts": self.texts, "speed": self.speed}


class Bar:
    """A `Display` with one bar per step."""

    def __init__(self) -> None:
        self._bars: list[_Bar] = []

    def show(self, monitor: RunMonitor) -> None:
        """As `Display.show`."""
        for step in monitor.steps[len(self._bars) :]:
            self._finish()
            self._bars.append(
                _Bar(
                    total=100,
                    desc=step.report.verb,
                    dynamic_ncols=True,
                    bar_format=_FORMAT,
                    mininterval=0,
                    delay=1e-9,  # draw nothing before the first values are set
                )
            )
            self._bars[-1].start_t -= step.seconds
        if self._bars:
            self._set(monitor.steps[-1], stopping=monitor.stopping)

    def open(self, monitor: RunMonitor) -> bool:
        """As `Display.open`: a bar cannot be shown a second time."""
        return False

    def end(self, monitor: RunMonitor) -> None:
        """As `Display.end`."""
        self.show(monitor)
        self._finish()

    def _set(self, step: Step, *, stopping: bool) -> None:
        bar, report = self._bars[-1], step.report
        bar.n = step.percent
        bar.texts = f"{report.answered}/{report.texts}"
        bar.speed = rate(report.rows_per_second, "texts")
        bar.seconds_left = 0.0 if step.state == "done" else step.seconds_left
        notes = [step.doing if step.state == "running" else step.state.replace("done", "")]
        if stopping:
            notes = ["stopping after this batch"]
        if report.failed:
            notes.append(f"{report.failed:,} failed")
        bar.set_postfix_str(", ".join(filter(None, notes)), refresh=False)
        bar.refresh()

    def _finish(self) -> None:
        if self._bars:
            self._bars[-1].close()

"""A run in a terminal: tqdm's bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tqdm.std import tqdm

if TYPE_CHECKING:
    from nbllm.frame.progress import Step, Watch

__all__ = ["Bar"]

# Rows are asked the longest first, so what is left cannot be told by rows alone, as tqdm would.
_FORMAT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}, {rate_fmt}{postfix}]"
)


class _Bar(tqdm):  # type: ignore[misc]
    seconds_left: float | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        left = "?" if self.seconds_left is None else self.format_interval(self.seconds_left)
        return {**super().format_dict, "left": left}


class Bar:
    """A bar for each step."""

    def __init__(self) -> None:
        self._bars: list[_Bar] = []

    def show(self, watch: Watch) -> None:
        """As `Display.show`."""
        for step in watch.steps[len(self._bars) :]:
            self._finish()
            self._bars.append(
                _Bar(
                    total=step.report.texts,
                    initial=step.report.known,
                    desc=step.report.verb,
                    unit="row",
                    dynamic_ncols=True,
                    bar_format=_FORMAT,
                    mininterval=0,
                )
            )
            self._bars[-1].start_t -= step.seconds
        if self._bars and watch.step is not None:
            self._set(watch.step, stopping=watch.stopping)

    def open(self, watch: Watch) -> bool:
        """As `Display.open`: a bar is where it is."""
        return False

    def end(self, watch: Watch) -> None:
        """As `Display.end`."""
        self.show(watch)
        self._finish()

    def _set(self, step: Step, *, stopping: bool) -> None:
        bar = self._bars[-1]
        bar.n = step.report.answered
        bar.seconds_left = 0.0 if step.state == "done" else step.seconds_left
        said = [step.note if step.state == "running" else step.state.replace("done", "")]
        if stopping:
            said = ["stopping after this batch"]
        if step.report.failed:
            said.append(f"{step.report.failed:,} failed")
        bar.set_postfix_str(", ".join(filter(None, said)), refresh=False)
        bar.refresh()

    def _finish(self) -> None:
        if self._bars:
            self._bars[-1].close()

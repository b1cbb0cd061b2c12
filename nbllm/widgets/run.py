"""A run as it works, in the notebook: pushed to the browser while the kernel computes.

A busy kernel hears no message of a widget, so that the cancel button asks the Jupyter server, which
leaves a flag that the run looks for after each batch. When the run ends, what is on screen becomes
a summary without script, so that a saved notebook holds no widget that nobody answers for.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from IPython.display import publish_display_data

from nbllm.widgets.bundle import bundle
from nbllm.widgets.run_summary import summary, summary_text

if TYPE_CHECKING:
    from nbllm.frame.progress import Step, Watch

__all__ = ["RunDisplay", "RunView"]

_LABELS = 12  # bars of the histogram; what is left is one more
_STEPS = 8  # earlier runs of the same call that are named
# Seconds that a view lives at least: anywidget complains of one that is closed while it loads.
_SETTLING = 3.0


class RunView(anywidget.AnyWidget):
    """What a run does, in the browser. `state` is all that is shown; see widgets/run/state.ts."""

    _esm = bundle("run.js")
    _css = bundle("run.css")

    state = traitlets.Dict().tag(sync=True)


class RunDisplay:
    """Shows a watch in the notebook: in the cell that it works for, and where it is opened."""

    def __init__(self) -> None:
        self._view: RunView | None = None
        self._opened = 0.0
        self._places: dict[str, str] = {}  # of each cell, by its request: the id of the display

    def show(self, watch: Watch) -> None:
        """As `Display.show`."""
        if not _somebody_looks():
            return
        if self._view is not None:
            self._view.state = state_of(watch)
        self._place(watch)

    def open(self, watch: Watch) -> bool:
        """As `Display.open`."""
        if not watch.ended:
            self._place(watch)
        elif watch.steps:
            publish_display_data(_still(watch))  # type: ignore[no-untyped-call]
        return not watch.ended or bool(watch.steps)

    def end(self, watch: Watch) -> None:
        """As `Display.end`."""
        still = _still(watch) if watch.steps else _nothing(watch)
        for place in self._places.values():
            publish_display_data(  # type: ignore[no-untyped-call]
                still, transient={"display_id": place}, update=True
            )
        if not self._places:
            publish_display_data(still)  # type: ignore[no-untyped-call]
        if self._view is not None:
            self._close(self._view)

    def _close(self, view: RunView) -> None:
        age = time.monotonic() - self._opened
        if age >= _SETTLING:
            view.close()
            return
        later = threading.Timer(_SETTLING - age, view.close)
        later.daemon = True
        later.start()

    def _place(self, watch: Watch) -> None:
        """Put it into the cell that is at work, unless it is there."""
        cell = _cell()
        if cell in self._places:
            return
        if self._view is None:
            self._view, self._opened = RunView(state=state_of(watch)), time.monotonic()
            self._view.on_msg(lambda view, content, buffers: _hear(content, watch))
        place = secrets.token_hex(16)
        self._places[cell] = place
        data, metadata = self._view._repr_mimebundle_() or ({}, {})
        data = {**data, "text/plain": summary_text(watch)}
        publish_display_data(  # type: ignore[no-untyped-call]
            data, metadata, transient={"display_id": place}
        )


def make_display() -> RunDisplay | None:
    """The display of a run, where a notebook shows it; else None."""
    return RunDisplay() if _kernel() is not None else None


def state_of(watch: Watch) -> dict[str, Any]:
    """All that the widget shows: a few kB at most."""
    step = watch.step
    state: dict[str, Any] = {
        "verb": watch.verb,
        "output": watch.output,
        "phase": "stopping" if watch.stopping else watch.state,
        "steps": [_told(earlier) for earlier in watch.steps[:-1][-_STEPS:]],
    }
    return state if step is None else {**state, **_told(step), **_details(step)}


def _told(step: Step) -> dict[str, Any]:
    report = step.report
    return {
        "step": report.verb,
        "column": report.output,
        "model": report.model["name"],
        "texts": report.texts,
        "rows": report.rows,
        "known": report.known,
        "computed": report.computed,
        "failures": report.failed,
        "seconds": round(step.seconds, 2),
    }


def _details(step: Step) -> dict[str, Any]:
    report, left, limit = step.report, step.seconds_left, step.share_of_limit
    ranked = step.labels.most_common()
    others = sum(count for _, count in ranked[_LABELS:])
    return {
        "job": step.job,
        "keeps": report.ledger is not None,
        "note": step.note,
        "share": round(step.share, 4),
        "secondsLeft": None if left is None else round(left, 1),
        "rowsPerSecond": round(report.rows_per_second, 3),
        "tokensPerSecond": round(report.tokens / report.seconds, 1) if report.seconds else 0.0,
        "shareOfLimit": None if limit is None else round(limit, 3),
        "labels": [[label, count] for label, count in ranked[:_LABELS]],
        "otherLabels": [len(ranked) - _LABELS, others] if others else None,
        "failed": [list(row) for row in step.failed],
        "slowest": [[row, round(seconds, 4)] for row, seconds in step.slowest],
        "latest": [list(row) for row in step.latest],
    }


def _hear(content: Any, watch: Watch) -> None:
    """A message of the browser, which a kernel that is not busy hears."""
    if isinstance(content, dict) and content.get("kind") == "cancel":
        watch.cancel()


def _still(watch: Watch) -> dict[str, str]:
    return {"text/html": summary(watch), "text/plain": summary_text(watch)}


def _nothing(watch: Watch) -> dict[str, str]:
    return {"text/plain": summary_text(watch)}


def _kernel() -> Any:
    """The kernel that this process is, or None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None)


def _request() -> dict[str, Any]:
    """The request that the cell at work came with."""
    found = _kernel().get_parent("shell")
    return found if isinstance(found, dict) else {}


def _cell() -> str:
    return str(_request().get("header", {}).get("msg_id", ""))


def _somebody_looks() -> bool:
    """Whether a person has asked: nbconvert and its like can answer no question of the kernel."""
    return bool(_request().get("content", {}).get("allow_stdin", True))

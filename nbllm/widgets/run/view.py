"""A run as it works, in the notebook: pushed to the browser while the kernel computes.

A busy kernel receives no message of a widget, so the cancel button also calls the Jupyter server,
which leaves a flag that the run looks for after each batch.

In a cell it has two outputs: the widget, and one without script, which the widget hides. When the
run ends, the second becomes its summary and the first nothing, so that a saved notebook holds no
widget that nobody answers for. But neither reaches a page that was loaded again meanwhile, since
JupyterLab no longer knows which cell the outputs are of. So the widget too becomes the summary, and
the kernel goes on answering for it; without a kernel, the other output says how it stood.
"""

from __future__ import annotations

import secrets
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import traitlets
from IPython.display import publish_display_data

from nbllm.escaping import escape, visible
from nbllm.widgets.bundle import bundle
from nbllm.widgets.protocol.envelope import NoContent
from nbllm.widgets.protocol.run import OtherLabels, Phase, RunState, RunStep, StepSummary
from nbllm.widgets.requests import Reply, answer_requests
from nbllm.widgets.run.summary import begun, summary, summary_text
from nbllm.widgets.view import View

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor, Step

__all__ = ["RunDisplay", "RunView"]

_LABELS = 12  # bars of the histogram; what is left is one more
_STEPS = 8  # earlier runs of the same call that are named
# Views of runs that have ended. Older ones are closed: a page requests all when it is loaded.
_ended: deque[RunView] = deque()
_ENDED = 50


class RunView(View):
    """A run at work, in the browser. `state` is all that is shown, a `RunState`."""

    _esm = bundle("run.js")
    _css = bundle("run.css")

    state: Any = traitlets.Dict().tag(sync=True)


class RunDisplay:
    """Shows a monitor in the notebook: in the cell that it works for, and where it is opened."""

    def __init__(self) -> None:
        self._view: RunView | None = None
        self._respond: Callable[..., None]  # to messages of the view
        self._places: dict[str, _Place] = {}  # by the request of their cell

    def show(self, monitor: RunMonitor) -> None:
        """As `Display.show`."""
        if not _is_interactive():
            return
        if self._view is not None:
            self._view.state = state_of(monitor)
        self._place(monitor)

    def open(self, monitor: RunMonitor) -> bool:
        """As `Display.open`."""
        if not monitor.ended:
            self._place(monitor)
        elif monitor.steps:
            _publish(_static(monitor))
        return not monitor.ended or bool(monitor.steps)

    def end(self, monitor: RunMonitor) -> None:
        """As `Display.end`."""
        static = _static(monitor)
        for place in self._places.values():
            _publish(static, place.static, update=True)
            _publish({"text/plain": ""}, place.view, update=True)
        if not self._places:
            _publish(static)
        if self._view is not None:
            # The callback holds the run, and the run its model.
            self._view.on_msg(self._respond, remove=True)
            _end_view(self._view, monitor)
            self._view = None

    def _place(self, monitor: RunMonitor) -> None:
        """Put it into the cell that is at work, unless it is there."""
        cell = _cell()
        if cell in self._places:
            return
        if self._view is None:
            self._view = RunView(state=state_of(monitor))
            self._respond = answer_requests(self._view, lambda request: _answer(request, monitor))
        place = self._places[cell] = _Place()
        data, metadata = self._view._repr_mimebundle_() or ({}, {})
        _publish({**data, "text/plain": ""}, place.view, metadata)
        _publish({"text/html": begun(monitor), "text/plain": summary_text(monitor)}, place.static)


class _Place:
    """The ids of the two displays of a run in a cell."""

    def __init__(self) -> None:
        self.view, self.static = secrets.token_hex(16), secrets.token_hex(16)


def _publish(
    data: dict[str, Any], place: str | None = None, metadata: Any = None, *, update: bool = False
) -> None:
    transient = {} if place is None else {"display_id": place}
    publish_display_data(data, metadata, transient=transient, update=update)  # type: ignore[no-untyped-call]


def _end_view(view: RunView, monitor: RunMonitor) -> None:
    """Make a view the summary, for pages that nothing else reaches."""
    view.state = {**state_of(monitor), "summary": _static(monitor)["text/html"]}
    _ended.append(view)
    while len(_ended) > _ENDED:
        _ended.popleft().close()


def make_display() -> RunDisplay | None:
    """The display of a run, where a notebook shows it; else None."""
    return RunDisplay() if _kernel() is not None else None


def state_of(monitor: RunMonitor) -> RunState:
    """Return all that the widget shows: a few kB at most."""
    phase: Phase = "stopping" if monitor.stopping else monitor.state
    state = RunState(
        verb=monitor.verb,
        output=monitor.output,
        phase=phase,
        steps=[_summary(earlier) for earlier in monitor.steps[:-1][-_STEPS:]],
        step=None if monitor.step is None else _at_work(monitor.step),
    )
    sendable: RunState = _sendable(state)
    return sendable


def _sendable(value: Any) -> Any:
    """Return a value with its texts as shown: half a surrogate pair cannot be sent."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {name: _sendable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(part) for part in value]
    return value


def _summary(step: Step) -> StepSummary:
    report = step.report
    return StepSummary(
        verb=report.verb,
        column=report.output,
        model=report.model["name"],
        texts=report.texts,
        rows=report.rows,
        known=report.known,
        computed=report.computed,
        failures=report.failed,
        seconds=round(step.seconds, 2),
    )


def _at_work(step: Step) -> RunStep:
    report, left, limit = step.report, step.seconds_left, step.share_of_limit
    ranked = step.labels.most_common()
    others = sum(count for _, count in ranked[_LABELS:])
    tokens = report.tokens / report.seconds if report.seconds else 0.0
    return RunStep(
        **_summary(step),
        job=step.job,
        keeps=report.ledger is not None,
        note=step.doing,
        share=round(step.share, 4),
        seconds_left=None if left is None else round(left, 1),
        rows_per_second=round(report.rows_per_second, 3),
        tokens_per_second=round(tokens, 1),
        share_of_limit=None if limit is None else round(limit, 3),
        labels=ranked[:_LABELS],
        other_labels=OtherLabels(labels=len(ranked) - _LABELS, rows=others) if others else None,
        failed=list(step.failed),
        slowest=[(row, round(seconds, 4)) for row, seconds in step.slowest],
        latest=list(step.latest),
    )


def _answer(request: Any, monitor: RunMonitor) -> Reply:
    """Answer a request of the browser, which reaches a kernel that is not busy."""
    if request["kind"] != "cancel":
        raise ValueError(f"nothing answers {request['kind']!r}")
    monitor.cancel()
    return NoContent(), []


def _static(monitor: RunMonitor) -> dict[str, str]:
    text = summary_text(monitor)
    html = summary(monitor) if monitor.steps else f"<div>{escape(text)}</div>"
    return {"text/html": html, "text/plain": text}


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


def _is_interactive() -> bool:
    """Return whether a person runs the cell: nbconvert and its like allow no input."""
    return bool(_request().get("content", {}).get("allow_stdin", True))

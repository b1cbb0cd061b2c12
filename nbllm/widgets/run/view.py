"""The display of a run in the notebook, pushed to the browser while the kernel computes.

A busy kernel receives no messages, so the cancel button also calls the Jupyter server, which writes
a flag that the run checks after each batch.

A cell has two outputs: the widget, and static HTML, which the widget hides. When the run ends, the
summary replaces the HTML and nothing replaces the widget, so that a saved notebook has no widget
without a kernel. A page that was reloaded meanwhile receives neither update, since JupyterLab no
longer knows the cell of the outputs. So the widget shows the summary too, and the kernel keeps it;
without a kernel, the HTML shows the state at the time of saving.
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
from nbllm.widgets.run.summary import running_html, summary_html, summary_text
from nbllm.widgets.view import View

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor, Step

__all__ = ["RunDisplay", "RunView"]

_LABELS = 12  # bars of the histogram; all other labels are one more
_STEPS = 8  # earlier steps of the same call that are listed
# Views of ended runs. Older ones are closed, since a page loads all of them.
_ended_views: deque[RunView] = deque()
_MAX_ENDED_VIEWS = 50


class RunView(View):
    """The widget of a run; the trait `state` is a `RunState`."""

    _esm = bundle("run.js")
    _css = bundle("run.css")

    state: Any = traitlets.Dict().tag(sync=True)


class RunDisplay:
    """Displays a run in the notebook: in the cell that runs it, and in cells that open it."""

    def __init__(self) -> None:
        self._view: RunView | None = None
        self._respond: Callable[..., None]  # the callback for messages of the view
        self._outputs: dict[str, _CellOutputs] = {}  # by the id of the cell's execute request

    def show(self, monitor: RunMonitor) -> None:
        """As `Display.show`."""
        if not _is_interactive():
            return
        if self._view is not None:
            self._view.state = state_of(monitor)
        self._show_in_cell(monitor)

    def open(self, monitor: RunMonitor) -> bool:
        """As `Display.open`."""
        if not monitor.ended:
            self._show_in_cell(monitor)
        elif monitor.steps:
            _publish(_static(monitor))
        return not monitor.ended or bool(monitor.steps)

    def end(self, monitor: RunMonitor) -> None:
        """As `Display.end`."""
        static = _static(monitor)
        for outputs in self._outputs.values():
            _publish(static, outputs.static, update=True)
            _publish({"text/plain": ""}, outputs.view, update=True)
        if not self._outputs:
            _publish(static)
        if self._view is not None:
            # The callback refers to the run, and the run to its model.
            self._view.on_msg(self._respond, remove=True)
            _end_view(self._view, monitor)
            self._view = None

    def _show_in_cell(self, monitor: RunMonitor) -> None:
        """Show the run in the running cell, unless it is there."""
        cell = _cell()
        if cell in self._outputs:
            return
        if self._view is None:
            self._view = RunView(state=state_of(monitor))
            self._respond = answer_requests(self._view, lambda request: _answer(request, monitor))
        outputs = self._outputs[cell] = _CellOutputs()
        data, metadata = self._view._repr_mimebundle_() or ({}, {})
        _publish({**data, "text/plain": ""}, outputs.view, metadata)
        html = running_html(monitor)
        _publish({"text/html": html, "text/plain": summary_text(monitor)}, outputs.static)


class _CellOutputs:
    """The display ids of a run's two outputs in a cell."""

    def __init__(self) -> None:
        self.view, self.static = secrets.token_hex(16), secrets.token_hex(16)


def _publish(
    data: dict[str, Any],
    display_id: str | None = None,
    metadata: Any = None,
    *,
    update: bool = False,
) -> None:
    transient = {} if display_id is None else {"display_id": display_id}
    publish_display_data(data, metadata, transient=transient, update=update)  # type: ignore[no-untyped-call]


def _end_view(view: RunView, monitor: RunMonitor) -> None:
    """Show the summary in a view, for pages that were reloaded."""
    view.state = {**state_of(monitor), "summary": _static(monitor)["text/html"]}
    _ended_views.append(view)
    while len(_ended_views) > _MAX_ENDED_VIEWS:
        _ended_views.popleft().close()


def make_display() -> RunDisplay | None:
    """Return a display for a run in a Jupyter kernel, else None."""
    return RunDisplay() if _kernel() is not None else None


def state_of(monitor: RunMonitor) -> RunState:
    """Return the state of the widget, of a few kB at most."""
    phase: Phase = "stopping" if monitor.stopping else monitor.state
    state = RunState(
        verb=monitor.verb,
        output=monitor.output,
        phase=phase,
        steps=[_summary(earlier) for earlier in monitor.steps[:-1][-_STEPS:]],
        step=None if monitor.step is None else _current_step(monitor.step),
    )
    sendable: RunState = _sendable(state)
    return sendable


def _sendable(value: Any) -> Any:
    """Return a value with its texts made visible, since lone surrogates cannot be sent."""
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


def _current_step(step: Step) -> RunStep:
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
    """Answer a request of the browser, which an idle kernel receives."""
    if request["kind"] != "cancel":
        raise ValueError(f"nothing answers {request['kind']!r}")
    monitor.cancel()
    return NoContent(), []


def _static(monitor: RunMonitor) -> dict[str, str]:
    text = summary_text(monitor)
    html = summary_html(monitor) if monitor.steps else f"<div>{escape(text)}</div>"
    return {"text/html": html, "text/plain": text}


def _kernel() -> Any:
    """Return the kernel of this process, or None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None)


def _request() -> dict[str, Any]:
    """Return the execute request of the running cell."""
    found = _kernel().get_parent("shell")
    return found if isinstance(found, dict) else {}


def _cell() -> str:
    return str(_request().get("header", {}).get("msg_id", ""))


def _is_interactive() -> bool:
    """Return whether a person runs the cell: nbconvert and similar tools allow no input."""
    return bool(_request().get("content", {}).get("allow_stdin", True))

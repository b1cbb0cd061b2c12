"""Summarizes a run as text and as HTML without script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbllm.display.card import terms
from nbllm.display.table import Bar, Table
from nbllm.display.theme import STYLE
from nbllm.escaping import escape, visible
from nbllm.wording import counted, duration, rate

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor, Step

__all__ = ["running_html", "summary_html", "summary_text"]

_LABELS = 12  # bars; all other labels are one more
_STEPS = 7  # last steps that are listed, in addition to the first
_FAILED = 3  # failed rows above the details
_RESUMES = ": what was answered is in the ledger, and is not asked again."
_STATES = {
    "running": "at work",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}


def summary_text(monitor: RunMonitor) -> str:
    """Return one line on a run: its verb, state and counts."""
    head = f"{monitor.verb} → {monitor.output}: {_STATES[monitor.state]}"
    return visible(f"{head}, {_about(monitor)}" if monitor.steps else head)


def running_html(monitor: RunMonitor) -> str:
    """Return the HTML for a running run, which stays if the end does not reach the page."""
    resumes = monitor.step is None or monitor.step.report.ledger
    return (
        f"<div class='nbllm-run-begun' style='{STYLE['card']}'>"
        f"<div><span style='{STYLE['name']}'>{escape(monitor.verb)}</span> → "
        f"<code>{escape(monitor.output)}</code></div><div style='{STYLE['about']}'>It was at work "
        "when this was saved. How it ended is shown here once its kernel has time to say so. If "
        f"the kernel has stopped, run the cell again{_RESUMES if resumes else '.'}</div></div>"
    )


def summary_html(monitor: RunMonitor) -> str:
    """Return the summary of a run as HTML; nothing is fetched, and text from rows is escaped."""
    step = monitor.steps[-1]
    state = "" if monitor.state == "done" else f" · <b>{_STATES[monitor.state]}</b>"
    parts = [
        f"<div><span style='{STYLE['name']}'>{escape(monitor.verb)}</span> → "
        f"<code>{escape(monitor.output)}</code>{state}</div>"
        f"<div style='{STYLE['about']}'>{escape(_about(monitor))}</div>"
    ]
    if monitor.state == "failed":
        parts.append(f"<div role='alert'>{escape(monitor.error or step.error)}</div>")
    elif monitor.stopped:
        parts.append(f"<div style='margin-bottom:8px'>{escape(_resume_note(step))}</div>")
    if len(monitor.steps) > 1:
        parts.append(_steps(monitor.steps))
    elif step.labels:
        parts.append(_histogram(step))
    if step.failed:
        parts.append(_rows("rows without an answer", step.failed[:_FAILED], step.report.failed))
    more = "Time, tokens, model and run"
    parts.append(f"<details><summary>{more}</summary>{_details(step)}</details>")
    return f"<div class='nbllm-run-summary' style='{STYLE['card']}'>{''.join(parts)}</div>"


def _about(monitor: RunMonitor) -> str:
    if len(monitor.steps) == 1:
        return _counts(monitor.steps[0])
    elapsed = monitor.steps[-1].seconds + monitor.steps[-1].started - monitor.steps[0].started
    return f"{counted(len(monitor.steps), 'step')} in {duration(elapsed)}"


def _counts(step: Step) -> str:
    report = step.report
    counts = [counted(report.rows, "row")]
    if report.known:
        counts.append(f"{counted(report.known, 'text')} from the ledger")
    counts.append(f"{counted(report.computed, 'text')} computed in {duration(step.seconds)}")
    if report.computed and report.seconds:
        counts[-1] += f" ({rate(report.rows_per_second, 'texts')})"
    if report.failed:
        counts.append(f"{report.failed:,} failed")
    if report.stopped and report.left:
        counts.append(f"{report.left:,} not reached")
    return ", ".join(counts)


def _resume_note(step: Step) -> str:
    if step.report.ledger:
        return "What was answered is in the ledger: run the cell again to go on from there."
    return "The ledger is off: what was answered is only in the frame that was returned."


def _histogram(step: Step) -> str:
    ranked = step.labels.most_common()
    bars = ranked[:_LABELS]
    if len(ranked) > _LABELS:
        rest = sum(count for _, count in ranked[_LABELS:])
        bars.append((counted(len(ranked) - _LABELS, "other"), rest))
    most, total = max(count for _, count in bars), sum(step.labels.values())
    rows = [
        (label, Bar(count / most), f"{count:,}", f"{count / total:.0%}") for label, count in bars
    ]
    return Table(rows, label="Rows per label", named_rows=True, full_width=False).html()


def _rows(title: str, rows: Sequence[tuple[str, str]], total: int) -> str:
    shown = f" ({len(rows)} of {total:,})" if total > len(rows) else ""
    caption = f"{title}{shown}"
    return Table(rows, columns=("text", "long"), caption=caption, full_width=False).html()


def _steps(steps: Sequence[Step]) -> str:
    """Return the list of steps of a call, with the most frequent labels of each."""
    shown = [steps[0], *steps[1:][-_STEPS:]]
    lines = []
    for step in shown:
        found = ", ".join(f"{label} {rows:,}" for label, rows in step.labels.most_common(3))
        more = f". Rows: {found}" if found else ""
        lines.append(
            f"<li>{escape(step.report.verb)} → <code>{escape(step.report.output)}</code>: "
            f"{escape(_counts(step) + more)}</li>"
        )
    left = len(steps) - len(shown)
    rest = f"<div>and {left:,} more in between</div>" if left else ""
    return f"<ol style='margin:0 0 8px;padding-left:1.6em'>{''.join(lines)}</ol>{rest}"


def _details(step: Step) -> str:
    parts = [terms(step.report.lines())]
    if step.slowest:
        slow = [(row, f"{seconds:.3g} s") for row, seconds in step.slowest]
        parts.append(_rows("slowest rows, by their batch", slow, len(slow)))
    if len(step.failed) > _FAILED:
        parts.append(_rows("rows without an answer", step.failed, step.report.failed))
    return "".join(parts)

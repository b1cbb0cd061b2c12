"""How a run is shown in a notebook: what is pushed, what it becomes, and for whom."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import nbformat.v4
import pytest
from nbclient import NotebookClient

import nbllm.widgets.run.view as run
from nbllm.frame.running.progress import RunMonitor, Step
from nbllm.frame.running.report import RunReport
from nbllm.widgets.run.summary import summary_html, summary_text
from nbllm.widgets.run.view import RunDisplay, state_of
from nbllm.wording import duration

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def monitor() -> RunMonitor:
    """A run in its middle, of rows that mean harm."""
    monitor = RunMonitor("classify", EVIL)
    report = RunReport("run", "classify", EVIL, {"name": EVIL}, rows=100, texts=90)
    report.model |= {"quantization": "none", "dtype": "float32", "device": "cpu", "revision": "0"}
    report.known, report.computed, report.failed, report.seconds = 10, 20, 1, 4.0
    step = Step(report, note="")
    step.labels = Counter({EVIL: 30, **{f"label {n}": 20 - n for n in range(20)}})
    step.failed = [(EVIL, EVIL), ("7", "too long")]
    step.slowest = [(EVIL, 1.25)]
    step.latest = [(EVIL, EVIL)]
    monitor.steps.append(step)
    return monitor


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What reaches the notebook, of a kernel whose cells are told by `cell.id`."""
    seen: list[dict[str, Any]] = []

    def publish(data: dict[str, str], metadata: Any = None, **options: Any) -> None:
        seen.append({"data": data, **options})

    monkeypatch.setattr(run, "publish_display_data", publish)
    monkeypatch.setattr(run, "_kernel", lambda: SimpleNamespace(get_parent=lambda _: request))
    yield seen


request: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def in_a_cell() -> None:
    from_cell("one")


def from_cell(name: str, *, person: bool = True) -> None:
    """The request that the kernel is at work on."""
    request.clear()
    request.update({"header": {"msg_id": name}, "content": {"allow_stdin": person}})


class Tags(HTMLParser):
    """The elements of some HTML, its attributes' names, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_state_is_small_json_that_adds_up(monitor: RunMonitor) -> None:
    state = state_of(monitor)
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 4000
    step = state["step"]
    assert [step[key] for key in ("known", "computed", "failures", "texts")] == [10, 20, 1, 90]
    assert len(step["labels"]) == 12 and step["other_labels"]["labels"] == 9
    told = sum(count for _, count in step["labels"]) + step["other_labels"]["rows"]
    assert told == sum(monitor.steps[0].labels.values())
    assert step["labels"][0] == [EVIL, 30]
    assert step["share"] == pytest.approx(31 / 90, abs=1e-4)
    assert state_of(RunMonitor("sentiment", "mood"))["phase"] == "running"


def test_one_view_a_cell_that_becomes_the_summary_everywhere(
    monitor: RunMonitor, published: list[dict[str, Any]]
) -> None:
    display = RunDisplay()
    display.show(monitor)
    display.show(monitor)
    display.open(monitor)
    assert len(published) == 2
    from_cell("two")
    assert display.open(monitor)
    assert len(published) == 4
    for view, still in zip(published[::2], published[1::2], strict=True):
        assert "application/vnd.jupyter.widget-view+json" in view["data"]
        # What is there while the widget is not: a notebook that is opened without its kernel.
        assert set(still["data"]) == {"text/html", "text/plain"}
        assert still["data"]["text/plain"].startswith("classify → ")
        assert "run the cell again" in Tags(still["data"]["text/html"]).text
        assert EVIL in Tags(still["data"]["text/html"]).text
    places = [shown["transient"]["display_id"] for shown in published]
    assert len(set(places)) == 4
    view = display._view
    assert view is not None
    monitor.steps[0].state, monitor.ended = "done", True
    display.end(monitor)
    ended = {shown["transient"]["display_id"]: shown for shown in published[4:]}
    assert set(ended) == set(places) and all(shown["update"] for shown in ended.values())
    assert [ended[place]["data"] for place in places[::2]] == [{"text/plain": ""}] * 2
    for place in places[1::2]:
        assert ended[place]["data"]["text/html"] == summary_html(monitor)
    from_cell("three")
    assert display.open(monitor)
    assert published[-1]["data"]["text/html"] == summary_html(monitor)


def test_a_view_goes_on_as_the_summary_and_holds_nothing_of_the_run(
    monitor: RunMonitor, published: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is loaded again knows only of the widget."""
    monkeypatch.setattr(run, "_MAX_ENDED_VIEWS", 2)
    views = []
    for _ in range(3):
        display = RunDisplay()
        monitor.ended, monitor.steps[0].state = False, "running"
        display.show(monitor)
        views.append(display._view)
        monitor.ended, monitor.steps[0].state = True, "done"
        display.end(monitor)
        assert views[-1].comm is not None
        assert views[-1].state["summary"] == summary_html(monitor)
        assert views[-1]._msg_callbacks.callbacks == []
    assert [view.comm is None for view in views] == [True, False, False]


def test_nobody_looks_when_a_notebook_is_executed_by_a_program(
    monitor: RunMonitor, published: list[dict[str, Any]]
) -> None:
    from_cell("one", person=False)
    display = RunDisplay()
    display.show(monitor)
    assert published == [] and display._view is None
    monitor.steps[0].state, monitor.ended = "done", True
    display.end(monitor)
    [shown] = published
    assert set(shown["data"]) == {"text/html", "text/plain"} and not shown["update"]


def test_the_browsers_message_cancels(monitor: RunMonitor, published: list[dict[str, Any]]) -> None:
    display = RunDisplay()
    display.show(monitor)
    assert display._view is not None
    display._view._handle_custom_msg({"requests": [{"id": 1, "request": {"kind": "cancel"}}]}, [])
    assert monitor.stopping and state_of(monitor)["phase"] == "stopping"
    display._view._handle_custom_msg("nonsense", [])
    display._view.close()


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "interrupted"])
def test_the_summary_is_html_without_script_that_says_what_was_done(
    monitor: RunMonitor, state: Any
) -> None:
    monitor.steps[0].state, monitor.ended = state, True
    monitor.error = f"RuntimeError: {EVIL}" if state == "failed" else ""
    read = Tags(summary_html(monitor))
    assert not {"script", "img", "link", "style"} & set(read.elements)
    assert not any(name.startswith("on") for name in read.attributes)
    assert read.open == []
    assert ("done" in summary_text(monitor)) == (state == "done")
    assert state in summary_text(monitor)
    assert (state in read.text) or state == "done"
    assert "100 rows, 10 texts from the ledger, 20 texts computed" in read.text
    assert "1 failed" in read.text and "too long" in read.text and "1.25 s" in read.text
    assert "9 others" in read.text
    assert read.text.count(EVIL) >= 3
    if state == "failed":
        assert f"RuntimeError: {EVIL}" in read.text
    if state in ("cancelled", "interrupted"):
        assert "The ledger is off" in read.text
        monitor.steps[0].report.ledger = "file"
        assert "run the cell again to go on from there" in summary_html(monitor)


def test_each_step_of_a_call_is_in_its_summary(monitor: RunMonitor) -> None:
    last = Step(RunReport("b", "reply", "answer", dict(monitor.steps[0].report.model), rows=3))
    monitor.steps.append(last)
    last.started = monitor.steps[0].started + 8
    last.ended = last.started + 2
    told = Tags(summary_html(monitor)).text
    assert "2 steps in 10 s" in told and "2 steps in 10 s" in summary_text(monitor)
    assert f"classify → {EVIL}: 100 rows" in told and f"Rows: {EVIL} 30, label 0 20" in told
    assert "reply → answer: 3 rows" in told
    assert [step["verb"] for step in state_of(monitor)["steps"]] == ["classify"]
    assert state_of(monitor)["step"]["verb"] == "reply"


def test_lengths_of_time() -> None:
    told = [duration(s) for s in (0.04, 9.94, 9.96, 59.6, 120, 3599.6, 7265)]
    assert told == ["0.0 s", "9.9 s", "10 s", "1 min", "2 min", "1 h 0 min", "2 h 1 min"]


@pytest.mark.long
def test_in_an_executed_notebook_the_summary_is_the_only_output(tmp_path: Any) -> None:
    code = """
import warnings, logging
warnings.simplefilter("ignore")
import pandas as pd, nbllm
from tests.conftest import tiny_model
frame = pd.DataFrame({"text": ["warm", "cold"]})
answered = frame.llm.sentiment("text", model=tiny_model("causal"))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    [shown] = [o for o in notebook.cells[0].outputs if o.output_type != "stream"]
    assert shown.output_type == "display_data"
    assert shown.data["text/plain"].startswith("sentiment → text_sentiment: done, 2 rows")
    assert "nbllm-run-summary" in shown.data["text/html"]
    assert "widgets" not in notebook.metadata

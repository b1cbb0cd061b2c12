"""Curves, live and afterwards: what is drawn, and that nothing in it can run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from nbllm.train.curves import svg
from nbllm.train.finetuned import Finetuned
from nbllm.train.live import Live
from nbllm.train.recipe import Outcome, Schedule
from nbllm.train.scores import label_metrics

HISTORY = [
    {"step": 0.0, "eval_loss": 1.2},
    *({"step": float(n), "loss": 1 / n} for n in range(1, 101)),
    {"step": 50.0, "eval_loss": 0.4},
    {"step": 100.0, "eval_loss": 0.3},
]


def test_it_draws_both_losses_and_says_them() -> None:
    drawn = ElementTree.fromstring(svg(HISTORY, unit="nats", references=[("bigram <b>", 0.6)]))
    assert drawn.attrib["aria-label"] == (
        "training loss from 1 to 0.01 nats and held-out loss from 1.2 to 0.3 nats in 100 steps"
    )
    assert len(drawn.findall("polyline")) == 3  # as it was, smoothed, and held out
    texts = [found.text for found in drawn.iter("text")]
    assert "bigram <b>" in texts and "held out" in texts
    for line in drawn.findall("polyline"):
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= 560 and 0 <= y <= 220


@pytest.mark.parametrize(
    "history",
    [[], [{"step": 1.0, "loss": 0.5}], [{"step": 0.0, "eval_loss": 0.0}] * 2],
)
def test_few_points_and_flat_ones_can_be_drawn(history: list[dict[str, float]]) -> None:
    drawn = svg(history, unit="nats")
    assert drawn == "" or ElementTree.fromstring(drawn) is not None


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    record: dict[str, Any] = {
        "base": {"name": evil, "quantization": "none", "revision": "0" * 64},
        "method": "full",
        "verb": "classify",
        "labels": [evil],
        "options": {},
        "template": "",
        "prompt": None,
        "columns": {"reads": [evil]},
        "rows": {"train": 1, "said": evil},
        "steps": 1,
        "seconds": 1.0,
        "interrupted": False,
        "licence": evil,
        "history": HISTORY,
        "metrics": {
            "held-out loss before": 2.0,
            "held-out loss": 1.0,
            **label_metrics([evil, "b"], [evil, evil], [evil, "b"]),
        },
    }
    shown = Finetuned(tmp_path, record)._repr_html_()
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 6


def test_a_notebook_is_updated_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, html: Any) -> None:
            shown.append(html.data)

    def display(html: Any, display_id: bool) -> Handle:
        shown.append(html.data)
        return Handle()

    monkeypatch.setattr("nbllm.train.live._in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    clock = iter(n / 10 for n in range(100))
    ticking = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("nbllm.train.live.time", ticking)
    with Live("finetune", "<i>", "out", steps=40, rows=8, unit="nats") as live:
        live.notes.append("step 1: <b>")
        for step in range(1, 31):
            live(HISTORY[:step], step)
        plan = Schedule(40, every=10, part=8, recompute=False, mixed=False)
        live.close(Outcome(HISTORY, steps=30, best_step=20), plan)
    assert len(shown) == 4  # in three seconds, and at the end
    assert "stopped early" in shown[-1] and "&lt;b&gt;" in shown[-1]
    assert "finetune &lt;i&gt;" in shown[-1]
    assert re.search(r"at most \d+ s left", shown[1])

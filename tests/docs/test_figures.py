"""README.md's figures are those of benchmarks/results, and never better."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.docs.pages import ROOT


def results(benchmark: str) -> list[dict[str, Any]]:
    path = ROOT / "benchmarks" / "results" / f"{benchmark}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def row(benchmark: str, **wanted: Any) -> dict[str, Any]:
    (found,) = (one for one in results(benchmark) if wanted.items() <= one.items())
    return found


def down(value: float, digits: int) -> str:
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def up(value: float, digits: int) -> str:
    return f"{math.ceil(value * 10**digits) / 10**digits:.{digits}f}"


def accuracy() -> list[str]:
    found = row("quality", reviews="SST-2")
    interval = re.findall(r"[\d.]+", found["95 %"])
    return [down(found["value"], 3), *interval, f"{found['baseline']:.3f}"]


def speed() -> list[str]:
    rate = "rows / CPU s"
    ours = row("scoring", engine="nbllm, 2,000 rows")[rate]
    best = max(one[rate] for one in results("scoring") if one["engine"].startswith("pipeline, "))
    llama = row("scoring", engine="llama-cpp-python, probabilities")[rate]
    return [down(ours / best, 1), down(ours / llama, 1)]


def recording() -> list[str]:
    ours = row("recording", tokens=1024, way="record, offload")
    theirs = row("recording", tokens=1024, way="output_attentions")
    assert ours["times plain's peak"] <= 1, "README says that it takes no more memory"
    peak = theirs["times plain's peak"]
    return [f"{ours['times plain']:.2f}", down(theirs["times plain"], 2), down(peak, 1)]


def view() -> list[str]:
    ours = row("views", tokens=512, viewer="nbllm")["bytes"]
    theirs = row("views", tokens=512, viewer="bertviz")["bytes"]
    return [f"{ours / 1e3:.0f}", down(theirs / 1e9, 1)]


def memory() -> list[str]:
    shares = [one["forecast / measured"] for one in results("memory")]
    assert len(shares) == 10
    return [down(min(shares), 2), up(max(shares), 2)]


@pytest.mark.parametrize(
    ("beginning", "measured"),
    [
        ("Accuracy on", accuracy),
        ("Speed on", speed),
        ("Recording the attention", recording),
        ("Size of an attention view", view),
        ("Forecast of memory", memory),
    ],
    ids=["accuracy", "speed", "recording", "view", "memory"],
)
def test_a_figure_is_the_measured_one(beginning: str, measured: Callable[[], list[str]]) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (result,) = re.findall(rf"^\| {beginning}.* \| (.*) \|$", page, re.MULTILINE)
    stated = [number for number in re.findall(r"\d+(?:\.\d+)?", result) if number != "95"]
    assert stated == measured()

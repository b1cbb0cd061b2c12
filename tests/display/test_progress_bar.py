"""Bars: redrawn where somebody looks, and a line now and then in a log."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest

import nbllm
import nbllm.display.progress_bar as progress_bar
from nbllm.display.progress_bar import LOG_INTERVAL, ProgressBar, bar_class


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    return clock


@pytest.mark.parametrize("draw", ["update", "set_postfix_str", "refresh"])
def test_a_log_gets_its_first_and_last_line_and_one_every_ten_seconds(
    draw: str, now: list[float]
) -> None:
    arguments = {"update": (1,), "set_postfix_str": ("a note",), "refresh": ()}[draw]
    log = io.StringIO()
    with ProgressBar(total=600, desc="sentiment", file=log, mininterval=0) as bar:
        for second in range(600):
            for _ in range(3):
                now[0] = second + 1.0
                bar.n = second
                getattr(bar, draw)(*arguments)
        bar.n = 600
    lines = log.getvalue().splitlines()
    assert 600 / LOG_INTERVAL <= len(lines) <= 600 / LOG_INTERVAL + 2
    assert all(line.startswith("sentiment: ") for line in lines)
    assert "| 0/600" in lines[0] and "| 600/600" in lines[-1]
    assert "\r" not in log.getvalue()


def test_of_what_is_short_or_vanishes_a_log_gets_little(now: list[float]) -> None:
    log = io.StringIO()
    list(ProgressBar(range(5), file=log, delay=2, leave=False))
    assert log.getvalue() == ""
    list(ProgressBar(range(5), file=log, leave=False))
    assert len(log.getvalue().splitlines()) == 1
    with ProgressBar(total=0, file=log):
        pass
    assert len(log.getvalue().splitlines()) == 2  # one line, which is its first and its last


def test_in_a_terminal_it_is_tqdms_bar() -> None:
    log = Terminal()
    with ProgressBar(total=3, file=log, mininterval=0) as bar:
        for _ in range(3):
            bar.update()
    assert log.getvalue().count("\r") >= 4 and log.getvalue().endswith("\n")
    assert bar_class() is ProgressBar


def test_all_bars_are_made_by_one_module() -> None:
    root = Path(nbllm.__file__).parent
    makers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tqdm")
        or (isinstance(node, ast.Import) and any(a.name.startswith("tqdm") for a in node.names))
    }
    assert makers == {"display/progress_bar.py"}

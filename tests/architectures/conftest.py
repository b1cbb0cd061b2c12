"""The table of verdicts: printed at the end, and written where NBLLM_ARCHITECTURES_TABLE says."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import transformers

_HEAD = """# Architectures

This page shows how nbllm handles every text architecture of transformers {version}. Each is
built as a tiny random network with windows of eight tokens. The answers of a row alone, beside a
shorter row, and beside a much longer one are compared with plain transformers on that row alone,
without a cache. `make architectures` writes this file.

"agrees" means: label probabilities and vectors to 1e-4, texts token for token, attention weights to
1e-4. Where one pass serves all rows of a batch and their common prefix, the table says so. The
other architectures answer rows in groups of one length, or one by one.

| class | model type | verdict |
|---|---|---|
"""


def _verdicts(reporter: Any) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            if "tests/architectures" not in report.nodeid:
                continue
            kind, _, name = report.nodeid.partition("[")[2].rstrip("]").partition("-")
            for key, value in report.user_properties:
                if key == "verdict":
                    task, verdict = value
                    found.setdefault((kind, name), {})[task] = verdict
    return found


def _line(tasks: dict[str, str]) -> str:
    """Tasks of one verdict together."""
    by_verdict: dict[str, list[str]] = {}
    for task, verdict in tasks.items():
        by_verdict.setdefault(verdict, []).append(task)
    return "; ".join(
        verdict if names == ["all"] else f"{', '.join(names)}: {verdict}"
        for verdict, names in by_verdict.items()
    ).replace("|", "\\|")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    verdicts = _verdicts(terminalreporter)
    if not verdicts:
        return
    counts = Counter(
        verdict.partition(":")[0].partition(" (")[0]
        for tasks in verdicts.values()
        for verdict in tasks.values()
    )
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    terminalreporter.write_line(f"architectures: {len(verdicts)}; tasks: {said}")
    table = os.environ.get("NBLLM_ARCHITECTURES_TABLE")
    if table is None:
        return
    lines = [f"| {kind} | {name} | {_line(verdicts[kind, name])} |" for kind, name in verdicts]
    text = _HEAD.format(version=transformers.__version__) + "\n".join(sorted(lines)) + "\n"
    terminalreporter.write(text)
    Path(table).write_text(text, encoding="utf-8")

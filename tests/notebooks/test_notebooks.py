"""The curated notebooks: each runs to its end offline, and is stored as it should be."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from nbllm.models.fetch import catalog
from nbllm.models.fetch.sources import fetch
from tests.conftest import NetworkGuard

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
MAX_LINES = 15
MOST_SECONDS = 180  # of processor, with all rows

# Fewer rows than a reader sees, where the question can be answered with fewer.
PARAMETERS = {
    "00_quickstart": {"ROWS": 30},
    "01_tokens": {"SENTENCES": 40, "ANALOGIES": 200},
    "04_generative_discriminative": {"ROWS": 20, "KNOWN_ROWS": 60},
    "10_sentiment": {"ROWS": 60},
    "11_chinese_sentiment": {"ROWS": 8},
    "20_summarization": {"ROWS": 4},
    "21_translation": {"ROWS": 5},
    "22_question_answering": {"ROWS": 4, "CHINESE_ROWS": 1},
    "23_customer_service": {"ROWS": 24, "MESSAGES": 6},
    "24_recommendation": {"FILMS": 250, "USERS": 60},
    "25_semantic_search": {"PARAGRAPHS": 200, "QUESTIONS": 60},
    "26_classification": {"ROWS": 18},
    "27_own_verb": {"ROWS": 30},
    "32_heads": {"SEQUENCES": 2, "DRAWS": 2},
    "40_models": {"ROWS": 40},
    "50_pretraining": {"TEXTS": 300, "STEPS": 40, "COMPARED": 8},
    "51_finetuning": {"TEST": 16, "HELD": 8, "LSTM_ROWS": 60, "MINILM_ROWS": 32, "LORA_ROWS": 16},
    "52_qlora": {"TRAIN": 40, "TEST": 6, "METHODS": ("qlora",)},
    "60_generation": {"TEXTS": 1, "TOKENS": 12, "MESSAGES": 4},
    "70_privacy": {"ROWS": 40, "PASSAGES": 12},
    "71_fairness": {"PAIRS": 30, "SENTENCES": 24, "REVIEWS": 3},
    "72_interpretability": {"ROWS": 2},
    "73_compute": {"ROWS": 8, "FEW": 3},
    "74_licences": {"ROWS": 6},
    "80_ray": {"ROWS": 12, "WORKERS": ()},
}

# What takes longest, and what tests in a browser run, is executed by `make notebooks`, which
# names this variable, and not by every `make test`.
LONG = {
    "00_quickstart",
    "10_sentiment",
    "21_translation",
    "22_question_answering",
    "23_customer_service",
    "24_recommendation",
    "26_classification",
    "31_reasons",
    "40_models",
    "50_pretraining",
    "51_finetuning",
    "52_qlora",
    "60_generation",
    "72_interpretability",
    "73_compute",
    "80_ray",
}
EXECUTED = [
    path for path in NOTEBOOKS if path.stem not in LONG or os.environ.get("NBLLM_ALL_NOTEBOOKS")
]

REFUSE_NETWORK = """
import socket

asked_for = []
connect = socket.socket.connect

def connect_here(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        asked_for.append(address)
        raise ConnectionRefusedError(f"a notebook asked for {address}")
    return connect(self, address)

socket.socket.connect = connect_here
"""


def read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(notebook: NotebookNode, tag: str) -> list[int]:
    return [
        index for index, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])
    ]


def names(path: Path) -> str:
    return path.stem


def test_all_are_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "00_quickstart",
        "01_tokens",
        "02_self_attention",
        "03_encoder_decoder",
        "04_generative_discriminative",
        "10_sentiment",
        "11_chinese_sentiment",
        "20_summarization",
        "21_translation",
        "22_question_answering",
        "23_customer_service",
        "24_recommendation",
        "25_semantic_search",
        "26_classification",
        "27_own_verb",
        "30_attention",
        "31_reasons",
        "32_heads",
        "40_models",
        "50_pretraining",
        "51_finetuning",
        "52_qlora",
        "60_generation",
        "70_privacy",
        "71_fairness",
        "72_interpretability",
        "73_compute",
        "74_licences",
        "80_ray",
    ]


@pytest.mark.long
@pytest.mark.parametrize("path", EXECUTED, ids=names)
def test_runs_to_its_end(
    path: Path,
    jupyter_path: Path,
    network_guard: NetworkGuard,
    tmp_path: Path,
    ledger_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notebook = read(path)
    (after_parameters,) = [index + 1 for index in tagged(notebook, "parameters")]
    overrides = PARAMETERS.get(path.stem, {})
    with network_guard.open():
        fetch(catalog.DEFAULT)  # as set-up would: the notebook may not ask for them
        for name in ("minilm", "gemma3-270m"):
            if any(f'"{name}"' in cell.source for cell in code_cells(path)):
                fetch(name, accept_license=True)
    changed = "\n".join(f"{name} = {value}" for name, value in overrides.items())
    notebook.cells.insert(after_parameters, new_code_cell(changed))
    notebook.cells.insert(0, new_code_cell(REFUSE_NETWORK))
    notebook.cells.append(new_code_cell("assert not asked_for, asked_for"))
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter_path))
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()  # a cell that raises ends the test with its traceback
    asks_a_model = any(".llm." in cell.source for cell in code_cells(path))
    leaves_it_out = any(
        way in cell.source for cell in code_cells(path) for way in ("ledger=False", "NBLLM_LEDGER")
    )
    assert ledger_path.exists() == asks_a_model or leaves_it_out
    warned = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and "Warning" in output.text
    ]
    assert not warned
    charts = [
        output.data[PLOTLY]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if PLOTLY in output.get("data", {})
    ]
    assert [cut for chart in charts for cut in cut_off(chart)] == []


PLOTLY = "application/vnd.plotly.v1+json"


def numbers(values: Any) -> list[float]:
    """What of a trace's values are numbers, as plotly writes them: as a list, or packed."""
    if isinstance(values, dict):
        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return [value for value in values or () if isinstance(value, (int, float)) and value == value]


def cut_off(chart: dict[str, Any]) -> list[str]:
    """What lies outside of the range that an axis was given, and bars without their foot."""
    found = []
    for trace in chart["data"]:
        kind = trace.get("type")
        foot = trace.get("orientation") or "v"
        for side in "xy":
            axis = trace.get(f"{side}axis", side).replace(side, f"{side}axis", 1)
            settings = chart["layout"].get(axis, {})
            if "range" not in settings:
                continue
            low, high = settings["range"]
            if settings.get("type") == "log":
                low, high = 10.0**low, 10.0**high
            outside = [n for n in numbers(trace.get(side)) if not low - 1e-9 <= n <= high + 1e-9]
            if outside:
                found.append(f"{kind} {side}: {outside[:3]} outside of {low} to {high}")
            if kind == "bar" and (foot == "v") == (side == "y") and low > 0:
                found.append(f"a bar begins at {low}")
    return found


@pytest.mark.parametrize(
    ("trace", "axis", "said"),
    [
        ({"type": "scatter", "x": [1, 2], "y": [0.4, 0.9]}, [0.5, 1], "[0.4] outside"),
        ({"type": "scatter", "x": [1, 2], "y": [0.5, 1.0]}, [0.5, 1], ""),
        ({"type": "bar", "x": ["a"], "y": [0.9]}, [0.4, 1], "a bar begins at 0.4"),
        ({"type": "bar", "x": ["a"], "y": [0.9]}, [0, 1], ""),
    ],
)
def test_what_a_chart_cuts_off_is_found(trace, axis, said) -> None:
    found = cut_off({"data": [trace], "layout": {"yaxis": {"range": axis}}})
    assert (said in found[0]) if said else not found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_is_stored_without_outputs(path: Path) -> None:
    nbformat.validate(read(path))
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_reads_well(path: Path) -> None:
    notebook = read(path)
    first = notebook.cells[0].source
    assert first.startswith("# ") and "?" in first.splitlines()[0], "one question, at the top"
    assert "GB of memory" in first and "minute" in first, "what it takes is said at the top"
    assert len(tagged(notebook, "parameters")) == 1
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any(text.startswith("## Where it ") for text in prose), "a failure is shown"
    cells = code_cells(path)
    assert all(len(cell.source.splitlines()) <= MAX_LINES for cell in cells)
    assert cells[-1].source.startswith("assert ")
    assert len(tagged(notebook, "picture")) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_the_gallery_shows_it(path: Path) -> None:
    page = (FOLDER.parent / "docs" / "gallery.md").read_text(encoding="utf-8")
    title = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
    assert f"[{title}](../notebooks/{path.name})" in page, "`make gallery` has not been run since"
    assert f"](gallery/{path.stem}.webp)" in page
    assert (FOLDER.parent / "docs" / "gallery" / f"{path.stem}.webp").is_file()
    taken = json.loads((FOLDER.parent / "docs" / "gallery" / "taken.json").read_text("utf-8"))
    assert taken[path.stem]["cpu_seconds"] <= MOST_SECONDS


def test_the_demo_has_one_table_to_print() -> None:
    assert len(tagged(read(FOLDER / "00_quickstart.ipynb"), "demo-table")) == 1

"""Runs the curated notebooks as they stand, and makes the gallery of them.

`python notebooks/gallery.py [name ...]` executes those named, or all, and writes for each
build/gallery/<name>.html, with its outputs and readable without a network;
docs/gallery/<name>.webp, a picture of what its cell tagged `picture` shows; and what it took,
to docs/gallery/taken.json. Then docs/gallery.md is written anew from all that is there.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from demo import execute, html
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image
from playwright.sync_api import sync_playwright

from nbllm.lab.gallery import CuratedNotebook, curated_notebooks

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "gallery"
PICTURES = ROOT / "docs" / "gallery"
TAKEN = PICTURES / "taken.json"
GALLERY = ROOT / "docs" / "gallery.md"

PARTS = {
    "0": "Start, and concepts",
    "1": "Sentiment",
    "2": "Applications",
    "3": "Inspection",
    "4": "Models",
    "5": "Making models",
    "6": "Generation",
    "7": "Challenges",
    "8": "Scale",
}
MEASURE = """
import json, resource
from resource import RUSAGE_CHILDREN, RUSAGE_SELF

_own, _others = (resource.getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
_seconds = sum(used.ru_utime + used.ru_stime for used in (_own, _others))
print(json.dumps({"cpu_seconds": round(_seconds), "memory_gb": round(_own.ru_maxrss / 1e6, 1)}))
"""
WIDE, TALL = 880, 520  # of a picture at most, in CSS pixels
ONLY_CHARTS = ".jp-OutputArea:has([data-mime-type='text/html']) .jp-RenderedText { display: none }"
BESIDE = 110  # of a page, beside its outputs


def executed(path: Path) -> tuple[NotebookNode, dict[str, float]]:
    """The notebook with its outputs, and what its kernel took."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    notebook.cells.append(new_code_cell(MEASURE))
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        nbformat.write(notebook, copy)
        # An empty one, so that what it takes is what it takes a reader.
        os.environ["NBLLM_LEDGER"] = str(Path(folder) / "ledger.sqlite")
        done = execute(copy)
    return done, json.loads(done.cells.pop().outputs[0].text)


def picture(page: Path, cell: str, target: Path) -> None:
    """What the page shows below a cell."""
    with sync_playwright() as playwright:
        on_path = (shutil.which(name) for name in ("chromium", "google-chrome"))
        chromium = os.environ.get("NBLLM_CHROMIUM") or next(filter(None, on_path), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(
            viewport={"width": WIDE + BESIDE, "height": 900}, color_scheme="light"
        )
        shown.goto(page.as_uri())
        output = shown.locator(f"[id='cell-id={cell}'] .jp-OutputArea").first
        shown.add_style_tag(content=ONLY_CHARTS)
        output.scroll_into_view_if_needed()
        shown.wait_for_timeout(1500)  # plotly draws
        box = output.bounding_box()
        assert box is not None, f"{page.name}: the cell tagged `picture` shows nothing"
        taken = shown.screenshot(
            full_page=True,
            clip={
                "x": box["x"],
                "y": box["y"] + shown.evaluate("scrollY"),
                "width": box["width"],
                "height": min(box["height"], TALL),
            },
        )
        browser.close()
    Image.open(io.BytesIO(taken)).convert("RGB").save(target, "WEBP", quality=80, method=6)


def make(path: Path) -> dict[str, float]:
    """Execute a notebook, and write its page and its picture."""
    notebook, taken = executed(path)
    page = PAGES / f"{path.stem}.html"
    page.write_text(html(notebook), encoding="utf-8")
    (tagged,) = (cell.id for cell in notebook.cells if "picture" in cell.metadata.get("tags", []))
    picture(page, tagged, PICTURES / f"{path.stem}.webp")
    return taken


def written(notebooks: list[CuratedNotebook], taken: dict[str, dict[str, float]]) -> str:
    """The gallery, as Markdown."""
    lines = [
        "# The notebooks",
        "",
        "Each notebook asks one question, opens with its answer, shows where it fails, and ends in "
        "an assert on its result. Each picture is an output of the notebook. Below it stand the "
        "processor time and the memory that the notebook took on a machine without a GPU, loading "
        "of models included. `make gallery` executes all notebooks again and writes pages with all "
        "outputs to `build/gallery`. In JupyterLab the launcher opens copies.",
        "",
    ]
    part = ""
    for notebook in notebooks:
        stem = notebook.name.removesuffix(".ipynb")
        if PARTS[stem[0]] != part:
            part = PARTS[stem[0]]
            lines += [f"## {part}", ""]
        lines += [f"### [{notebook.title}](../notebooks/{notebook.name})", "", notebook.summary, ""]
        if stem in taken:
            took = taken[stem]
            lines += [f"*{took['cpu_seconds']} s, {took['memory_gb']} GB*", ""]
        if (PICTURES / f"{stem}.webp").is_file():
            lines += [f"![An output of {stem}](gallery/{stem}.webp)", ""]
    return "\n".join(lines)


def main(names: list[str]) -> None:
    for folder in (PAGES, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    notebooks = curated_notebooks()
    here = {notebook.name.removesuffix(".ipynb") for notebook in notebooks}
    taken = json.loads(TAKEN.read_text(encoding="utf-8")) if TAKEN.is_file() else {}
    failed = {}
    for name in names or sorted(here):
        try:
            taken[name] = make(Path(__file__).with_name(f"{name}.ipynb"))
        except (CellExecutionError, ValueError) as error:
            failed[name] = error
        print(name, taken.get(name) if name not in failed else "failed", flush=True)
    taken = {name: taken[name] for name in sorted(taken) if name in here}
    TAKEN.write_text(json.dumps(taken, indent=1) + "\n", encoding="utf-8")
    GALLERY.write_text(written(notebooks, taken), encoding="utf-8")
    if failed:
        sys.exit("\n\n".join(f"{name}:\n{error}" for name, error in failed.items()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs the quickstart without a browser: prints its table and says where its HTML is."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from plotly.io import to_html
from traitlets.config import Config

NOTEBOOK = Path(__file__).with_name("00_quickstart.ipynb")
CHART = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDE = "import pandas; pandas.set_option('display.width', 160)"
OUTPUT = NOTEBOOK.parents[1] / "build" / "demo" / "00_quickstart.html"


def execute(path: Path) -> NotebookNode:
    """The notebook with its outputs; its own folder is the working directory."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        # Its warning, that a kernel on the loopback interface is not encrypted, helps no one here.
        extra_arguments=["--log-level=ERROR", f"--IPKernelApp.exec_lines={WIDE}"],
        # The widgets' live state would need a script from a CDN to show; their static form
        # is in the outputs.
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    return notebook


def table(notebook: NotebookNode) -> str:
    """The plain text of the cell tagged demo-table."""
    for cell in notebook.cells:
        if "demo-table" in cell.metadata.get("tags", []):
            shown = [output.data["text/plain"] for output in cell.outputs if "data" in output]
            return str(shown[-1])
    raise LookupError(f"no cell of {NOTEBOOK.name} is tagged demo-table")


def write_charts_as_html(notebook: NotebookNode) -> None:
    """Give each plotly chart an HTML form; the first brings the script that all of them use.

    JupyterLab draws the charts itself, from data that no HTML page can read. Plotly's own
    renderers for pages ask a CDN for MathJax.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    charts = [output.data for output in outputs if CHART in output.get("data", {})]
    for position, data in enumerate(charts):
        data["text/html"] = to_html(
            {name: data[CHART][name] for name in ("data", "layout")},
            full_html=False,
            include_plotlyjs=position == 0,
            include_mathjax=False,
            validate=False,
        )


def leave_out_widgets(notebook: NotebookNode) -> None:
    """Drop live widgets, of which a page has only a line of text; their still form stays."""
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [
                output
                for output in cell.outputs
                if WIDGET not in output.get("data", {}) or "text/html" in output.data
            ]


def html(notebook: NotebookNode) -> str:
    """One HTML file that shows the same with the network off."""
    leave_out_widgets(notebook)
    write_charts_as_html(notebook)
    offline = Config()
    offline.HTMLExporter.require_js_url = ""
    offline.HTMLExporter.mathjax_url = ""
    offline.HTMLExporter.jupyter_widgets_base_url = ""
    offline.HTMLExporter.html_manager_semver_range = ""
    offline.NbConvertBase.display_data_priority = [
        "text/html",
        "image/svg+xml",
        "image/png",
        "text/markdown",
        "text/plain",
    ]
    page, _ = HTMLExporter(config=offline).from_notebook_node(notebook)
    return str(page)


def main() -> None:
    try:
        notebook = execute(NOTEBOOK)
    except CellExecutionError as error:
        sys.exit(f"{NOTEBOOK.name} stopped at a cell:\n{error}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(html(notebook), encoding="utf-8")
    print(table(notebook))
    print(f"\nThe whole notebook, with its outputs: {OUTPUT.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()

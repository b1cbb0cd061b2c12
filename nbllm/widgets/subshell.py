"""Lets the browser's requests be answered while a cell runs.

Three things show something where the kernel cannot answer at once, and none replaces another:
this, which answers what a reader does to a view while another cell runs, where the front end has
subshells; the initial answers, which ride in a view's state, so that any front end draws it
without a request; and the static HTML, which stands where there is no kernel.
"""

from __future__ import annotations

from typing import Any

__all__ = ["answer_beside_cells"]


def answer_beside_cells(comm: Any) -> None:
    """Answer a widget's messages while a cell runs, where the front end has subshells.

    JupyterLab sends the messages of widgets to a subshell of the kernel: a thread beside the cells.
    ipykernel 7.4 passes it on to the shell that spoke on the comm last, which is the one at work.
    Traits that the browser sets still go to the shell that opened the comm, as code that awaits
    one is woken by its own event loop alone. Nothing changes where a kernel routes no messages.

    Args:
        comm: of the widget, just opened.
    """
    route = getattr(comm, "_reply_subshell_for", None)
    if route is None:
        return
    opened_in = route(None, None)

    def to_named(data: Any, named: str | None) -> str | None:
        own = isinstance(data, dict) and data.get("method") == "custom"
        return named if own else opened_in

    comm._reply_subshell_for = to_named

"""Answers the browser's requests while a cell runs.

Three mechanisms complement each other where the kernel cannot answer at once: this one, for
requests while another cell runs, in front ends with subshells; initial answers in a view's state,
with which any front end draws it without a request; and static HTML, for pages without a kernel.
"""

from __future__ import annotations

from typing import Any

__all__ = ["answer_while_busy"]


def answer_while_busy(comm: Any) -> None:
    """Answer a widget's messages while a cell runs, where the front end has subshells.

    JupyterLab sends the messages of widgets to a subshell of the kernel, a thread of its own.
    ipykernel 7.4 forwards them to the shell that used the comm last, which is the busy one. This
    function keeps custom messages in the subshell. Traits that the browser sets still go to the
    shell that opened the comm, since its event loop has to wake the code that awaits them. Kernels
    that do not route messages are left unchanged.

    Args:
        comm: The newly opened comm of the widget.
    """
    route = getattr(comm, "_reply_subshell_for", None)
    if route is None:
        return
    opened_in = route(None, None)

    def reply_shell(data: Any, named: str | None) -> str | None:
        is_custom = isinstance(data, dict) and data.get("method") == "custom"
        return named if is_custom else opened_in

    comm._reply_subshell_for = reply_shell

"""Questions of the browser, answered while a cell runs."""

from __future__ import annotations

from typing import Any

from nbllm.errors import NbllmError

__all__ = ["MISUNDERSTOOD", "answer_beside_cells"]

# What a message that makes no sense ends in; it is answered, whoever sent it.
MISUNDERSTOOD = (NbllmError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def answer_beside_cells(comm: Any) -> None:
    """Let a widget hear its own messages while a cell runs, where the front end asks for that.

    JupyterLab sends what widgets say to a subshell of the kernel: a thread beside the cells.
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

"""The panel below the table, with the explanation of the row that was opened last."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import ipywidgets

from nbllm.escaping import escape
from nbllm.widgets.explanation import Explanation
from nbllm.widgets.view import close_tree

__all__ = ["ExplanationPanel"]

_STYLE = "line-height:1.5;white-space:normal"  # ipywidgets would have it for form fields
_RUNNING = "The model is asked once more; this takes seconds."
_ATTRIBUTING = "Which words speak for it is being computed …"


class ExplanationPanel:
    """A box with the explanation of one row at a time, computed beside the notebook.

    Args:
        explain: gives the explanation of a row by its position.
        name: gives the heading of a row.
    """

    def __init__(self, explain: Callable[[int], Explanation], name: Callable[[int], str]) -> None:
        self._explain = explain
        self._name = name
        self._opened = 0
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False
        self._change = Lock()  # of the explanation that is shown
        self.explanation: Explanation | None = None
        self.message: Any = ipywidgets.HTML()
        self.box: Any = ipywidgets.VBox()
        self.box.add_class("nbllm-explanation-panel")

    def start(self, row: int) -> Future[None]:
        """Explain a row in a thread, so that the table still answers."""
        self._opened += 1
        self.box.children = (self.message,)
        self._say(row, _RUNNING)
        return self.run_in_thread(self._open_if_last, row, self._opened)

    def run_in_thread(self, work: Callable[..., None], *given: int) -> Future[None]:
        """Run a function in the thread of the explanations."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "nbllm-explorer")
        return self._thread.submit(work, *given)

    def open(self, row: int) -> Explanation:
        """Explain a row at once; one that is still being explained in the thread gives way."""
        self._opened += 1
        return self._open(row, lambda: True)

    def close(self) -> None:
        """Close the box with what is in it; what is being computed for it is not shown."""
        with self._change:
            self._opened += 1
            self._closed = True
            self.explanation = None
            close_tree(self.box)
        close_tree(self.message)  # which the box holds only once a row was opened
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _open(self, row: int, go_on: Callable[[], bool]) -> Explanation:
        """Show the attention, then the coloured words once computed, while `go_on()` is true."""
        found = self._explain(row)
        self._replace(found)
        if go_on():
            self._say(row, "" if found.contrast is None else _ATTRIBUTING)
        if found.contrast is not None and go_on():
            words = found.words_html()
            if go_on():
                self._show(row, words)
        return found

    def _open_if_last(self, row: int, opened: int) -> None:
        # A reader who went on to another row waits for that one alone.
        def go_on() -> bool:
            return opened == self._opened

        if not go_on():
            return
        try:
            self._open(row, go_on)
        except Exception as error:  # of any kind: it is shown where the explanation would be
            self._replace(None)
            self._say(row, f"No explanation. {type(error).__name__}: {error}", failed=True)

    def _replace(self, found: Explanation | None) -> None:
        """Show the attention of this explanation, in place of the last one's."""
        view = () if found is None else (found.attention,)
        with self._change:
            if self._closed:
                last = found
            else:
                last, self.explanation = self.explanation, found
                self.box.children = (self.message, *view)
        if last is not None:
            last.attention.close()

    def _say(self, row: int, message: str, failed: bool = False) -> None:
        mark = " data-failed" if failed else ""
        self._show(row, f"<p role='status'{mark}>{escape(message)}</p>" if message else "")

    def _show(self, row: int, html: str) -> None:
        heading = f"<h4 style='margin:8px 0'>{escape(self._name(row))}</h4>"
        self.message.value = f"<div style='{_STYLE}'>{heading}{html}</div>"

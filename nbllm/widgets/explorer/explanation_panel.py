"""The panel below the table, with the explanation of the row opened last."""

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

_STYLE = "line-height:1.5;white-space:normal"  # overrides ipywidgets' style of form fields
_RUNNING = "The model is asked once more; this takes seconds."
_ATTRIBUTING = "Which words speak for it is being computed …"


class ExplanationPanel:
    """A box with the explanation of one row at a time, computed in a background thread.

    Args:
        explain: Returns the explanation of a row, by its position.
        name: Returns the heading of a row, by its position.
    """

    def __init__(self, explain: Callable[[int], Explanation], name: Callable[[int], str]) -> None:
        self._explain = explain
        self._name = name
        self._opened = 0
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False
        self._change = Lock()  # guards `explanation` and the children of `box`
        self.explanation: Explanation | None = None
        self.message: Any = ipywidgets.HTML()
        self.box: Any = ipywidgets.VBox()
        self.box.add_class("nbllm-explanation-panel")

    def start(self, row: int) -> Future[None]:
        """Explain a row in the background thread, so that the table stays responsive."""
        self._opened += 1
        self.box.children = (self.message,)
        self._show_message(row, _RUNNING)
        return self.run_in_thread(self._open_if_last, row, self._opened)

    def run_in_thread(self, work: Callable[..., None], *arguments: int) -> Future[None]:
        """Run `work(*arguments)` in the background thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "nbllm-explorer")
        return self._thread.submit(work, *arguments)

    def open(self, row: int) -> Explanation:
        """Explain a row now; the background thread abandons the row that it works on."""
        self._opened += 1
        return self._open(row, lambda: True)

    def close(self) -> None:
        """Close the box and its content; running computations are abandoned."""
        with self._change:
            self._opened += 1
            self._closed = True
            self.explanation = None
            close_tree(self.box)
        close_tree(self.message)  # not in the box before a row is opened
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _open(self, row: int, is_current: Callable[[], bool]) -> Explanation:
        """Show the attention and then the coloured words, as long as `is_current()` is true."""
        explanation = self._explain(row)
        self._replace(explanation)
        if is_current():
            self._show_message(row, "" if explanation.contrast is None else _ATTRIBUTING)
        if is_current():
            is_label = explanation.contrast is not None
            found = explanation.words_html() if is_label else explanation.evidence_html()
            if is_current() and (is_label or found):
                self._show(row, found)
        return explanation

    def _open_if_last(self, row: int, opened: int) -> None:
        # A user who has opened another row need not wait for this one.
        def is_current() -> bool:
            return opened == self._opened

        if not is_current():
            return
        try:
            self._open(row, is_current)
        except Exception as error:  # of any kind: it is shown in place of the explanation
            self._replace(None)
            self._show_message(row, f"No explanation. {type(error).__name__}: {error}", failed=True)

    def _replace(self, explanation: Explanation | None) -> None:
        """Show the attention of an explanation in place of the previous one."""
        view = () if explanation is None else (explanation.attention,)
        with self._change:
            if self._closed:
                previous = explanation
            else:
                previous, self.explanation = self.explanation, explanation
                self.box.children = (self.message, *view)
        if previous is not None:
            previous.attention.close()

    def _show_message(self, row: int, message: str, failed: bool = False) -> None:
        mark = " data-failed" if failed else ""
        self._show(row, f"<p role='status'{mark}>{escape(message)}</p>" if message else "")

    def _show(self, row: int, html: str) -> None:
        heading = f"<h4 style='margin:8px 0'>{escape(self._name(row))}</h4>"
        self.message.value = f"<div style='{_STYLE}'>{heading}{html}</div>"

"""What stands below the table: why the row that was opened last got its answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import ipywidgets

from nbllm.escaping import escape
from nbllm.widgets.explanation import Explanation
from nbllm.widgets.view import close_tree

__all__ = ["Why"]

_STYLE = "line-height:1.5;white-space:normal"  # ipywidgets would have it for form fields
_ASKING = "The model is asked once more; this takes seconds."
_PAINTING = "Which words speak for it is being computed …"


class Why:
    """A box with the explanation of one row at a time, computed beside the notebook.

    Takes what gives the explanation of a row by its position, and what a row is called.
    """

    def __init__(self, explain: Callable[[int], Explanation], name: Callable[[int], str]) -> None:
        self._explain = explain
        self._name = name
        self._asked = 0
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False
        self._change = Lock()  # of the explanation that is shown
        self.explanation: Explanation | None = None
        self.said: Any = ipywidgets.HTML()
        self.box: Any = ipywidgets.VBox()
        self.box.add_class("nbllm-why")

    def start(self, row: int) -> Future[None]:
        """Explain a row in a thread, so that the table still answers."""
        self._asked += 1
        self.box.children = (self.said,)
        self._say(row, _ASKING)
        return self.beside(self._open_if_last, row, self._asked)

    def beside(self, work: Callable[..., None], *given: int) -> Future[None]:
        """Do something in that thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "nbllm-explorer")
        return self._thread.submit(work, *given)

    def open(self, row: int) -> Explanation:
        """Explain a row at once; one that is still being explained in the thread gives way."""
        self._asked += 1
        return self._open(row, lambda: True)

    def close(self) -> None:
        """Close the box with what is in it; what is being computed for it is not shown."""
        with self._change:
            self._asked += 1
            self._closed = True
            self.explanation = None
            close_tree(self.box)
        close_tree(self.said)  # which the box holds only once a row was opened
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _open(self, row: int, go_on: Callable[[], bool]) -> Explanation:
        """The attention first, and the painted words as they are there, while `go_on` says so."""
        why = self._explain(row)
        self._replace(why)
        if go_on():
            self._say(row, "" if why.contrast is None else _PAINTING)
        if why.contrast is not None and go_on():
            words = why.words_html()
            if go_on():
                self._show(row, words)
        return why

    def _open_if_last(self, row: int, asked: int) -> None:
        # A reader who went on to another row waits for that one alone.
        def go_on() -> bool:
            return asked == self._asked

        if not go_on():
            return
        try:
            self._open(row, go_on)
        except Exception as error:  # of any kind: it is shown where the explanation would be
            self._replace(None)
            self._say(row, f"No explanation. {type(error).__name__}: {error}", failed=True)

    def _replace(self, why: Explanation | None) -> None:
        """Show the attention of this explanation, in place of the last one's."""
        view = () if why is None else (why.attention,)
        with self._change:
            if self._closed:
                last = why
            else:
                last, self.explanation = self.explanation, why
                self.box.children = (self.said, *view)
        if last is not None:
            last.attention.close()

    def _say(self, row: int, message: str, failed: bool = False) -> None:
        mark = " data-failed" if failed else ""
        self._show(row, f"<p role='status'{mark}>{escape(message)}</p>" if message else "")

    def _show(self, row: int, html: str) -> None:
        heading = f"<h4 style='margin:8px 0'>{escape(self._name(row))}</h4>"
        self.said.value = f"<div style='{_STYLE}'>{heading}{html}</div>"

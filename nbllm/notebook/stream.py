"""Displays a text while it is generated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from IPython.display import DisplayHandle

from nbllm.escaping import escape, say, visible

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["Stream"]

_PAUSE = 0.1  # seconds between two updates
_TEXT = (
    "white-space:pre-wrap;overflow-wrap:anywhere;max-width:64em;"
    "color:var(--jp-content-font-color1,CanvasText);"
    "font:var(--jp-content-font-size1,14px)/1.6 var(--jp-content-font-family,system-ui,sans-serif)"
)
_ABOUT = (
    "margin-top:4px;color:var(--jp-ui-font-color2,GrayText);"
    "font:var(--jp-ui-font-size1,13px)/1.5 var(--jp-ui-font-family,system-ui,sans-serif)"
)


class Stream:
    """A display of growing text: one updated output in a notebook, printed text in a terminal."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._handle = DisplayHandle() if hasattr(shell, "kernel") else None  # type: ignore[no-untyped-call]
        self._shown = False
        self._last = 0.0
        self._printed = 0

    def update(self, text: str) -> None:
        """Show the text generated so far."""
        if self._handle is None:
            # A final carriage return may be the first half of a line break.
            written = visible(text.removesuffix("\r"))
            say(written[self._printed :], end="")
            self._printed = len(written)
        elif time.monotonic() - self._last >= _PAUSE:
            self._show(text, "")

    def end(self, text: str, about: str) -> None:
        """Show the final text, and a line about it."""
        if self._handle is None:
            say(f"{visible(text)[self._printed :]}\n({about})")
        else:
            self._show(text, about)

    def _show(self, text: str, about: str) -> None:
        assert self._handle is not None
        self._last = time.monotonic()
        line = f"<div style='{_ABOUT}'>{escape(about)}</div>" if about else ""
        bundle = {
            "text/html": f"<div class='nbllm-written' style='{_TEXT}'>{escape(text)}</div>{line}",
            "text/plain": visible(text),
        }
        if self._shown:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.display(bundle, raw=True)  # type: ignore[no-untyped-call]
            self._shown = True

"""Progress bars: redrawn in terminals and notebooks; in a log, a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import auto, std

from nbllm.escaping import visible

__all__ = ["LOG_INTERVAL", "ProgressBar", "bar_class"]

LOG_INTERVAL = 10.0  # seconds between two lines of a log, at least


class ProgressBar(std.tqdm):  # type: ignore[misc]
    """A tqdm bar that writes whole lines if its file is not a terminal.

    The first and the last state are always written, and at most one every ten seconds in between.
    """

    _written: float | None = None
    _line = ""
    _is_closing = False

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, or the text `msg` in its place."""
        line = visible(str(self) if msg is None else msg).replace("\n", " ")
        if self._is_terminal():
            return super().display(line, pos)
        now = time.monotonic()
        due = self._written is None or self._is_closing or now - self._written >= LOG_INTERVAL
        if due and line not in ("", self._line):  # tqdm clears a bar with an empty line
            self._written, self._line = now, line
            self.fp.write(f"{line}\n")
            self.fp.flush()
        return due

    def clear(self, *arguments: Any, **options: Any) -> None:
        """Clear the bar in a terminal; do nothing in a log."""
        if self._is_terminal():
            super().clear(*arguments, **options)

    def close(self) -> None:
        """Close the bar; its last state stays unless `leave=False`."""
        if not self.disable and not self._is_terminal():
            self._is_closing = True
            if self.leave is not False and self._written is not None:
                self.display()
            self.sp = None  # keeps tqdm from drawing it again
        super().close()

    def _is_terminal(self) -> bool:
        return bool(getattr(self.fp, "isatty", bool)())


def bar_class() -> type[Any]:
    """Return the bar class of this process: tqdm's widget in a notebook, else `ProgressBar`."""
    notebook = sys.modules.get("tqdm.notebook")
    if notebook is not None and issubclass(auto.tqdm, notebook.tqdm_notebook):
        widget: type[Any] = auto.tqdm
        return widget
    return ProgressBar

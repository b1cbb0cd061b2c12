"""Progress bars: redrawn in a terminal and a notebook; in a log, a line every ten seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import auto, std

from nbllm.escaping import visible

__all__ = ["LINES_EVERY", "ProgressBar", "bar_class"]

LINES_EVERY = 10.0  # seconds at least between two lines of a log


class ProgressBar(std.tqdm):  # type: ignore[misc]
    """A tqdm bar that writes whole lines if its file is no terminal.

    The first state and the last are always written, and one every ten seconds between them.
    """

    _written: float | None = None
    _line = ""
    _is_over = False

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar, or another text in its place."""
        line = visible(str(self) if msg is None else msg).replace("\n", " ")
        if self._is_terminal():
            return super().display(line, pos)
        now = time.monotonic()
        due = self._written is None or self._is_over or now - self._written >= LINES_EVERY
        if due and line not in ("", self._line):  # an empty one takes a bar away
            self._written, self._line = now, line
            self.fp.write(f"{line}\n")
            self.fp.flush()
        return due

    def clear(self, *arguments: Any, **options: Any) -> None:
        """Take the bar away in a terminal; in a log, what is written stays."""
        if self._is_terminal():
            super().clear(*arguments, **options)

    def close(self) -> None:
        """End the bar, with its last state left unless `leave=False`."""
        if not self.disable and not self._is_terminal():
            self._is_over = True
            if self.leave is not False and self._written is not None:
                self.display()
            self.sp = None  # so that tqdm draws it no more
        super().close()

    def _is_terminal(self) -> bool:
        return bool(getattr(self.fp, "isatty", bool)())


def bar_class() -> type[Any]:
    """Return the bar class for this process: tqdm's widget in a notebook, else `ProgressBar`."""
    notebook = sys.modules.get("tqdm.notebook")
    if notebook is not None and issubclass(auto.tqdm, notebook.tqdm_notebook):
        widget: type[Any] = auto.tqdm
        return widget
    return ProgressBar

"""The base class of nbllm's widgets, which frees a closed widget."""

from __future__ import annotations

from collections.abc import Iterator

import anywidget
from ipywidgets import Widget

__all__ = ["View", "close_tree"]


class View(anywidget.AnyWidget):
    """A widget that can be garbage-collected once it is closed.

    Subclasses define scripts and styles as text: for a path, anywidget connects each widget to a
    signal of the file, which keeps it alive as long as the class.
    """

    def close(self) -> None:
        """Close the widget and the widgets in its traits."""
        if self.comm is None:  # closed, or never opened since the constructor raised
            return
        parts = list(_parts(self))
        super().close()
        for part in parts:
            close_tree(part)


def close_tree(widget: Widget) -> None:
    """Close a widget and the widgets in its traits: children, layout, style.

    `Widget.close` leaves the others registered.
    """
    if widget.comm is None:  # closed: a widget may be its own descendant
        return
    parts = list(_parts(widget))
    widget.close()
    for part in parts:
        close_tree(part)


def _parts(widget: Widget) -> Iterator[Widget]:
    """Yield the widgets in the synced traits of a widget."""
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Widget):
                yield part

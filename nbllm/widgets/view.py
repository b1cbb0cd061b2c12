"""The base of nbllm's widgets: closing one frees it."""

from __future__ import annotations

from collections.abc import Iterator

import anywidget
from ipywidgets import Widget

__all__ = ["View", "close_tree"]


class View(anywidget.AnyWidget):
    """A widget that nothing keeps in memory once it is closed and no longer referred to.

    Scripts and styles are given to it as text: for a path, anywidget connects every widget to a
    signal of the file, for as long as the class lives.
    """

    def close(self) -> None:
        """Close the widget with its layout and whatever else belongs to it."""
        if self.comm is None:  # closed already or, where the constructor raised, never opened
            return
        parts = list(_parts(self))
        super().close()
        for part in parts:
            close_tree(part)


def close_tree(widget: Widget) -> None:
    """Close a widget and all those in its traits: children, layout, style.

    ipywidgets closes the one alone, and keeps the others registered.
    """
    if widget.comm is None:  # closed; a widget may be among its children's children
        return
    parts = list(_parts(widget))
    widget.close()
    for part in parts:
        close_tree(part)


def _parts(widget: Widget) -> Iterator[Widget]:
    """The widgets in the synced traits of a widget."""
    for name in widget.keys:
        value = getattr(widget, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Widget):
                yield part

"""The frame of what a run shows of itself: a card with terms and texts, all escaped."""

from __future__ import annotations

from collections.abc import Mapping

from nbllm.display.theme import STYLE
from nbllm.escaping import escape, visible

__all__ = ["card", "listed", "plain"]

# JupyterLab gives a term in a list a fifth of the width, and its text the rest.
_WHOLE = "width:auto;float:none"


def card(title: str, *parts: str) -> str:
    """HTML parts below a title."""
    return (
        f'<div style="{STYLE["card"]}"><div style="{STYLE["name"]}">{escape(title)}</div>'
        f"{''.join(parts)}</div>"
    )


def listed(lines: Mapping[str, str]) -> str:
    """Terms and texts as HTML."""
    rows = "".join(
        f'<dt style="{STYLE["term"]};{_WHOLE}">{escape(term)}</dt>'
        f'<dd style="{STYLE["value"]};{_WHOLE}">{escape(text)}</dd>'
        for term, text in lines.items()
    )
    return f'<dl style="{STYLE["group"]}">{rows}</dl>'


def plain(title: str, lines: Mapping[str, str]) -> str:
    """Terms and texts as text."""
    width = max(map(len, lines))
    return visible(
        "\n".join([title, *(f"  {term:<{width}}  {text}" for term, text in lines.items())])
    )

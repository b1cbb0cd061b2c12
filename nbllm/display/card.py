"""Renders cards: a title with terms, tables and remarks; all text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbllm.display.theme import STYLE
from nbllm.escaping import escape, visible

__all__ = ["card", "remarks", "side_by_side", "terms", "terms_text"]


def card(title: str, *parts: str) -> str:
    """Return a card as HTML: no script, no class, nothing fetched.

    Args:
        title: Plain text; empty for a card without a title.
        parts: The HTML of the parts, from top to bottom.
    """
    name = f'<div style="{STYLE["name"]}">{escape(title)}</div>' if title else ""
    return f'<div style="{STYLE["card"]}">{name}{"".join(parts)}</div>'


def remarks(*texts: str) -> str:
    """Return the non-empty texts as HTML, as faint lines."""
    return "".join(f'<div style="{STYLE["about"]}">{escape(text)}</div>' for text in texts if text)


def terms(lines: Mapping[str, str] | Iterable[tuple[str, str]], *, link: bool = False) -> str:
    """Return terms and their texts as HTML.

    Args:
        lines: The text of each term; pairs if a term occurs twice.
        link: Whether a text that is a web address becomes a link.
    """
    pairs: Any = lines.items() if isinstance(lines, Mapping) else lines
    rows = "".join(
        f'<dt style="{STYLE["term"]}">{escape(term)}</dt>'
        f'<dd style="{STYLE["value"]}">{_linked(text) if link else escape(text)}</dd>'
        for term, text in pairs
    )
    return f'<dl style="{STYLE["group"]}">{rows}</dl>'


def side_by_side(*parts: str) -> str:
    """Return parts of HTML side by side, or below each other on a narrow page."""
    return f'<div style="{STYLE["side_by_side"]}">{"".join(parts)}</div>'


def terms_text(
    title: str, lines: Mapping[str, str] | Iterable[tuple[str, str]], *, about: str = ""
) -> str:
    """Return a title with terms and their texts below it, as text for a terminal.

    Args:
        title: The first line.
        lines: The text of each term; pairs if a term occurs twice.
        about: A line between title and terms.
    """
    pairs = list(lines.items() if isinstance(lines, Mapping) else lines)
    width = max((len(term) for term, _ in pairs), default=0)
    below = [f"  {about}"] if about else []
    below += [f"  {term:<{width}}  {text}" for term, text in pairs]
    return visible("\n".join([title, *below]))


def _linked(text: str) -> str:
    shown = escape(text)
    if not text.startswith("https://") or " " in text:
        return shown
    style = f'style="{STYLE["link"]}" target="_blank" rel="noopener noreferrer"'
    return f'<a href="{shown}" {style}>{shown}</a>'

"""Renders a text with the words that an answer quotes from it marked, as HTML without script."""

from __future__ import annotations

from collections.abc import Sequence

from nbllm.escaping import escape
from nbllm.frame.explanation.quotes import Quote

__all__ = ["quotes_html"]

_MARK = (
    "background:rgba(var(--nbllm-for, 230, 126, 20),.25);color:inherit;border-radius:2px;"
    "padding:1px 2px"
)


def quotes_html(text: str, quotes: Sequence[Quote]) -> str:
    """Return a text as HTML, each quotation followed by its names.

    Args:
        text: The text.
        quotes: The quotations, as character offsets in the text. Those that overlap are marked
            as one.
    """
    parts: list[str] = []
    place = 0
    for start, end, names in _merged(quotes):
        parts.append(escape(text[place:start]))
        marked, named = escape(text[start:end]), escape(", ".join(names))
        parts.append(
            f'<mark style="{_MARK}">{marked}<sub style="padding-left:3px;opacity:.8">{named}</sub>'
            "</mark>"
        )
        place = end
    parts.append(escape(text[place:]))
    return (
        '<figure class="nbllm-explanation" style="margin:8px 0;max-width:700px;'
        'color:var(--jp-ui-font-color1, inherit)">'
        f'<p style="margin:0;line-height:1.9;white-space:pre-line">{"".join(parts)}</p></figure>'
    )


def _merged(quotes: Sequence[Quote]) -> list[tuple[int, int, list[str]]]:
    """Return the quotations in order, those that overlap as one, with their names."""
    merged: list[tuple[int, int, list[str]]] = []
    for quote in sorted(quotes, key=lambda quote: quote.start):
        if merged and quote.start < merged[-1][1]:
            start, end, names = merged.pop()
            merged.append((start, max(end, quote.end), [*names, quote.name]))
        else:
            merged.append((quote.start, quote.end, [quote.name]))
    return merged

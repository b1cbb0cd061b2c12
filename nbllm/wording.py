"""Counted nouns and articles, so that no message says "1 rows" or "a encoder"."""

from __future__ import annotations

__all__ = ["counted", "with_article"]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the singular where it is one.

    Args:
        noun: in the singular, with words of its own before it: "blank row".
        plural: where it is not the noun with an s.

    Example:
        >>> counted(1, "row"), counted(2000, "row"), counted(0, "query", "queries")
        ('1 row', '2,000 rows', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def with_article(noun: str) -> str:
    """A noun with the indefinite article that goes before it.

    Example:
        >>> with_article("encoder"), with_article("classifier")
        ('an encoder', 'a classifier')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

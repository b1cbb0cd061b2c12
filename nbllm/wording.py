"""Counts, rates and articles, so that no message says "1 rows", "a encoder" or "0.0 a second"."""

from __future__ import annotations

__all__ = ["counted", "rate", "said", "with_article"]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, in the singular where the number is one.

    Args:
        number: how many.
        noun: in the singular, with words of its own before it, and a verb behind it: "row has".
        plural: where it is not the noun with an s.

    Example:
        >>> counted(1, "row"), counted(2000, "row"), counted(0, "query", "queries")
        ('1 row', '2,000 rows', '0 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rate(per_second: float, noun: str) -> str:
    """Return a rate per second, or below one in ten seconds per minute or hour.

    Args:
        per_second: the rate.
        noun: in the plural.

    Example:
        >>> rate(1234.5, "rows"), rate(0.02, "rows"), rate(0.001, "rows")
        ('1,234.5 rows/s', '1.2 rows/min', '3.6 rows/h')
    """
    seconds, unit = next(
        (pair for pair in ((1, "s"), (60, "min")) if per_second * pair[0] >= 0.1), (3600, "h")
    )
    return f"{per_second * seconds:,.1f} {noun}/{unit}"


def said(error: BaseException) -> str:
    """What an error of another library says, on one line and without its full stop.

    Example:
        >>> said(KeyError("size")), said(ValueError("No such size.")), said(OSError())
        ("'size'", 'No such size', 'OSError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Of a validation, the first line says no more than which field is wrong.
    text = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    text = text[:300].rstrip(".")
    return text or type(error).__name__


def with_article(noun: str) -> str:
    """A noun with the indefinite article that goes before it.

    Example:
        >>> with_article("encoder"), with_article("classifier")
        ('an encoder', 'a classifier')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

"""Counts, sizes, durations and articles: no message says "1 rows", "a encoder" or "0.0 rows/s"."""

from __future__ import annotations

__all__ = ["byte_size", "counted", "duration", "rate", "rough_duration", "said", "with_article"]


def byte_size(count: float) -> str:
    """Return a number of bytes in words, in powers of a thousand.

    Args:
        count: The number of bytes.

    Example:
        >>> byte_size(512), byte_size(269_060_552), byte_size(16e9)
        ('512 B', '269 MB', '16.0 GB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


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


def duration(seconds: float) -> str:
    """Return a length of time that was measured, in the units that people read.

    Example:
        >>> duration(4.21), duration(75), duration(7260)
        ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def rough_duration(seconds: float) -> str:
    """Return a length of time that is a forecast, no finer than it can be known.

    Example:
        >>> rough_duration(0.2), rough_duration(75), rough_duration(250), rough_duration(6000)
        ('less than a second', '75 s', '4 min', '1.7 h')
    """
    if seconds < 0.5:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


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

"""The spans of a text that may be the value of a field, and the values that they spell."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["Span", "date_of", "integer_of", "is_allowed", "number_of", "spans_of"]

Span = tuple[int, int]  # character offsets in a text

# Characters that stand around a word and belong to the sentence. A number sign or a hyphen may
# belong to a number, and stays.
_BEFORE, _AFTER = "\"'([{<*“‘«¿¡„", "\"')]}>*”’».,;:!?…"
_CURRENCIES = "$€£¥₹"

# A run without a space, or a single character of a script that puts no spaces between words.
_HAN = "\u3040-\u30ff\u3400-\u9fff"
_RUN = re.compile(rf"[{_HAN}]|[^\s{_HAN}，。！？、；：（）《》]+")

_MOST_WORDS = 5
_LONGEST = 80  # characters

_NUMBER = re.compile(r"[-+]?\d+(?:[,\u202f]\d{3})*(?:\.\d+)?%?")
_UNIT = re.compile(r"[^\W\d_]{1,8}")
_DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y",
    "%B %d %Y",
)  # fmt: skip


def spans_of(text: str) -> Iterator[Span]:
    """Yield the spans of one to five words that lie in one sentence part, in reading order.

    Punctuation around a span is left out. No span goes over a comma, the end of a sentence or a
    quotation mark, except for a comma within a date.

    Args:
        text: Any text.

    Example:
        >>> text = "Hi, order 7!"
        >>> [text[start:end] for start, end in spans_of(text)]
        ['Hi', 'order', 'order 7', '7']
    """
    words = [
        span
        for match in _RUN.finditer(text)
        for span in _parts(text, *match.span())
        if span[0] < span[1]
    ]
    for first, (start, _) in enumerate(words):
        for last in range(first, min(first + _MOST_WORDS, len(words))):
            stop = words[last][1]
            if last > first and _is_break(text, words[last - 1][1], words[last][0]):
                break
            if stop - start > _LONGEST or '"' in text[start:stop]:
                break
            yield start, stop


def _parts(text: str, start: int, stop: int) -> Iterator[Span]:
    """Yield a run without the punctuation around it."""
    word = text[start:stop]
    yield start + len(word) - len(word.lstrip(_BEFORE)), start + len(word.rstrip(_AFTER))


def _is_break(text: str, stop: int, start: int) -> bool:
    """Return whether two words are parted by more than a space."""
    between = text[stop:start]
    is_date = between.strip() == "," and text[start : start + 4].isdigit()
    # "Mr. Smith": a stop after a short word with a capital ends no sentence.
    is_title = between.strip() == "." and re.search(r"(?:^|\s)[A-Z][a-z]{0,2}$", text[:stop])
    return bool(between.strip()) and not is_date and not is_title


def number_of(words: str) -> float | None:
    """Return the number that a span spells, with its currency or its unit; None if it spells none.

    Args:
        words: The span.

    Example:
        >>> number_of("$1,200"), number_of("40 euros"), number_of("forty"), number_of("A-12")
        (1200.0, 40.0, None, None)
    """
    parts = words.strip().strip(_CURRENCIES).split()
    if not parts or len(parts) > 2 or not _NUMBER.fullmatch(parts[0]):
        return None
    if len(parts) == 2 and not _UNIT.fullmatch(parts[1]):
        return None
    return float(re.sub("[,\u202f%]", "", parts[0]))


def integer_of(words: str) -> int | None:
    """Return the whole number that a span spells; None if it spells none.

    Args:
        words: The span.

    Example:
        >>> integer_of("3 pans"), integer_of("2.5")
        (3, None)
    """
    found = number_of(words)
    whole = found is not None and found.is_integer() and abs(found) < 1 << 53
    return int(found) if whole and found is not None else None


def date_of(words: str) -> str | None:
    """Return the date that a span spells with day, month and year, as YYYY-MM-DD; else None.

    Args:
        words: The span.

    Example:
        >>> date_of("4 June 2026"), date_of("4 June")
        ('2026-06-04', None)
    """
    for form in _DATES:
        try:
            return datetime.datetime.strptime(words.strip(), form).date().isoformat()
        except ValueError:
            continue
    return None


def is_allowed(value: Any, part: Mapping[str, Any]) -> bool:
    """Return whether a value keeps the bounds of its field's JSON schema.

    Args:
        value: The value.
        part: The schema of the field, of the type of the value.
    """
    checks: Mapping[str, Callable[[Any], bool]] = {
        "minLength": lambda bound: len(value) >= bound,
        "maxLength": lambda bound: len(value) <= bound,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "minimum": lambda bound: value >= bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "exclusiveMaximum": lambda bound: value < bound,
    }
    return all(check(part[name]) for name, check in checks.items() if name in part)

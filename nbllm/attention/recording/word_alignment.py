"""Alignment of tokens to the words that a reader sees."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category, east_asian_width

__all__ = ["word_numbers"]


def word_numbers(text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the number of the word of each token, from 0.

    Tokens are of one word where letters or digits meet. Characters of scripts that put no space
    between words, such as Chinese, stay tokens of their own; tokens that are bytes of one character
    belong together, and a space belongs to the word after it.

    Args:
        text: The text.
        spans: The character range of each token in it.

    Example:
        >>> word_numbers("unlikely!", [(0, 2), (2, 8), (8, 9)])
        [0, 0, 1]
    """
    numbers: list[int] = []
    for place, (start, stop) in enumerate(spans):
        if place == 0:
            numbers.append(0)
            continue
        first, end = spans[place - 1]
        within = start > 0 and all(map(_is_of_a_word, text[start - 1 : start + 1]))
        meets = start == end and start < stop and (within or text[first:end].isspace())
        numbers.append(numbers[-1] + (start >= end and not meets))
    return numbers


def _is_of_a_word(one: str) -> bool:
    # A mark, such as a vowel sign or an accent of its own, belongs to the letter before it.
    return (one.isalnum() or category(one).startswith("M")) and east_asian_width(one) not in "WF"

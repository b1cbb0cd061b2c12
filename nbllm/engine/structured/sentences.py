"""Where sentences end."""

from __future__ import annotations

import regex

__all__ = [
    "UNSPACED", "close_sentence", "ends_in_abbreviation", "is_unspaced", "sentence_spans",
    "whole_sentences",
]  # fmt: skip

# Scripts without spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
_UNSPACED = regex.compile(f"[{UNSPACED}]")

_END = regex.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s|$)|[。！？]++[”’」』）]*+")
# Titles, abbreviations and initials, whose period ends no sentence.
_ABBREVIATION = regex.compile(
    r"(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|St|Gen|Sen|Rep|Gov|Lt|Col|Sgt|Rev|Hon|Fig|Eq|No|Vol|vs|cf|al"
    r"|i\.e|e\.g|approx|\p{Lu})\.$"
)
_LONGEST_ABBREVIATION = 8  # characters, with the period
_DANGLING = " \t\r\n,;:-–—([\"'“‘«、，；：（「『"
_LINE_BREAK = regex.compile(r"\n")


def is_unspaced(text: str) -> bool:
    """Return whether most letters of a text are of a script without spaces between words.

    Args:
        text: Any text.

    Example:
        >>> is_unspaced("他走了"), is_unspaced("He left 北京")
        (True, False)
    """
    letters = sum(map(str.isalnum, text))
    return 2 * len(_UNSPACED.findall(text)) > letters


def sentence_spans(text: str) -> list[tuple[int, int]]:
    r"""Return the character offsets of each sentence, without the spaces around it.

    A line break ends a sentence too, as after a headline.

    Args:
        text: Any text.

    Example:
        >>> text = "Storm\nMr. Lee left.  He slept. 他走了。好"
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['Storm', 'Mr. Lee left.', 'He slept.', '他走了。', '好']
    """
    ends = {match.end() for match in _LINE_BREAK.finditer(text)} | {len(text)}
    for match in _END.finditer(text):
        end = match.end()
        if not ends_in_abbreviation(text[max(0, end - _LONGEST_ABBREVIATION) : end]):
            ends.add(end)
    spans, begin = [], 0
    for end in sorted(ends):
        part = text[begin:end]
        start = begin + len(part) - len(part.lstrip())
        if any(character.isalnum() for character in part):
            spans.append((start, begin + len(part.rstrip())))
        begin = end
    return spans


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; empty if none is whole.

    Example:
        >>> whole_sentences("It rained. Mr. Lee went ho")
        'It rained.'
    """
    found = ""
    for match in _END.finditer(text):
        end = match.end()
        if not ends_in_abbreviation(text[max(0, end - _LONGEST_ABBREVIATION) : end]):
            found = text[:end]
    return found


def close_sentence(text: str) -> str:
    """Return a text with a period if no sentence ends there.

    Example:
        >>> close_sentence("It rained,")
        'It rained.'
    """
    text = text.strip()
    ends = [match.end() for match in _END.finditer(text)]
    if ends[-1:] == [len(text)]:
        return text
    text = text.rstrip(_DANGLING)
    return text and text + ("。" if _UNSPACED.match(text[-1]) else ".")


def ends_in_abbreviation(text: str) -> bool:
    """Return whether the period at the end of a text belongs to an abbreviation."""
    return _ABBREVIATION.search(text[-_LONGEST_ABBREVIATION:]) is not None

"""The names and numbers of a text: its words with a capital letter or a digit."""

from __future__ import annotations

import regex

from nbllm.engine.structured.sentences import UNSPACED

__all__ = ["SPACED", "Vocabulary", "Word", "names_of", "number_of", "numbers_of", "words_of"]

# A word, or a number with its separators, such as "1,000.50" and "2.5bn".
SPACED = rf"[^\W{UNSPACED}]"
_WORD = regex.compile(rf"{SPACED}++(?:[.,]\d{SPACED}*+)*+")
_NAME = regex.compile(r"[\p{Lu}\p{Lt}\p{N}]")
_NUMBER = regex.compile(r"\d[\d,]*(?:\.\d+)?")

# "One" is left out, because "one of the" says no number.
_UNITS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_TENS = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMERALS = {
    **{word: float(number) for number, word in enumerate(_UNITS, 2)},
    **{word: 10.0 * number for number, word in enumerate(_TENS, 3)},
}

Word = tuple[int, int, str]  # character offsets in a text, and the word


def words_of(text: str) -> list[Word]:
    """Return the words of a text, where its script has spaces between them.

    Args:
        text: Any text.

    Example:
        >>> words_of("Up 2.5%, Ada.")
        [(0, 2, 'Up'), (3, 6, '2.5'), (9, 12, 'Ada')]
    """
    return [(*match.span(), match.group()) for match in _WORD.finditer(text)]


def number_of(word: str) -> float | None:
    """Return the number that a word spells, in digits or in English; None if it spells none.

    Args:
        word: A word from `words_of`.

    Example:
        >>> number_of("1,000"), number_of("Three"), number_of("3D")
        (1000.0, 3.0, None)
    """
    if _NUMBER.fullmatch(word):
        return float(word.replace(",", ""))
    return _NUMERALS.get(word.lower())


class Vocabulary:
    """The words of a source, without case, and all that they start with.

    Args:
        source: The text.
    """

    def __init__(self, source: str) -> None:
        self._words = {match.group() for match in _WORD.finditer(source.lower())}
        self._numbers = {number_of(word) for word in self._words} - {None}
        self.is_ascii: bool = source.isascii()
        self._starts = {word[:n] for word in self._words for n in range(1, len(word) + 1)}

    def has(self, word: str) -> bool:
        """Return whether the source has a word, its singular or plural, or its number.

        Args:
            word: A word from `words_of`.
        """
        lower = word.lower()
        number = number_of(word)
        return (
            lower in self._words
            or f"{lower}s" in self._words
            or lower.removesuffix("s") in self._words
            or (number is not None and number in self._numbers)
        )

    def allows(self, text: str) -> bool:
        """Return whether the names and numbers of a text are the source's, or may become so."""
        for match in _WORD.finditer(text):
            word = match.group()
            if not _NAME.search(word) or word.lower() in self._words:
                continue
            # The last word may get more letters, and a number a separator and more digits.
            if (word + text[match.end() : match.end() + 2]).lower() not in self._starts:
                return False
        return True

    def completions(self, text: str) -> list[str]:
        """Return what may follow the name or number in which a text ends."""
        words = list(_WORD.finditer(text))
        if not words:
            return []
        start = text[words[-1].start() :]
        found = {word[len(start) :] for word in self._words if word.startswith(start.lower())}
        return sorted(found - {""})


def numbers_of(text: str) -> list[Word]:
    """Return the words of a text that spell a number.

    Args:
        text: Any text.

    Example:
        >>> [word for _, _, word in numbers_of("Two of 1,000.")]
        ['Two', '1,000']
    """
    return [word for word in words_of(text) if number_of(word[2]) is not None]


def names_of(text: str) -> list[Word]:
    """Return the words of a sentence that are names, without numbers.

    The first word has a capital letter anyway, so it counts only with another one in it.

    Args:
        text: One sentence.

    Example:
        >>> [word for _, _, word in names_of("Yesterday 3 people met Ada Lovelace of the BBC.")]
        ['Ada', 'Lovelace', 'BBC']
    """
    found = [word for word in words_of(text) if number_of(word[2]) is None]
    return [
        word
        for n, word in enumerate(found)
        if _NAME.search(word[2] if word[0] or n else word[2][1:])
    ]

"""Prose within limits: whole sentences, a number of words, names from its source, no loops.

The rules look at the text of one row only, so they hold in any batch and in every decoder. The
likeliest token is taken where the rules allow it, otherwise the likeliest one that they do. A text
whose words are used up is cut after its last whole sentence. If it has none, it is cut where the
model gave a period the highest likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import regex
import torch

from nbllm.engine.locks import TOKENIZER_LOCK
from nbllm.engine.structured.constraint import Constraint
from nbllm.engine.structured.names import SPACED, Vocabulary
from nbllm.engine.structured.sentences import (
    UNSPACED,
    close_sentence,
    ends_in_abbreviation,
    whole_sentences,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Prose", "ProseConstraint", "count_words"]

_TOLERANCE = 1.1  # of the number of words, for the end of a sentence
_LEAST = 4  # whole sentences that have less than a quarter of the words are not worth the rest
_CANDIDATES = 256  # tokens that are tried where the likeliest is not allowed
_LOOP = 3  # words that are a loop if they come twice in a row
_PHRASE, _NEAR = 5, 30  # words that are a loop if they come again so soon

# Each character of a script without spaces between words is counted as a word.
_UNSPACED = regex.compile(f"[{UNSPACED}]")
_UNIT = regex.compile(rf"[{UNSPACED}]|{SPACED}++")


@dataclass(frozen=True)
class Prose:
    """The rules of a text.

    Attributes:
        max_words: The number of words that it may have, and a tenth more.
        grounded: Whether its names (words with a capital letter) and numbers have to occur in the
            source.
    """

    max_words: int
    grounded: bool


class ProseConstraint(Constraint):
    """Leaves one token to each row of a batch: the likeliest that the rules allow.

    It holds the state of a batch, so it serves one only.

    Args:
        prose: The rules.
        tokenizer: The tokenizer of the model.
        sources: The text that each row is about.
        eos_token_ids: The tokens with which the model ends a text.
        filler: The token that follows a finished text: the end of text where there is one.
        stop: A string that ends a text too.
    """

    def __init__(
        self,
        prose: Prose,
        tokenizer: PreTrainedTokenizerBase,
        sources: Sequence[str],
        *,
        eos_token_ids: Sequence[int],
        filler: int,
        stop: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._filler = filler
        self._periods = _periods(tokenizer)
        most = math.floor(prose.max_words * _TOLERANCE)
        self._all = [
            _Row(most, Vocabulary(source) if prose.grounded else None, stop) for source in sources
        ]
        self._rows = list(self._all)  # of the batch as it is now

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (row, token): zero for the next token, else minus infinity."""
        periods = scores[:, self._periods].float().logsumexp(dim=-1)
        ends = (periods - scores.float().logsumexp(dim=-1)).tolist()
        likeliest = scores.argmax(dim=-1).tolist()
        tokens = [
            self._next(row, likeliest[n], ends[n], scores[n]) for n, row in enumerate(self._rows)
        ]
        column = torch.tensor(tokens, device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, column, 0.0)

    def select(self, rows: Sequence[int]) -> None:
        """Continue with some of the first rows, in the order given.

        Args:
            rows: Their indices among all prompts.
        """
        self._rows = [self._all[n] for n in rows]

    def follow(self, written: Sequence[Sequence[int]]) -> None:
        """Apply the rules to texts that were generated without them, which they can only cut.

        How likely a period is was not recorded: a text without a whole sentence is cut where its
        words are used up.

        Args:
            written: The tokens of all rows, of prose that is not grounded.
        """
        for row, tokens in zip(self._all, written, strict=True):
            for token in tokens:
                if not row.finished:
                    self._write(row, token)

    def texts(self) -> list[str]:
        """Return the texts of all rows, once generation has ended."""
        return [row.whole_text() for row in self._all]

    def _next(self, row: _Row, likeliest: int, end: float, scores: torch.Tensor) -> int:
        if row.finished:
            return self._filler
        row.note_end(end)
        if not self._write(row, likeliest):
            likeliest = next((t for t in self._candidates(row, scores) if self._write(row, t)), -1)
            row.finished |= likeliest < 0
        return self._filler if row.finished else likeliest

    def _candidates(self, row: _Row, scores: torch.Tensor) -> Iterator[int]:
        """Yield the likeliest tokens, then those that complete a name that the row has begun."""
        yield from scores.topk(min(_CANDIDATES, len(scores))).indices.tolist()
        rests = row.name_completions()
        if rests:
            with TOKENIZER_LOCK:
                ids = self._tokenizer(rests, add_special_tokens=False).input_ids
            first = {tokens[0] for tokens in ids if tokens}
            yield from sorted(first, key=lambda token: -float(scores[token]))

    def _write(self, row: _Row, token: int) -> bool:
        """Return whether the rules allow a token, which then continues or ends the row."""
        if token in self._eos_token_ids:
            return row.end()
        tokens = [*row.tokens, token]
        with TOKENIZER_LOCK:
            text: Any = self._tokenizer.decode(tokens, skip_special_tokens=True)
        if not row.write(text):
            return False
        row.tokens = tokens
        return True


@dataclass
class _Row:
    """The text of one row, and where it may be cut."""

    most: int  # words
    vocabulary: Vocabulary | None
    stop: str | None
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finished: bool = False
    ended: bool = False  # by the model itself
    # The log-likelihood of a period, and the length of the text that it would end.
    ends: list[tuple[float, int]] = field(default_factory=list)

    def note_end(self, likelihood: float) -> None:
        """Remember how likely a period is after the text so far."""
        is_word = not _is_open(self.text) and self._allows(self.text + " ")
        if is_word and not ends_in_abbreviation(self.text + "."):
            self.ends.append((likelihood, len(self.text)))

    def name_completions(self) -> list[str]:
        """Return what may complete the name that the text has begun."""
        return [] if self.vocabulary is None else self.vocabulary.completions(self.text)

    def end(self) -> bool:
        """End the text as the model wants to, unless a name is unfinished."""
        self.ended = self._allows(self.text + " ")
        self.finished = self.ended
        return self.ended

    def write(self, text: str) -> bool:
        """Continue with a longer text, or end before it; return False if a rule forbids it."""
        seen = text.rstrip("\ufffd")  # a character of which only some bytes are written yet
        if self.stop is not None and self.stop in seen:
            return self.end()
        if not self._allows(seen):
            return False
        if seen != text and self.vocabulary is not None and self.vocabulary.is_ascii:
            return False  # it may become a capital letter, which could not be taken back
        loop = _loop_start(seen)
        if loop is not None:
            self.text = seen[:loop]
        self.finished = loop is not None or count_words(seen) > self.most
        if not self.finished:
            self.text = text
        return True

    def whole_text(self) -> str:
        """Return the text up to the end of a sentence, which is added where there is none."""
        text = self.text.rstrip("\ufffd")
        if self.ended:
            return close_sentence(text)
        whole = whole_sentences(text)
        if whole and _LEAST * count_words(whole) >= count_words(text):
            return whole.strip()
        return close_sentence(self._likeliest_end(text))

    def _likeliest_end(self, text: str) -> str:
        """Return the text up to where a period was likeliest, in its second half."""
        ends = [end for end in self.ends if end[1] <= len(text) <= 2 * end[1]]
        return text[: max(ends, default=(0.0, len(text)))[1]]

    def _allows(self, text: str) -> bool:
        """Return whether the names of a text are those of its source, the last word included."""
        # The words before were checked when they were written.
        known = self.text.rfind(" ") + 1
        return self.vocabulary is None or self.vocabulary.allows(text[known:])


def count_words(text: str) -> int:
    """Return the number of words; each character of Chinese or Japanese is a word.

    Example:
        >>> count_words("It's a well-known day - 好天。")
        6
    """
    spaced = _UNSPACED.sub(" ", text).split()
    words = sum(any(character.isalnum() for character in word) for word in spaced)
    return words + len(_UNSPACED.findall(text))


def _is_open(text: str) -> bool:
    """Return whether a quotation or a bracket is open at the end of a text."""
    return (
        text.count('"') % 2 == 1
        or text.count("“") > text.count("”")
        or text.count("(") > text.count(")")
    )


def _loop_start(text: str) -> int | None:
    """Return where words begin that the text has had before and that end it; None if none do."""
    found = list(_UNIT.finditer(text))
    words = [match.group().lower() for match in found]
    last = len(words)
    for n in range(1, last // 2 + 1):
        times = 2 if n >= _LOOP else 3
        if words[last - n :] * times == words[last - n * times :]:
            start: int = found[last - n * (times - 1)].start()
            return start
    near = words[-_NEAR - _PHRASE :]
    phrase = near[-_PHRASE:]
    earlier = (near[n : n + _PHRASE] for n in range(len(near) - _PHRASE))
    # Characters are too small for it: a Chinese name may have as many.
    if phrase in earlier and not any(map(_UNSPACED.match, phrase)):
        first: int = found[-_PHRASE].start()
        return first
    return None


# A tokenizer reads the same periods in every batch.
_known_periods: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()


def _periods(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of a period after a word, in Western and Chinese punctuation."""
    if tokenizer not in _known_periods:
        with TOKENIZER_LOCK:
            ids = [tokenizer(text, add_special_tokens=False).input_ids for text in ("a.", "好。")]
        _known_periods[tokenizer] = sorted({text[-1] for text in ids})
    return _known_periods[tokenizer]

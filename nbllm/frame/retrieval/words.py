"""Search by words: BM25 (Robertson et al. 1994) with bm25s."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import bm25s
import numpy as np
import regex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WordIndex", "terms"]

# Scripts without spaces, and Korean, whose words are inflected by suffixes.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
_RUN = regex.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+", regex.VERSION1
)


def terms(text: str) -> list[str]:
    """Return the words of a text; in unspaced scripts, each character and each pair of them.

    Example:
        >>> terms("Café 上海站")
        ['café', '上', '海', '站', '上海', '海站']
    """
    found: list[str] = []
    for match in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match.group()
        if match["unspaced"]:
            found += [*run, *(run[n : n + 2] for n in range(len(run) - 1))]
        else:
            found.append(run)
    return found


class WordIndex:
    """BM25 over the terms of texts.

    Args:
        texts: The text of each row; None for a row without text.
    """

    def __init__(self, texts: Sequence[str | None]) -> None:
        self.rows: int = len(texts)
        self.present: list[int] = [row for row, text in enumerate(texts) if text is not None]
        found = [terms(text) for text in texts if text is not None]
        self.index: Any = None
        if any(found):  # bm25s cannot index texts without any term, such as punctuation
            self.index = bm25s.BM25(backend="numpy")
            self.index.index(found, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return the score of each row, shape (rows,), -inf without a term of the query."""
        scores = np.full(self.rows, -np.inf)
        if self.index is not None and (ids := self.index.get_tokens_ids(terms(query))):
            scores[self.present] = self.index.get_scores_from_ids(ids)
        return np.where(scores > 0, scores, -np.inf)

"""Baselines of language modelling: unigram and bigram counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bigram", "Unigram"]

Ids = Sequence[Sequence[int]]


class Unigram:
    """A unigram model: the counts of tokens, plus one (Laplace).

    Args:
        texts: Token ids of each text; the first one opens it and is not predicted.
        vocabulary: The number of tokens.
    """

    def __init__(self, texts: Ids, vocabulary: int) -> None:
        _, after = _pairs(texts)
        counts = np.bincount(after, minlength=vocabulary) + 1
        self.log_chances: NDArray[np.float64] = np.log(counts / counts.sum())

    def nats(self, texts: Ids) -> float:
        """The mean negative log-likelihood of all tokens but each text's first."""
        _, after = _pairs(texts)
        return float(-self.log_chances[after].mean())


class Bigram:
    """A bigram model with interpolated Kneser–Ney smoothing.

    What is taken off each pair that was seen goes to tokens by how many different ones they
    follow, plus one, so that no token is impossible. Chen & Goodman 1999,
    https://doi.org/10.1006/csla.1999.0128.

    Args:
        texts: Token ids of each text; the first one opens it and is not predicted.
        vocabulary: The number of tokens.
    """

    def __init__(self, texts: Ids, vocabulary: int) -> None:
        before, after = _pairs(texts)
        self._vocabulary = vocabulary
        self._keys, self._counts = np.unique(before * vocabulary + after, return_counts=True)
        once, twice = (int((self._counts == n).sum()) for n in (1, 2))
        self.discount: float = once / (once + 2 * twice) if once else 0.5
        contexts, followers = np.divmod(self._keys, vocabulary)
        self._seen = np.bincount(before, minlength=vocabulary)  # of each context
        self._kinds = np.bincount(contexts, minlength=vocabulary)  # different tokens after each
        followed = np.bincount(followers, minlength=vocabulary) + 1
        self._continued = followed / followed.sum()

    def chances(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probability of each token `after` its token `before`, of the same shape."""
        keys = before * self._vocabulary + after
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        counts = np.where(self._keys[place] == keys, self._counts[place], 0)
        seen = self._seen[before]
        left = np.where(seen > 0, self.discount * self._kinds[before] / np.maximum(seen, 1), 1.0)
        taken = np.maximum(counts - self.discount, 0) / np.maximum(seen, 1)
        found: NDArray[np.float64] = taken + left * self._continued[after]
        return found

    def nats(self, texts: Ids) -> float:
        """As `Unigram.nats`."""
        return float(-np.log(self.chances(*_pairs(texts))).mean())


def _pairs(texts: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each token that has one before it, after that one."""
    before = [token for text in texts for token in text[:-1]]
    after = [token for text in texts for token in text[1:]]
    return np.array(before, dtype=np.int64), np.array(after, dtype=np.int64)

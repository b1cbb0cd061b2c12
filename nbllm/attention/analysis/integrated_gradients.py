"""Integrated gradients along a path that is cut finer where the answer changes fast.

Between two texts a language model's answer rises and falls: at some places by more than its
whole difference within a few percent of the way. Integrated gradients add up along the way,
so the way is cut into pieces; captum integrates each from its start to its end. How far a
piece misses the difference of its two ends is known, and the worst pieces are halved.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LARGEST_GAP", "Integral", "integrated"]

LARGEST_GAP = 0.01
_MOST_STEPS = 256
_NODES = 4  # points on a piece, where a Gauss-Legendre rule takes the gradient
# Tokens that go forward and back at a time: for 135M parameters about 0.3 GB of activations. The
# allocator gives larger tensors back and takes them anew at each layer: with 512 tokens half as
# long again.
_TOKENS = 256

Score = Callable[[torch.Tensor], torch.Tensor]


class Integral(NamedTuple):
    """What each token adds to the difference of an answer."""

    scores: NDArray[np.float32]  # (tokens,)
    steps: int  # points on the way
    gap: float  # how far the scores miss the difference, as a share of it


class _Piece(NamedTuple):
    start: float
    stop: float
    scores: NDArray[np.float32]  # (tokens,)
    miss: float  # by how much the scores miss the difference of the answer at the two ends


def integrated(score: Score, present: torch.Tensor, absent: torch.Tensor, steps: int) -> Integral:
    """Integrate the gradients of a score along the straight way from one text to another.

    Starts with about `steps` points and takes up to 256, until the scores add up to the
    difference within 1 %. Method: Sundararajan et al. 2017, "Axiomatic Attribution for Deep
    Networks", through captum.

    Args:
        score: Maps embeddings, (rows, tokens, width), to answers, (rows,).
        present: The embeddings of the text, (1, tokens, width).
        absent: The embeddings of the baseline, likewise.
        steps: The number of points to begin with.

    Example:
        >>> zero = torch.zeros(1, 3, 2)
        >>> integrated(lambda x: x.sum((1, 2)), torch.ones_like(zero), zero, steps=4).scores
        array([2., 2., 2.], dtype=float32)
    """
    path = _Path(score, present, absent)
    cuts = np.linspace(0, 1, max(1, round(steps / _NODES)) + 1)
    pieces = path.pieces(list(pairwise(cuts.tolist())))
    difference = path.answers[1.0] - path.answers[0.0]
    while True:
        scores = np.sum([piece.scores for piece in pieces], axis=0)
        missing = abs(float(scores.sum()) - difference)
        gap = missing / abs(difference) if difference else float("nan")
        if len(pieces) * _NODES >= _MOST_STEPS or not gap > LARGEST_GAP:
            return Integral(scores, len(pieces) * _NODES, gap)
        worst = max(abs(piece.miss) for piece in pieces)
        halved = [piece for piece in pieces if abs(piece.miss) >= worst / 4]
        kept = [piece for piece in pieces if abs(piece.miss) < worst / 4]
        halves = [
            half
            for piece in halved
            for middle in [(piece.start + piece.stop) / 2]
            for half in [(piece.start, middle), (middle, piece.stop)]
        ]
        pieces = kept + path.pieces(halves)


class _Path:
    """The straight way from one text to another, and the answers on it that are known."""

    def __init__(self, score: Score, present: torch.Tensor, absent: torch.Tensor) -> None:
        self._score, self._present, self._absent = score, present, absent
        self._batch = max(1, _TOKENS // present.shape[1])
        self.answers: dict[float, float] = {}

    def pieces(self, bounds: list[tuple[float, float]]) -> list[_Piece]:
        """Integrate between each pair of places, from 0 (absent) to 1 (present)."""
        from captum.attr import IntegratedGradients  # brings matplotlib in

        self._answer(sorted({place for bound in bounds for place in bound} - set(self.answers)))
        method = IntegratedGradients(self._score)
        found = []
        for first in range(0, len(bounds), self._batch):
            part = bounds[first : first + self._batch]
            scores = method.attribute(
                self._at([stop for _, stop in part]),
                self._at([start for start, _ in part]),
                n_steps=_NODES,
                internal_batch_size=self._batch,
            )
            found.append(scores.detach().sum(-1).float().cpu().numpy())
        return [
            _Piece(
                start,
                stop,
                scores,
                float(scores.sum()) - (self.answers[stop] - self.answers[start]),
            )
            for (start, stop), scores in zip(bounds, np.concatenate(found), strict=True)
        ]

    def _answer(self, places: list[float]) -> None:
        with torch.no_grad():
            for first in range(0, len(places), self._batch):
                part = places[first : first + self._batch]
                self.answers.update(zip(part, self._score(self._at(part)).tolist(), strict=True))

    def _at(self, places: list[float]) -> torch.Tensor:
        """Embeddings at some places of the way, (places, tokens, width)."""
        shares = torch.tensor(places, dtype=self._present.dtype, device=self._present.device)
        return torch.lerp(self._absent, self._present, shares[:, None, None])

"""What a query may see: the rules that masks follow, and a key that is masked out.

A rule needs no memory; a mask that follows none is kept as it is. All masking of scores and
weights is done here, so that a picture, a tile and a measure hide the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nbllm.attention.recording.indexing import bounds, index, places_of

__all__ = ["LEAST_REMAINDER", "Rule", "additive", "mask_key", "renormalized", "rule_of"]

LEAST_REMAINDER = 1e-6  # of a row without its masked key: below it there is only rounding

_ROWS_AT_ONCE = 256  # of a mask, while it is compared with a rule
# Additive masks hide with the lowest number of their dtype, or with a large one (-1e4).
_HIDES = -1e4


@dataclass(frozen=True)
class Rule:
    """Which keys a query sees, by how far away they lie."""

    causal: bool  # none after itself
    window: int | None  # none this far away or farther

    def mask(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """The mask of these positions: bool (True: seen), (rows, columns)."""
        back = rows[:, None] - columns[None, :]
        seen = back >= 0 if self.causal else torch.ones_like(back, dtype=torch.bool)
        return seen if self.window is None else seen & (back.abs() < self.window)

    def sees(self, query: int, key: int) -> bool:
        """Whether a query sees a key."""
        near = self.window is None or abs(query - key) < self.window
        return near and (query >= key or not self.causal)

    def visible(self, rows: Sequence[int], count: int) -> range:
        """The keys, of `count`, that at least one of these rows sees, and those between."""
        start, stop = 0, count
        if not len(rows):
            return range(start, stop)
        first, last = bounds(rows)
        if self.causal:
            stop = min(stop, last + 1)
        if self.window is not None:
            start, stop = max(0, first - self.window + 1), min(stop, last + self.window)
        return range(start, stop)

    def hide(self, scores: torch.Tensor, rows: Sequence[int], columns: Sequence[int]) -> None:
        """Set scores, (heads, rows, columns), to minus infinity in place where it hides them."""
        start = _first_hidden(rows, columns) if self.causal else len(columns)
        if start == len(columns) and self.window is None:
            return
        places = index(columns, scores.device)
        back = index(rows, scores.device)[:, None]
        if start < len(columns):
            scores[:, :, start:] += additive(places[start:] <= back)
        if self.window is not None:
            scores += additive((back - places).abs() < self.window)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """A mask, bool (True: seen) or additive, as what is added to scores in float32.

    Adding takes an eighth of the time of filling scores in.
    """
    if mask.dtype != torch.bool:
        return mask.float()
    return torch.where(mask, 0.0, -math.inf)


def mask_key(scores: torch.Tensor, key: int | None, columns: Sequence[int]) -> None:
    """Take a key out of scores, or logarithms of weights, in place.

    Args:
        scores: (..., columns).
        key: its position in the text; None for none.
        columns: the positions in the text of the columns, which may name it more than once.
    """
    for place in places_of(key, columns):
        scores[..., place] = -math.inf


def renormalized(weights: torch.Tensor, key: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of weights without a key, made to sum to 1, and whether anything is left of each.

    Args:
        weights: (rows, keys), changed in place.
        key: the key that is masked out; None for none.

    Returns:
        float32 (rows, keys), of zeros where less than `LEAST_REMAINDER` is left; bool (rows, 1).
    """
    if key is not None:
        weights[:, key] = 0
    total = weights.sum(1, keepdim=True)
    left = total > LEAST_REMAINDER
    return torch.where(left, weights / total.clamp_min(LEAST_REMAINDER), 0), left


def rule_of(mask: torch.Tensor, causal: bool) -> Rule | None:
    """Return the rule that a mask follows, or None.

    Args:
        mask: (1 or heads, rows, columns), bool (True: seen) or additive. Where it has fewer rows
            than columns, they are the last ones.
        causal: Whether the rule is causal where the mask leaves it open, as that of the last row
            alone does.

    Example:
        >>> rule_of(torch.ones(1, 9, 9, dtype=torch.bool).tril(), causal=True)
        Rule(causal=True, window=None)
    """
    if mask.shape[0] != 1:
        return None
    shown = mask[0]
    rows, columns = shown.shape
    first = max(columns - rows, 0)
    if first + 1 < columns:
        causal = not bool(_seen(shown[0, first + 1 :]).any())
    last = int(_seen(shown[-1]).sum())
    rule = Rule(causal, window=None if last == columns else last)
    keys = torch.arange(columns, device=mask.device)
    follows = torch.ones((), dtype=torch.bool, device=mask.device)
    for start in range(0, rows, _ROWS_AT_ONCE):
        given = shown[start : start + _ROWS_AT_ONCE]
        places = torch.arange(first + start, first + start + len(given), device=mask.device)
        follows &= (_seen(given) == rule.mask(places, keys)).all() & ~_adds(given)
    return rule if bool(follows) else None


def _first_hidden(rows: Sequence[int], columns: Sequence[int]) -> int:
    """Where the columns begin of which a causal mask hides some: of a run of rows, few."""
    if not len(rows):
        return len(columns)
    first = bounds(rows)[0] + 1
    if isinstance(columns, range) and columns.step == 1:
        return min(max(first - columns.start, 0), len(columns))
    return next((place for place, key in enumerate(columns) if key >= first), len(columns))


def _seen(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask == 0


def _adds(mask: torch.Tensor) -> torch.Tensor:
    """Whether it also changes scores that it does not hide."""
    if mask.dtype == torch.bool:
        return torch.zeros((), dtype=torch.bool, device=mask.device)
    return ((mask != 0) & (mask > _HIDES)).any()

"""A mask as the rule that it follows, which needs no memory; or as it is, where it has none."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Rule", "rule_of"]

_ROWS_AT_ONCE = 256  # of a mask, while it is compared with a rule
# Additive masks hide with the lowest number of their dtype, or with a large one (-1e4).
_HIDES = -1e4


@dataclass(frozen=True)
class Rule:
    """Which keys a query sees, by how far away they lie."""

    causal: bool  # none after itself
    window: int | None  # none this far away or farther

    def mask(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """What it shows of these positions: bool, (rows, columns)."""
        back = rows[:, None] - columns[None, :]
        seen = back >= 0 if self.causal else torch.ones_like(back, dtype=torch.bool)
        return seen if self.window is None else seen & (back.abs() < self.window)


def rule_of(mask: torch.Tensor, causal: bool) -> Rule | None:
    """The rule that a mask follows, or None.

    mask: (1 or heads, rows, columns), bool (True: seen) or additive; where it has fewer rows
    than columns, they are the last ones. `causal` is taken where the mask leaves it open, as
    that of the last row alone does.

        rule_of(torch.ones(1, 9, 9, dtype=torch.bool).tril(), causal=True)
        # Rule(causal=True, window=None)
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


def _seen(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask == 0


def _adds(mask: torch.Tensor) -> torch.Tensor:
    """Whether it also changes what it does not hide."""
    if mask.dtype == torch.bool:
        return torch.zeros((), dtype=torch.bool, device=mask.device)
    return ((mask != 0) & (mask > _HIDES)).any()

"""Attention weights of one layer, computed again from its queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["Layer"]

ROWS_AT_ONCE = 1024  # bounds the memory of a log-sum-exp over a long text


@dataclass(frozen=True, eq=False)
class Layer:
    """What one attention layer was given, and how well that explains what it returned."""

    query: torch.Tensor  # (heads, tokens, head_dim), after RoPE, in the model's dtype
    key: torch.Tensor  # (key_heads, tokens, head_dim)
    scale: float
    mask: torch.Tensor | None  # (1 or heads, tokens, tokens), bool (True: seen) or additive
    bias: torch.Tensor | None  # added to the scores before the mask (T5)
    causal: bool  # the kernel masked the future by itself
    window: int | None  # the kernel masked keys this far back by itself
    softcap: float | None  # scores pass through softcap · tanh(score / softcap)
    sinks: torch.Tensor | None  # (heads,) logits of a key that has no token (gpt-oss)

    @property
    def heads(self) -> int:
        return self.query.shape[0]

    def scores(
        self, heads: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """Masked scores before softmax, float32, (heads, rows, columns)."""
        group = self.heads // self.key.shape[0]
        query = self.query[heads][:, rows].float()
        key = self.key[heads // group][:, columns].float()
        scores = query @ key.transpose(1, 2) * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        for added in (self.bias, self.mask):
            if added is None:
                continue
            shown = (added if added.shape[0] == 1 else added[heads])[:, rows][:, :, columns]
            if shown.dtype == torch.bool:
                scores = scores.masked_fill(~shown, -math.inf)
            else:
                scores = scores + shown.float()
        back = rows[:, None] - columns[None, :]
        if self.causal:
            scores = scores.masked_fill(back < 0, -math.inf)
        if self.window is not None:
            scores = scores.masked_fill(back.abs() >= self.window, -math.inf)
        return scores

    def log_sum_exp(self, heads: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What softmax divides by, as a logarithm: float32, (heads, rows)."""
        every = torch.arange(self.key.shape[1], device=self.key.device)
        parts = torch.split(rows, ROWS_AT_ONCE)
        total = torch.cat([self.scores(heads, part, every).logsumexp(-1) for part in parts], dim=1)
        if self.sinks is not None:
            total = torch.logaddexp(total, self.sinks[heads].float()[:, None])
        return total

    def weights(self, heads: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Whole rows of weights, float32, (heads, rows, tokens)."""
        every = torch.arange(self.key.shape[1], device=self.key.device)
        return torch.exp(
            self.scores(heads, rows, every) - self.log_sum_exp(heads, rows)[:, :, None]
        )

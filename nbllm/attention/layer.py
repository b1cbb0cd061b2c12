"""Attention weights of one layer, computed again from its queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["Layer"]

# Scores in float32 that a block of rows has: 4 MiB, so that they stay in the processor's cache.
SCORES_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Layer:
    """What one attention layer was given, which decides its weights."""

    query: torch.Tensor  # (heads, rows, head_dim), after RoPE, in the model's dtype
    key: torch.Tensor  # (key_heads, columns, head_dim)
    scale: float
    mask: torch.Tensor | None  # (1 or heads, rows, columns), bool (True: seen) or additive
    bias: torch.Tensor | None  # added to the scores before the mask (T5)
    causal: bool  # keys after the query are hidden
    window: int | None  # keys this far from the query are hidden
    softcap: float | None  # scores pass through softcap · tanh(score / softcap)
    sinks: torch.Tensor | None  # (heads,) logits of a key that has no token (gpt-oss)

    @property
    def heads(self) -> int:
        return self.query.shape[0]

    def scores(
        self, heads: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """Masked scores before softmax, float32, (heads, rows, columns)."""
        used = self._key_heads(heads)
        query = self.query[heads[:, None], rows].float() * self.scale
        # Whole vectors are copied, in a fourth of the time that both indices at once take.
        its = [self.key[number].index_select(0, columns) for number in used.tolist()]
        key = torch.stack(its).float()
        # Queries that share a key head meet it in one product, so that it is not repeated.
        scores = query.reshape(len(used), -1, query.shape[-1]) @ key.transpose(1, 2)
        scores = scores.view(len(heads), len(rows), len(columns))
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        for added in (self.bias, self.mask):
            if added is None:
                continue
            shown = (added if added.shape[0] == 1 else added[heads])[:, rows][:, :, columns]
            scores += _hiding(~shown) if shown.dtype == torch.bool else shown.float()
        if self.causal:
            start = _first_hidden(rows, columns)
            scores[:, :, start:] += _hiding(columns[start:] > rows[:, None])
        if self.window is not None:
            scores += _hiding((rows[:, None] - columns).abs() >= self.window)
        return scores

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        """The keys that at least one of these rows may see, and those between: (columns,)."""
        start, stop = 0, self.key.shape[1]
        if not len(rows):
            return torch.arange(start, stop, device=self.key.device)
        if self.causal:
            stop = min(stop, int(rows.max()) + 1)
        if self.window is not None:
            start = max(0, int(rows.min()) - self.window + 1)
            stop = min(stop, int(rows.max()) + self.window)
        return torch.arange(start, stop, device=self.key.device)

    def blocks(self, heads: int, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rows in parts whose scores, of so many heads, are few enough to have at a time."""
        return torch.split(rows, max(1, SCORES_AT_ONCE // (heads * self.key.shape[1])))

    def log_sum_exp(
        self, heads: torch.Tensor, rows: torch.Tensor, masked: int | None = None
    ) -> torch.Tensor:
        """What softmax divides by, as a logarithm: float32, (heads, rows).

        `masked` is a key to leave out; minus infinity where a row then has none.
        """
        parts = []
        for part in self.blocks(len(heads), rows):
            keys = self.seen(part)
            if masked is not None:
                keys = keys[keys != masked]
            parts.append(self.total(self.scores(heads, part, keys), heads))
        return torch.cat(parts, dim=1)

    def weights(self, heads: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Whole rows of weights, float32, (heads, rows, columns)."""
        keys = self.seen(rows)
        scores = self.scores(heads, rows, keys)
        if self.sinks is None:
            seen = torch.softmax(scores, -1, out=scores)
        else:
            seen = scores.sub_(self.total(scores, heads)[:, :, None]).exp_()
        if len(keys) == self.key.shape[1]:
            return seen
        return functional.pad(seen, (int(keys[0]), self.key.shape[1] - 1 - int(keys[-1])))

    def log_weights(
        self, heads: torch.Tensor, rows: torch.Tensor, keys: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithms of whole rows of weights, and what softmax divided by: (heads, rows).

        `keys` are all that the rows may see.
        """
        scores = self.scores(heads, rows, keys)
        if self.sinks is not None:
            total = self.total(scores, heads)
            return scores.sub_(total[:, :, None]), total
        # A row at a time, in the fastest cache: log-sum-exp goes over all rows several times.
        largest = scores.amax(-1)
        logs = torch.log_softmax(scores, -1, out=scores)
        return logs, largest - logs.amax(-1)

    def total(self, scores: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
        """The log-sum-exp of whole rows of scores, and of the sinks: (heads, rows)."""
        total = scores.logsumexp(-1)
        if self.sinks is None:
            return total
        return torch.logaddexp(total, self.sinks[heads].float()[:, None])

    def _key_heads(self, heads: torch.Tensor) -> torch.Tensor:
        """Their key heads: each once if all of them have as many heads here, else one a head."""
        its = heads // (self.heads // self.key.shape[0])
        if len(its) == 1:
            return its
        used, counts = torch.unique_consecutive(its, return_counts=True)
        return used if (counts == counts[0]).all() else its


def _first_hidden(rows: torch.Tensor, columns: torch.Tensor) -> int:
    """Where the columns begin of which a causal mask hides some: of a run of rows, few."""
    if not len(rows):
        return 0
    late = columns > rows.min()
    return int(late.int().argmax()) if bool(late.any()) else len(columns)


def _hiding(hidden: torch.Tensor) -> torch.Tensor:
    """What hides scores when added to them, which takes an eighth of filling them in."""
    return torch.where(hidden, -math.inf, 0.0)

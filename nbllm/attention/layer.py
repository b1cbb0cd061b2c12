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
        self, heads: torch.Tensor | None, rows: torch.Tensor, columns: torch.Tensor | None
    ) -> torch.Tensor:
        """Masked scores before softmax, float32, (heads, rows, columns); None stands for all."""
        query, key = self._meeting(heads, rows, columns)
        # Queries that share a key head meet it in one product, so that it is not repeated.
        together = query.reshape(len(key), -1, query.shape[-1]) @ key.float().transpose(1, 2)
        scores = together.view(len(query), len(rows), key.shape[1])
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        for added in (self.bias, self.mask):
            if added is None:
                continue
            shown = added if heads is None or added.shape[0] == 1 else added[heads]
            shown = shown[:, rows] if columns is None else shown[:, rows][:, :, columns]
            scores += _hiding(~shown) if shown.dtype == torch.bool else shown.float()
        if self.causal or self.window is not None:
            places = self._keys(0, self.key.shape[1]) if columns is None else columns
            if self.causal:
                start = _first_hidden(rows, columns)
                scores[:, :, start:] += _hiding(places[start:] > rows[:, None])
            if self.window is not None:
                scores += _hiding((rows[:, None] - places).abs() >= self.window)
        return scores

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        """The keys that at least one of these rows may see, and those between: (columns,)."""
        start, stop = 0, self.key.shape[1]
        if not len(rows):
            return self._keys(start, stop)
        if self.causal:
            stop = min(stop, int(rows.max()) + 1)
        if self.window is not None:
            start = max(0, int(rows.min()) - self.window + 1)
            stop = min(stop, int(rows.max()) + self.window)
        return self._keys(start, stop)

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

    def weights(self, heads: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor:
        """Whole rows of weights, float32, (heads, rows, columns); None stands for all heads."""
        keys = self.seen(rows)
        all_seen = len(keys) == self.key.shape[1]
        scores = self.scores(heads, rows, None if all_seen else keys)
        if self.sinks is None:
            seen = torch.softmax(scores, -1, out=scores)
        else:
            seen = scores.sub_(self.total(scores, heads)[:, :, None]).exp_()
        if all_seen:
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

    def total(self, scores: torch.Tensor, heads: torch.Tensor | None) -> torch.Tensor:
        """The log-sum-exp of whole rows of scores, and of the sinks: (heads, rows)."""
        total = scores.logsumexp(-1)
        if self.sinks is None:
            return total
        sinks = self.sinks if heads is None else self.sinks[heads]
        return torch.logaddexp(total, sinks.float()[:, None])

    def _meeting(
        self, heads: torch.Tensor | None, rows: torch.Tensor, columns: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries in float32 and scaled, and their keys as they are, each key head once."""
        if heads is None:
            query, key = self.query.index_select(1, rows), self.key
            key = key if columns is None else key.index_select(1, columns)
        else:
            query = self.query[heads[:, None], rows]
            its = [self.key[number] for number in self._key_heads(heads).tolist()]
            # Whole vectors are copied, in a fourth of the time that both indices at once take.
            key = torch.stack(
                [one if columns is None else one.index_select(0, columns) for one in its]
            )
        return query.float() * self.scale, key

    def _keys(self, start: int, stop: int) -> torch.Tensor:
        return torch.arange(start, stop, device=self.key.device)

    def _key_heads(self, heads: torch.Tensor) -> torch.Tensor:
        """Their key heads: each once if all of them have as many heads here, else one a head."""
        its = heads // (self.heads // self.key.shape[0])
        if len(its) == 1:
            return its
        used, counts = torch.unique_consecutive(its, return_counts=True)
        return used if (counts == counts[0]).all() else its


def _first_hidden(rows: torch.Tensor, columns: torch.Tensor | None) -> int:
    """Where the columns begin of which a causal mask hides some: of a run of rows, few."""
    if not len(rows):
        return 0
    if columns is None:
        return int(rows.min()) + 1
    late = columns > rows.min()
    return int(late.int().argmax()) if bool(late.any()) else len(columns)


def _hiding(hidden: torch.Tensor) -> torch.Tensor:
    """What hides scores when added to them, which takes an eighth of filling them in."""
    return torch.where(hidden, -math.inf, 0.0)

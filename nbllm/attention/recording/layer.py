"""Attention weights of one layer, computed again from its queries and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn import functional

from nbllm.attention.recording.indexing import taken
from nbllm.attention.recording.masks import Rule, additive, mask_key

__all__ = ["Layer"]

# Scores in float32 that a block of rows has: 4 MiB, so that they stay in the processor's cache.
SCORES_AT_ONCE = 2**20
# 256 MiB: a block is some ten kernels, and a GPU is done with small ones before the next are there.
SCORES_AT_ONCE_ON_CUDA = 2**26


@dataclass(frozen=True, eq=False)
class Layer:
    """The inputs of one attention layer, which decide its weights."""

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
        """The number of query heads."""
        return self.query.shape[0]

    @property
    def rule(self) -> Rule:
        """What is hidden beside the mask."""
        return Rule(self.causal, self.window)

    def scores(
        self, heads: Sequence[int] | None, rows: Sequence[int], columns: Sequence[int]
    ) -> torch.Tensor:
        """Return masked scores before softmax.

        Args:
            heads: Query heads; None stands for all.
            rows: Positions of queries.
            columns: Positions of keys.

        Returns:
            float32, (heads, rows, columns), minus infinity where a mask hides the key.
        """
        query, key = self._meeting(heads, rows, columns)
        # Queries that share a key head meet it in one product, so that it is not repeated.
        together = query.reshape(len(key), -1, query.shape[-1]) @ key.float().transpose(1, 2)
        scores = together.view(len(query), len(rows), len(columns))
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        for added in (self.bias, self.mask):
            if added is None:
                continue
            shown = added if heads is None or added.shape[0] == 1 else taken(added, 0, heads)
            scores += additive(taken(taken(shown, 1, rows), 2, columns))
        self.rule.hide(scores, rows, columns)
        return scores

    def seen(self, rows: Sequence[int]) -> range:
        """Return the keys that at least one of these rows may see, and those between."""
        return self.rule.visible(rows, self.key.shape[1])

    def blocks(self, heads: int, rows: Sequence[int]) -> list[Sequence[int]]:
        """Split rows into parts whose scores fit the memory that is set aside for them.

        Args:
            heads: The number of heads that are computed at once.
            rows: Positions of queries.
        """
        on_cuda = self.key.device.type == "cuda"
        most = SCORES_AT_ONCE_ON_CUDA if on_cuda else SCORES_AT_ONCE
        size = max(1, most // (heads * self.key.shape[1]))
        return [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]

    def log_sum_exp(
        self, heads: Sequence[int], rows: Sequence[int], masked: int | None = None
    ) -> torch.Tensor:
        """Return the logarithm of what softmax divides by.

        Args:
            heads: Query heads.
            rows: Positions of queries.
            masked: A key to leave out; None for none.

        Returns:
            float32, (heads, rows), minus infinity where a row has no key left.
        """
        parts = []
        for part in self.blocks(len(heads), rows):
            keys = self.seen(part)
            scores = self.scores(heads, part, keys)
            mask_key(scores, masked, keys)
            parts.append(self.total(scores, heads))
        return torch.cat(parts, dim=1)

    def weights(self, heads: Sequence[int] | None, rows: Sequence[int]) -> torch.Tensor:
        """Return whole rows of weights.

        Args:
            heads: Query heads; None stands for all.
            rows: Positions of queries.

        Returns:
            float32, (heads, rows, columns).
        """
        keys = self.seen(rows)
        scores = self.scores(heads, rows, keys)
        if self.sinks is None:
            seen = torch.softmax(scores, -1, out=scores)
        else:
            seen = scores.sub_(self.total(scores, heads)[:, :, None]).exp_()
        count = self.key.shape[1]
        if len(keys) == count:
            return seen
        return functional.pad(seen, (keys.start, count - keys.stop))

    def log_weights(
        self, heads: Sequence[int], rows: Sequence[int], keys: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logarithms of whole rows of weights, and of what softmax divided by.

        Args:
            heads: Query heads.
            rows: Positions of queries.
            keys: All keys that the rows may see.

        Returns:
            float32, (heads, rows, keys), and float32, (heads, rows).
        """
        scores = self.scores(heads, rows, keys)
        if self.sinks is not None:
            total = self.total(scores, heads)
            return scores.sub_(total[:, :, None]), total
        # A row at a time, in the fastest cache: log-sum-exp goes over all rows several times.
        largest = scores.amax(-1)
        logs = torch.log_softmax(scores, -1, out=scores)
        return logs, largest - logs.amax(-1)

    def total(self, scores: torch.Tensor, heads: Sequence[int] | None) -> torch.Tensor:
        """Return the log-sum-exp of whole rows of scores, and of the sinks: (heads, rows)."""
        total = scores.logsumexp(-1)
        if self.sinks is None:
            return total
        sinks = self.sinks if heads is None else taken(self.sinks, 0, heads)
        return torch.logaddexp(total, sinks.float()[:, None])

    def _meeting(
        self, heads: Sequence[int] | None, rows: Sequence[int], columns: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries in float32 and scaled, and their keys, each key head once."""
        query, key = taken(self.query, 1, rows), taken(self.key, 1, columns)
        if heads is not None:
            query, key = taken(query, 0, heads), taken(key, 0, self._key_heads(heads))
        return query.float() * self.scale, key

    def _key_heads(self, heads: Sequence[int]) -> Sequence[int]:
        """Their key heads: each once if all of them have as many heads here, else one a head."""
        group = self.heads // self.key.shape[0]
        its = [head // group for head in heads]
        runs = [(head, len(list(same))) for head, same in groupby(its)]
        if len({count for _, count in runs}) == 1:
            its = [head for head, _ in runs]
        return range(its[0], its[-1] + 1) if its == list(range(its[0], its[-1] + 1)) else its

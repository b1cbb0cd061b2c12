"""The order of examples, the same each time and after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Order"]

_POOL = 32  # batches whose examples are sorted by length together


@dataclass
class Order:
    """Batches of examples of about the same length, drawn anew each epoch.

    A batch of `rows` examples, after which the weights move, comes in parts of `part`, so that
    what a step learns does not depend on how much memory there is.

    Args:
        lengths: Tokens of each example.
        rows: Examples per step.
        part: Examples that are computed at once.
        seed: The seed of the order.
    """

    lengths: Sequence[int]
    rows: int
    part: int
    seed: int
    epoch: int = 0

    def __iter__(self) -> Iterator[list[int]]:
        return (part for batch in self.batches() for part in self._parts(batch))

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.rows)
        return whole * -(-self.rows // self.part) + -(-rest // self.part)

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self.lengths) // self.rows)

    def batches(self) -> list[list[int]]:
        """Return the epoch's batches; one that is not full comes last."""
        random = np.random.default_rng([self.seed, self.epoch])
        shuffled = random.permutation(len(self.lengths))
        kept = len(shuffled) // self.rows * self.rows
        full: list[list[int]] = []
        for start in range(0, kept, pool := self.rows * _POOL):
            some = sorted(
                shuffled[start : min(start + pool, kept)].tolist(), key=self.lengths.__getitem__
            )
            full += [some[n : n + self.rows] for n in range(0, len(some), self.rows)]
        drawn = [full[n] for n in random.permutation(len(full))]
        return [*drawn, shuffled[kept:].tolist()] if kept < len(shuffled) else drawn

    def _parts(self, batch: list[int]) -> list[list[int]]:
        return [batch[n : n + self.part] for n in range(0, len(batch), self.part)]

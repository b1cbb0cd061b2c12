"""Cutting prompts into batches that fit, with little padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbllm.engine.batch_memory import BatchCost, batch_key, known_factor, remember_factor
from nbllm.models.memory import free_memory

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["TokenBudget", "batches", "first_rows"]

# More tokens than these make no device faster. On two cores, scoring rows of like length took 6 %
# longer with 1024 tokens than with 1536, and 2048 saved less than they add in padding. Decoding
# reads all weights for each token: more rows share that, up to 4096.
_CPU_SCORING, _CPU_DECODING = 1536, 4096
_ACCELERATOR = {"mps": 8192, "cuda": 16384}

_FIRST = 1 / 4  # of a batch
_SHARE = 0.8  # of the memory that is left: forecasts err, and others want some too


@dataclass
class TokenBudget:
    """What one forward pass may take; lowered when memory runs out."""

    tokens: int  # padding included, without those that all rows share
    room: float = math.inf  # bytes
    cost: BatchCost = field(default_factory=BatchCost)
    model: Model | None = None  # for which to remember that memory ran out
    decodes: bool = False

    @classmethod
    def of(cls, model: Model, *, decodes: bool) -> TokenBudget:
        """The budget of a model: what suits its device and fits in the memory left on it now.

        Where a forecast of memory has been too low before, in this process or another, it fits
        that much less.

        Args:
            decodes: whether texts are written token by token, or prompts only read.
        """
        on_cpu = _CPU_DECODING if decodes else _CPU_SCORING
        return cls(
            _ACCELERATOR.get(model.device.type, on_cpu),
            _SHARE * free_memory(model.device) / known_factor(batch_key(model, decodes=decodes)),
            BatchCost.foretold(model, decodes=decodes),
            model,
            decodes,
        )

    def rows(self, length: int, shared: int = 0) -> int:
        """How many rows of so many tokens, behind `shared` ones, make a batch; 1 at least."""
        fitting = self.cost.rows(self.room, length, shared)
        return int(max(1, min(self.tokens // max(1, length), fitting)))

    def lower(self, rows: int, length: int, shared: int = 0) -> None:
        """Allow half of this batch, for which memory ran out, from now on."""
        fixed = self.cost.fixed
        half = fixed + (self.cost.of(rows, length, shared) - fixed) / 2
        self.room = min(self.room, half)
        # What a single text takes may be past all proportion, and no smaller batch helps it.
        if self.model is not None and rows > 1:
            key = batch_key(self.model, decodes=self.decodes)
            remember_factor(key, _SHARE * free_memory(self.model.device) / half)


def first_rows(rows: int, texts: int) -> int:
    """How many of some texts are in the first batch, where so many rows make one."""
    return math.ceil(rows * _FIRST) if rows < texts else texts


def batches(lengths: Sequence[int], budget: TokenBudget, shared: int = 0) -> Iterator[list[int]]:
    """Cut prompts into batches of like length that are within the budget.

    The budget is read anew for each batch, so that lowering it counts at once. The longest
    come first: if they do not fit in memory, that shows at the start of a run. Of several
    batches the first is a quarter of one, so that the user soon has rows to look at.

    Args:
        lengths: tokens a prompt takes in a batch.
        budget: what a batch may take; a longer prompt is a batch of its own.
        shared: tokens that stand before every prompt, and are not counted in `lengths`.

    Yields:
        Indices into `lengths`.

    Example:
        >>> list(batches([3, 9, 4], TokenBudget(9)))
        [[1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = budget.rows(lengths[order[start]], shared)
        if start == 0:
            rows = first_rows(rows, len(order))
        yield order[start : start + rows]
        start += rows

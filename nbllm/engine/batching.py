"""Cuts prompts into batches that fit, with little padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbllm.engine.batch_memory import BatchCost, oom_factor, raise_oom_factor
from nbllm.models.memory.budget import BATCH_SHARE, free_memory

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["TokenBudget", "batches", "first_rows"]

# More tokens than these make no device faster. On two cores, scoring rows of like length took 6 %
# longer with 1024 tokens than with 1536, and 2048 saved less than they add in padding. Decoding
# reads all weights for each token: more rows share that. Rows of 700
# tokens are 20 to a batch.
_CPU_SCORING, _CPU_DECODING = 1536, 16384
_ACCELERATOR = {"mps": 8192, "cuda": 16384}

# Rows that CUDA decodes at once, if memory has room for them, however many tokens those are. A
# step reads all weights, whatever it computes: on cards from the T4 to the B200 some 150 to 300
# rows take as long to multiply by 16-bit weights as those take to be read. Beyond that a row more
# shares no more than what it costs to launch the kernels.
_ROWS_ON_CUDA = 1024

_FIRST = 1 / 4  # of a batch


@dataclass
class TokenBudget:
    """The size that a forward pass may have; lowered when memory runs out."""

    tokens: float  # padding and labels included, without those that all rows share
    room: float = math.inf  # bytes
    cost: BatchCost = field(default_factory=BatchCost)
    model: Model | None = None  # for which to remember that memory ran out
    decodes: bool = False
    most_rows: float = math.inf

    @classmethod
    def of(cls, model: Model, *, decodes: bool, label_tokens: int = 0) -> TokenBudget:
        """Return the budget of a model: the size that suits its device and fits in its free memory.

        Where a forecast of memory was too low before in this process, the budget is lower by as
        much.

        Args:
            model: the model that runs.
            decodes: whether texts are generated token by token, or prompts are only scored.
            label_tokens: tokens that are computed after each prompt, as by `LabelScorer`.
        """
        on_cpu = _CPU_DECODING if decodes else _CPU_SCORING
        by_memory = decodes and model.device.type == "cuda"
        return cls(
            math.inf if by_memory else _ACCELERATOR.get(model.device.type, on_cpu),
            BATCH_SHARE * free_memory(model.device) / oom_factor(model, decodes=decodes),
            BatchCost.forecast(model, decodes=decodes, label_tokens=label_tokens),
            model,
            decodes,
            _ROWS_ON_CUDA if by_memory else math.inf,
        )

    def rows(self, length: int, shared: int = 0) -> int:
        """Return how many rows make a batch; 1 at least.

        Args:
            length: tokens of the longest row.
            shared: tokens that stand before those of every row.
        """
        fitting = self.cost.rows(self.room, length, shared)
        within = self.tokens / max(1, length + self.cost.added)
        return int(max(1, min(within, fitting, self.most_rows)))

    def lower(self, rows: int, length: int, shared: int = 0) -> None:
        """Halve the budget, after a batch for which memory ran out.

        Args:
            rows: texts of that batch.
            length: tokens of its longest row.
            shared: tokens that stood before those of every row.
        """
        fixed = self.cost.fixed
        half = fixed + (self.cost.of(rows, length, shared) - fixed) / 2
        self.room = min(self.room, half)
        # What a single text takes may be past all proportion, and no smaller batch helps it.
        if self.model is not None and rows > 1:
            factor = BATCH_SHARE * free_memory(self.model.device) / half
            raise_oom_factor(self.model, factor, decodes=self.decodes)


def first_rows(rows: int, texts: int) -> int:
    """Return the size of the first batch, which is a quarter of one unless it is the only one.

    Args:
        rows: texts that fit in a batch.
        texts: all of them.
    """
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

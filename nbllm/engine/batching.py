"""Cutting prompts into batches that fit, with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["TokenBudget", "batches"]

# Where the 135M model's forward reaches 3/4 of the processor's bf16 matrix-product rate and
# more tokens gain nothing; a GPU wants more work at a time.
_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 16384}


@dataclass
class TokenBudget:
    """Tokens, padding included, that one forward pass may take; lowered when memory runs out."""

    tokens: int

    @classmethod
    def for_device(cls, device_type: str) -> TokenBudget:
        """The budget to start with on a kind of device."""
        return cls(_TOKENS.get(device_type, _TOKENS["cpu"]))

    def lower(self, tokens: int) -> None:
        """Allow no more than this from now on."""
        self.tokens = max(1, min(self.tokens, tokens))


def batches(lengths: Sequence[int], budget: TokenBudget) -> Iterator[list[int]]:
    """Cut prompts into batches of like length whose padded size fits the budget.

    The budget is read anew for each batch, so that lowering it counts at once. The longest
    come first: if they do not fit in memory, that shows at the start of a run.

    Args:
        lengths: tokens a prompt takes in a batch.
        budget: tokens a batch may have; a longer prompt is a batch of its own.

    Yields:
        Indices into `lengths`.

    Example:
        >>> list(batches([3, 9, 4], TokenBudget(9)))
        [[1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, budget.tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows

"""The memory that one quantization takes with one context and batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Fits", "Requirement"]

Fits = Literal["yes", "not now", "spread", "no", "no kernel"]


@dataclass(frozen=True)
class Requirement:
    """The bytes that one quantization takes with one context and batch."""

    quantization: str
    context: int  # tokens of each text
    batch: int  # texts
    weights: int
    cache: int  # keys and values, of all texts
    activations: int  # what else is alive at the worst moment of reading them
    loading: int  # the peak while the weights are read and quantized
    # "spread": only over several devices; "not now": only if other programs gave memory back
    fits: Fits = "no"
    # Of that context in one batch, in the share that a run takes of the memory that the weights
    # leave free: on one device where one text fits there, else over all. The batch is not in it.
    most_texts: int = 0

    @property
    def running(self) -> int:
        """The peak once it is loaded."""
        return self.weights + self.cache + self.activations

    @property
    def peak(self) -> int:
        """The greater of loading and running."""
        return max(self.loading, self.running)

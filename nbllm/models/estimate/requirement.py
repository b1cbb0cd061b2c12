"""The memory that one quantization takes, and how many texts devices have room for."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nbllm.models.memory.budget import BATCH_SHARE, room_over

if TYPE_CHECKING:
    from nbllm.models.estimate.dry_run import DryRun

__all__ = ["MANY", "Fits", "Requirement", "has_room", "most_texts"]

# Texts of two batches, between which activations are taken to grow evenly: one, and as many as a
# run has at most. Since they grow faster and faster, this takes them for more than they are rather
# than for less.
MANY = 1024
_MOST = 10**9  # texts

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


def has_room(row: Requirement, memories: list[int]) -> bool:
    """Return whether devices hold a row, each with a part of weights, keys and values.

    Args:
        row: one quantization with one context and batch.
        memories: the bytes of each device.
    """
    moments = ((row.weights, row.loading - row.weights), (row.weights + row.cache, row.activations))
    return all(held <= room_over(memories, moment) for held, moment in moments)


def most_texts(
    weights: int, loading: int, choice: str, one: DryRun, many: DryRun, free: int, places: list[int]
) -> int:
    """Return how many texts fit in one batch, in the share of the memory that a run takes.

    Args:
        weights: bytes.
        loading: the peak in bytes while they are read and quantized.
        choice: the quantization.
        one: a pass over one text.
        many: a pass over `MANY` texts.
        free: bytes of the device that is asked about.
        places: those of each device of that kind.
    """
    first, last = one.activations[choice], many.activations[choice]
    slope = (last - first) / (MANY - 1)

    def of(texts: int) -> Requirement:
        # From so many on, as much for each as for each of those.
        grown = first + slope * (texts - 1) if texts <= MANY else last * texts / MANY
        return Requirement(choice, 0, texts, weights, one.cache * texts, int(grown), loading)

    memories = next((m for m in ([free], places) if has_room(of(1), m)), None)
    if memories is None:
        return 0

    def too_many(texts: int) -> bool:
        need = of(texts)
        room = room_over(memories, int(need.activations / BATCH_SHARE))
        return weights + need.cache / BATCH_SHARE > room

    # One fits, if not within the share: a run takes a text at a time then.
    return max(1, bisect_left(range(1, _MOST), True, key=too_many))

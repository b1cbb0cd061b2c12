"""Time and memory of a device, and the two rates that no program on it can exceed.

The same calls for a CPU and a GPU, so that a benchmark for the one is tested on the other.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["Meter", "Spent", "median"]

T = TypeVar("T")


@dataclass(frozen=True)
class Spent:
    """What some work took: seconds by the clock, and of processor time over all threads."""

    wall: float
    cpu: float


def median(runs: Sequence[Spent]) -> Spent:
    """The median of each clock."""
    return Spent(
        statistics.median(run.wall for run in runs), statistics.median(run.cpu for run in runs)
    )


class Meter:
    """Measures work on one device, which has finished when a measurement returns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._on_gpu = device.type == "cuda"

    def spent(self, work: Callable[[], T]) -> tuple[T, Spent]:
        """The result of `work`, and what it took."""
        self._synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self._synchronize()
        return result, Spent(time.perf_counter() - wall, time.process_time() - cpu)

    def medians(self, rounds: int, *works: Callable[[], object]) -> list[Spent]:
        """What each work takes, after one run of each that is not counted.

        They take turns, so that a machine that slows down does so for all of them.
        """
        for work in works:
            work()
        runs = [[self.spent(work)[1] for work in works] for _ in range(rounds)]
        return [median(column) for column in zip(*runs, strict=True)]

    def in_use(self) -> int:
        """Bytes of the tensors there are."""
        if self._on_gpu:
            return int(torch.cuda.memory_allocated(self.device))
        # By type: isinstance would wake objects that only pretend to be something else.
        tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
        # torch.compile leaves some behind that have a shape and no numbers.
        real = [t for t in tensors if not issubclass(type(t), FakeTensor)]
        stores = [t.untyped_storage() for t in real if t.device == self.device]
        return sum({store.data_ptr(): store.nbytes() for store in stores}.values())

    def peak(self, work: Callable[[], T]) -> tuple[T, int]:
        """The result of `work`, and the most bytes of tensors that there were meanwhile.

        On a CPU torch does not count: it is what there is afterwards.
        """
        if not self._on_gpu:
            result = work()
            return result, self.in_use()
        torch.cuda.reset_peak_memory_stats(self.device)
        result = work()
        self._synchronize()
        return result, int(torch.cuda.max_memory_allocated(self.device))

    def matrix_product(self, dtype: torch.dtype, size: int) -> tuple[float, Spent]:
        """Operations of one square matrix product, and the least that it took."""
        # Of zeros it would be faster: they take less power.
        a, b = torch.randn(2, size, size, device=self.device).to(dtype)
        return 2.0 * size**3, self._least(lambda: a @ b)

    def copy(self, size: int) -> tuple[float, Spent]:
        """Bytes read and written by one copy of `size` bytes, and the least that it took."""
        source = torch.arange(size // 8, device=self.device)  # of eight bytes each
        target = torch.empty_like(source)
        return 2.0 * source.nbytes, self._least(lambda: target.copy_(source))

    def _least(self, work: Callable[[], object], rounds: int = 10) -> Spent:
        runs = [self.spent(work)[1] for _ in range(rounds)]
        return Spent(min(run.wall for run in runs), min(run.cpu for run in runs))

    def _synchronize(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self.device)

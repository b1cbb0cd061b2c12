"""The number of threads for the arithmetic of small blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, in the calling thread.

    A tile is computed in blocks that fit the processor's cache, each in less than a millisecond:
    threads that wait for each other after each block cost more than they gain. Other Python
    threads keep their number (omp_set_num_threads is of the caller alone).

    Example:
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

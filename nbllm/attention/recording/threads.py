"""The number of threads for the arithmetic of small blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, in the calling thread.

    A tile is computed in blocks that fit the processor's cache, each in less than a
    millisecond. Threads that wait for each other after each of them cost more than they gain,
    and many times more on a machine that is busy with a browser. The number of threads of
    other Python threads, which may be running a model, stays as it is (torch sets it through
    omp_set_num_threads, which is of the caller alone).

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

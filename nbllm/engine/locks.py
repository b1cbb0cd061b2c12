"""One forward pass at a time: runs in the background alternate with the notebook.

A scorer puts a hook on its network for as long as a pass lasts, and two passes at once would
not be faster: one already takes the whole device. A computation of many passes holds the lock for
all of them only where it must, and else yields between them.

A tokenizer has a lock of its own, since its switches are shared and its work is short: whoever
only tokenizes waits for no pass.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

__all__ = ["FORWARD_LOCK", "TOKENIZER_LOCK", "FairLock", "named_work"]

_LONG = 1.5  # seconds of waiting before it is reported

_current_work: ContextVar[str] = ContextVar(
    "_current_work", default="another computation of this kernel"
)


@dataclass(eq=False)
class _Waiter:
    """A thread in the queue."""

    thread: int
    work: str
    since: float = field(default_factory=time.monotonic)
    closed: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.closed.acquire()


class FairLock:
    """A reentrant lock that is granted in the order in which it was requested.

    A lock of `threading` goes to whoever comes first, which is nearly always the thread that has
    just released it: a run would let nobody else in between its batches.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._owner: int | None = None
        self._depth = 0
        self._owner_work = ""

    def __enter__(self) -> FairLock:
        me = threading.get_ident()
        with self._guard:
            if self._owner == me:
                self._depth += 1
                return self
            if self._owner is None:
                self._grant(me, _current_work.get())
                return self
            waiter = self._enqueue(me)
        self._wait(waiter)
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._owner != threading.get_ident():
                return  # interrupted while it yielded to others
            self._depth -= 1
            if not self._depth:
                self._pass_on()

    def yield_to_waiting(self) -> None:
        """Let waiting threads go first, then take the lock again; for its owner, between passes."""
        me = threading.get_ident()
        with self._guard:
            if self._owner != me or not self._waiting:
                return
            depth = self._depth
            waiter = self._enqueue(me)
            self._pass_on()
        self._wait(waiter)
        self._depth = depth

    def blocked_by(self, thread: int) -> str | None:
        """Return the work that a thread waits for; None where it does not wait, or not for long.

        Args:
            thread: as `threading.get_ident` has it.
        """
        long_ago = time.monotonic() - _LONG
        with self._guard:
            waits = any(p.thread == thread and p.since < long_ago for p in self._waiting)
            return self._owner_work if waits else None

    def _enqueue(self, thread: int) -> _Waiter:
        waiter = _Waiter(thread, _current_work.get())
        self._waiting.append(waiter)
        return waiter

    def _wait(self, waiter: _Waiter) -> None:
        try:
            waiter.closed.acquire()  # released by the thread that had the lock
        except BaseException:  # an interrupt of the kernel
            with self._guard:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                else:  # the lock had been granted meanwhile
                    self._pass_on()
            raise

    def _grant(self, thread: int | None, work: str = "") -> None:
        self._owner, self._owner_work = thread, work
        self._depth = 0 if thread is None else 1

    def _pass_on(self) -> None:
        if not self._waiting:
            self._grant(None)
            return
        waiter = self._waiting.popleft()
        self._grant(waiter.thread, waiter.work)
        waiter.closed.release()


@contextmanager
def named_work(work: str) -> Iterator[None]:
    """Name the work of this thread while the context is open, for those who wait for its lock.

    Args:
        work: as a message says it, such as "an explanation of a row".
    """
    before = _current_work.set(work)
    try:
        yield
    finally:
        _current_work.reset(before)


FORWARD_LOCK = FairLock()
TOKENIZER_LOCK = threading.RLock()


def _reset_after_fork() -> None:
    """Release both locks in a forked process, where those who held them do not exist."""
    FORWARD_LOCK.__init__()  # type: ignore[misc]
    TOKENIZER_LOCK._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)

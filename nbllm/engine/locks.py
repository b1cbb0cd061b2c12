"""One pass through a network at a time: runs in the background take turns with the notebook.

A scorer hangs a hook on its network for as long as a pass lasts, and two passes at once would
not be faster: one already takes the whole device. What takes many passes holds its turn for all
of them only where it must, and else lets others have theirs in between.

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

_LONG = 1.5  # seconds of waiting that are worth a word

_doing: ContextVar[str] = ContextVar("_doing", default="another computation of this kernel")


@dataclass(eq=False)
class _Place:
    """One in the line of those who wait."""

    thread: int
    does: str
    since: float = field(default_factory=time.monotonic)
    closed: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.closed.acquire()


class FairLock:
    """A lock that is given in the order in which it was asked for, and taken again by who has it.

    A lock of `threading` goes to whoever comes first, which is nearly always the thread that has
    just released it: a run would leave nobody else a turn between its batches.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._line: deque[_Place] = deque()  # of threads that wait
        self._owner: int | None = None
        self._depth = 0
        self._owner_does = ""

    def __enter__(self) -> FairLock:
        me = threading.get_ident()
        with self._guard:
            if self._owner == me:
                self._depth += 1
                return self
            if self._owner is None:
                self._give(me, _doing.get())
                return self
            place = self._queue(me)
        self._wait(place)
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._owner != threading.get_ident():
                return  # interrupted while it let others have their turn
            self._depth -= 1
            if not self._depth:
                self._pass_on()

    def yield_to_waiting(self) -> None:
        """Give those who wait their turn, and then go on; for its owner, between two passes."""
        me = threading.get_ident()
        with self._guard:
            if self._owner != me or not self._line:
                return
            depth = self._depth
            place = self._queue(me)
            self._pass_on()
        self._wait(place)
        self._depth = depth

    def blocked_by(self, thread: int) -> str | None:
        """What holds up a thread; None where it does not wait for its turn, or not for long."""
        long_ago = time.monotonic() - _LONG
        with self._guard:
            waits = any(p.thread == thread and p.since < long_ago for p in self._line)
            return self._owner_does if waits else None

    def _queue(self, thread: int) -> _Place:
        place = _Place(thread, _doing.get())
        self._line.append(place)
        return place

    def _wait(self, place: _Place) -> None:
        try:
            place.closed.acquire()  # opened by whoever passes the turn on
        except BaseException:  # an interrupt of the kernel
            with self._guard:
                if place in self._line:
                    self._line.remove(place)
                else:  # it had been given meanwhile
                    self._pass_on()
            raise

    def _give(self, thread: int | None, does: str = "") -> None:
        self._owner, self._owner_does = thread, does
        self._depth = 0 if thread is None else 1

    def _pass_on(self) -> None:
        if not self._line:
            self._give(None)
            return
        place = self._line.popleft()
        self._give(place.thread, place.does)
        place.closed.release()


@contextmanager
def named_work(what: str) -> Iterator[None]:
    """Name what this thread does, for those who wait for their turn meanwhile."""
    before = _doing.set(what)
    try:
        yield
    finally:
        _doing.reset(before)


FORWARD_LOCK = FairLock()
TOKENIZER_LOCK = threading.RLock()


def _begin_anew() -> None:
    """In a process that was forked: those who held a lock are not there to release it."""
    FORWARD_LOCK.__init__()  # type: ignore[misc]
    TOKENIZER_LOCK._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

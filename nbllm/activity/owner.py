"""The process that a record belongs to, and whether it is still alive."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbllm.activity.records import finite

if TYPE_CHECKING:
    import psutil

__all__ = ["Owner", "this_process"]

# Linux counts start times from a boot time in whole seconds.
_SAME_START = 2.0  # seconds

_CONNECTION_FILE = re.compile(r"kernel-([^/\\]+)\.json$")


@dataclass(frozen=True)
class Owner:
    """A process, and the kernel and notebook that it serves, if it does."""

    space: str  # of all processes among which `pid` names one
    pid: int
    started: float  # seconds, in a count that only says whether two are the same
    kernel: str | None = None
    notebook: str | None = None  # as the server that started the kernel called it

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Owner:
        """Return the owner that a record names; KeyError, TypeError or ValueError for none."""
        return cls(
            space=str(record["space"]),
            pid=int(record["pid"]),
            started=finite(record["started"]),
            kernel=_text_or_none(record["kernel"]),
            notebook=_text_or_none(record["notebook"]),
        )

    @property
    def id(self) -> str:
        """Its name among all processes; a file may be called so."""
        return f"{self.pid}-{hashlib.sha256(self.space.encode()).hexdigest()[:8]}"

    @property
    def is_here(self) -> bool:
        """Whether this process could see it."""
        return self.space == _space()

    @property
    def is_this(self) -> bool:
        """Whether it is this very process."""
        return self.is_here and self.pid == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether it is here and at work: its number may have gone to another one since."""
        import psutil

        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            dead: bool = process.status() == psutil.STATUS_ZOMBIE
            return not dead and abs(_start(process) - self.started) < _SAME_START
        except (psutil.Error, ValueError, OverflowError):
            return False


def this_process() -> Owner:
    """The owner of what this process writes."""
    import psutil

    return Owner(
        space=_space(),
        pid=os.getpid(),
        started=_start(psutil.Process()),
        kernel=_kernel(),
        notebook=os.environ.get("JPY_SESSION_NAME") or None,
    )


@cache
def _space() -> str:
    """Where a process number is unique: machines, and containers of one, may share a home."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        # Not Linux. Homes are seldom shared there, and a Mac's name changes with its network.
        return sys.platform


def _start(process: psutil.Process) -> float:
    """When a process started, in a count that stays when someone sets the clock."""
    import psutil

    if not sys.platform.startswith("linux"):
        return float(process.create_time())
    # Asked first, because older versions of psutil keep it and add it to create_time.
    boot = psutil.boot_time()
    return float(process.create_time() - boot)


def _kernel() -> str | None:
    """The kernel's id, from the name of its connection file; None outside of a kernel."""
    # Not sys.argv, which notebooks set to feed code that parses a command line.
    for argument in sys.orig_argv:
        found = _CONNECTION_FILE.search(argument)
        if found:
            return found[1]
    return None


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)

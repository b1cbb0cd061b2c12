"""Identifies the process that owns a record, and checks whether it is alive."""

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

from nbllm.activity.records import finite_number

if TYPE_CHECKING:
    import psutil

__all__ = ["Owner", "this_process"]

# On Linux, start times are relative to a boot time in whole seconds.
_START_TOLERANCE = 2.0  # seconds

_CONNECTION_FILE = re.compile(r"kernel-([^/\\]+)\.json$")


@dataclass(frozen=True)
class Owner:
    """A process, with its kernel and notebook if it has them."""

    space: str  # the namespace in which `pid` is unique
    pid: int
    started: float  # seconds, only to compare for equality
    kernel: str | None = None
    notebook: str | None = None  # the path when the server started the kernel

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Owner:
        """Return the owner in a JSON object.

        An invalid one raises KeyError, TypeError or ValueError.
        """
        return cls(
            space=str(record["space"]),
            pid=int(record["pid"]),
            started=finite_number(record["started"]),
            kernel=_text_or_none(record["kernel"]),
            notebook=_text_or_none(record["notebook"]),
        )

    @property
    def id(self) -> str:
        """The unique name of the process, which is a valid file name."""
        return f"{self.pid}-{hashlib.sha256(self.space.encode()).hexdigest()[:8]}"

    @property
    def is_here(self) -> bool:
        """Whether the process is in this process's namespace."""
        return self.space == _namespace()

    @property
    def is_this(self) -> bool:
        """Whether it is this process."""
        return self.is_here and self.pid == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether the process is alive here; a process that reuses its id does not count."""
        import psutil

        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            dead: bool = process.status() == psutil.STATUS_ZOMBIE
            return not dead and abs(_start(process) - self.started) < _START_TOLERANCE
        except (psutil.Error, ValueError, OverflowError):
            return False


def this_process() -> Owner:
    """Return the owner of this process's records."""
    import psutil

    return Owner(
        space=_namespace(),
        pid=os.getpid(),
        started=_start(psutil.Process()),
        kernel=_kernel(),
        notebook=os.environ.get("JPY_SESSION_NAME") or None,
    )


@cache
def _namespace() -> str:
    """Return the namespace of process ids, since machines and containers may share a home."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        # Not Linux, where homes are rarely shared; a Mac's host name changes with its network.
        return sys.platform


def _start(process: psutil.Process) -> float:
    """Return the start time of a process, in seconds, independent of clock changes."""
    import psutil

    if not sys.platform.startswith("linux"):
        return float(process.create_time())
    # Read first, since older versions of psutil cache it and add it to create_time.
    boot = psutil.boot_time()
    return float(process.create_time() - boot)


def _kernel() -> str | None:
    """Return the kernel's id from the name of its connection file; None outside of a kernel."""
    # Not sys.argv, which notebooks change for code that parses a command line.
    for argument in sys.orig_argv:
        found = _CONNECTION_FILE.search(argument)
        if found:
            return found[1]
    return None


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)

"""Which process holds which model: its own announcement, and what others read of it."""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbllm.activity.owner import Owner, this_process
from nbllm.activity.records import activity_folder, delete, finite, read, record_files, write

__all__ = ["DeviceMemory", "HeldModel", "ProcessRecord", "announce", "processes"]

_FORGOTTEN = 30 * 86400.0  # seconds after which a record of another machine is removed


@dataclass(frozen=True)
class HeldModel:
    """A network in a process's memory."""

    key: str  # by which that process unloads it
    name: str  # what the user calls it
    quantization: str
    dtype: str
    device: str  # where its input goes
    bytes: int
    shares: int  # how many times it was loaded
    bytes_by_device: Mapping[str, int]  # of one that is spread, each part


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of an accelerator, as the process saw it when it announced it."""

    device: str  # as that process counts them: cuda:0 ...
    identity: str  # of the piece of hardware, which another process may count otherwise
    total: int  # bytes
    free: int


@dataclass(frozen=True)
class ProcessRecord:
    """A process that is alive, and the models that it holds."""

    owner: Owner
    models: tuple[HeldModel, ...]
    devices: tuple[DeviceMemory, ...]
    announced: float  # seconds since 1970

    @property
    def id(self) -> str:
        """Its name among all processes."""
        return self.owner.id

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> ProcessRecord:
        """Return a record as `announce` wrote it; KeyError, TypeError or ValueError for another."""
        return cls(
            owner=Owner.read(record["owner"]),
            models=tuple(map(_model, record["models"])),
            devices=tuple(map(_device, record["devices"])),
            announced=finite(record["announced"]),
        )


def announce(models: Sequence[HeldModel], devices: Sequence[DeviceMemory] = ()) -> None:
    """Write which models this process holds now; without any, its record is removed.

    Args:
        models: All of them, not only the newest.
        devices: The accelerators that it sees.
    """
    owner = this_process()
    if not models:
        delete(_file(owner))
        return
    record = ProcessRecord(owner, tuple(models), tuple(devices), time.time())
    if write(_file(owner), asdict(record)):
        atexit.unregister(_leave)
        atexit.register(_leave)


def processes() -> list[ProcessRecord]:
    """Return the processes of this machine that hold a model now, the oldest first.

    Records of processes that were killed are removed.
    """
    alive = []
    for path in record_files(_folder()):
        record = _read(path)
        if record is not None and record.owner.is_alive:
            alive.append(record)
        elif record is None or record.owner.is_here or _is_forgotten(record):
            delete(path)
    return sorted(alive, key=lambda record: (record.owner.started, record.owner.pid))


def _leave() -> None:
    """At the end of the interpreter, which frees its memory without unloading."""
    delete(_file(this_process()))


def _folder() -> Path:
    return activity_folder("processes")


def _file(owner: Owner) -> Path:
    return _folder() / f"{owner.id}.json"


def _read(path: Path) -> ProcessRecord | None:
    """A record; None where it is gone, damaged or not what its name says."""
    stored = read(path)
    try:
        record = None if stored is None else ProcessRecord.read(stored)
        return record if record is not None and record.id == path.stem else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _is_forgotten(record: ProcessRecord) -> bool:
    return time.time() - record.announced > _FORGOTTEN


def _model(record: Mapping[str, Any]) -> HeldModel:
    texts = {name: str(record[name]) for name in ("key", "name", "quantization", "dtype", "device")}
    spread = {str(device): int(held) for device, held in record["bytes_by_device"].items()}
    return HeldModel(
        **texts,
        bytes=int(record["bytes"]),
        shares=int(record["shares"]),
        bytes_by_device=spread,
    )


def _device(record: Mapping[str, Any]) -> DeviceMemory:
    return DeviceMemory(
        device=str(record["device"]),
        identity=str(record["identity"]),
        total=int(record["total"]),
        free=int(record["free"]),
    )

"""Records of the models that each process holds."""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbllm.activity.owner import Owner, this_process
from nbllm.activity.records import (
    activity_folder,
    delete,
    finite_number,
    read_record,
    record_files,
    write_record,
)

__all__ = ["DeviceMemory", "HeldModel", "ProcessRecord", "announce", "processes"]

_MAX_AGE = 30 * 86400.0  # seconds until a record of another machine is removed


@dataclass(frozen=True)
class HeldModel:
    """A network in a process's memory."""

    key: str  # identifies it in `unload`
    name: str  # the user's name of the model
    quantization: str
    dtype: str
    device: str  # of its input
    bytes: int
    shares: int  # the number of times it is loaded
    bytes_by_device: Mapping[str, int]


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of an accelerator at the time of the announcement."""

    device: str  # the process's name of it: cuda:0 ...
    identity: str  # of the hardware; another process may use another device number
    total: int  # bytes
    free: int


@dataclass(frozen=True)
class ProcessRecord:
    """A process and the models that it holds."""

    owner: Owner
    models: tuple[HeldModel, ...]
    devices: tuple[DeviceMemory, ...]
    announced: float  # seconds since 1970

    @property
    def id(self) -> str:
        """The unique name of the process."""
        return self.owner.id

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ProcessRecord:
        """Return the record in a JSON object; errors as in `Owner.from_json`."""
        return cls(
            owner=Owner.from_json(record["owner"]),
            models=tuple(map(_model, record["models"])),
            devices=tuple(map(_device, record["devices"])),
            announced=finite_number(record["announced"]),
        )


def announce(models: Sequence[HeldModel], devices: Sequence[DeviceMemory] = ()) -> None:
    """Write the record of this process, or remove it if it holds no models.

    Args:
        models: All models that the process holds.
        devices: The accelerators that the process sees.
    """
    owner = this_process()
    if not models:
        delete(_file(owner))
        return
    record = ProcessRecord(owner, tuple(models), tuple(devices), time.time())
    if write_record(_file(owner), asdict(record)):
        atexit.unregister(_remove_record)
        atexit.register(_remove_record)


def processes() -> list[ProcessRecord]:
    """Return the living processes of this machine that hold models, oldest first.

    Records of dead processes are removed.
    """
    alive = []
    for path in record_files(_folder()):
        record = _read(path)
        if record is not None and record.owner.is_alive:
            alive.append(record)
        elif record is None or record.owner.is_here or _is_outdated(record):
            delete(path)
    return sorted(alive, key=lambda record: (record.owner.started, record.owner.pid))


def _remove_record() -> None:
    """Remove the record when the interpreter exits, which does not unload models."""
    delete(_file(this_process()))


def _folder() -> Path:
    return activity_folder("processes")


def _file(owner: Owner) -> Path:
    return _folder() / f"{owner.id}.json"


def _read(path: Path) -> ProcessRecord | None:
    """Return the record in a file; None if it is missing, damaged or has another id."""
    stored = read_record(path)
    try:
        record = None if stored is None else ProcessRecord.from_json(stored)
        return record if record is not None and record.id == path.stem else None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _is_outdated(record: ProcessRecord) -> bool:
    return time.time() - record.announced > _MAX_AGE


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

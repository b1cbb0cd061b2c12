"""The memory of this machine and of its accelerators, and which models hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbllm.activity.processes import DeviceMemory, ProcessRecord
from nbllm.models.memory.budget import container_limits

__all__ = ["HostMemory", "devices", "host_memory"]

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostMemory:
    """The memory that processes of this machine, or of its container, share."""

    total: int  # bytes
    used: int


def host_memory() -> HostMemory:
    """Return the memory of this machine, or its container, and how much of it is in use."""
    import psutil

    machine = psutil.virtual_memory()
    limit = min(container_limits())
    if limit >= machine.total:
        return HostMemory(int(machine.total), int(machine.total - machine.available))
    used = _used_by_container()
    return HostMemory(limit, min(limit, int(machine.used)) if used is None else used)


def devices(running: Sequence[ProcessRecord], host: HostMemory) -> list[dict[str, Any]]:
    """Return each device with its bytes, total and used, and the models that hold some of them.

    An accelerator's figures are those of the newest announcement. Models on a device without memory
    figures of its own, such as Apple's, which shares the machine's memory, count to the machine.

    Args:
        running: The processes that hold a model.
        host: The memory of the machine.
    """
    newest: dict[str, DeviceMemory] = {}
    for record in sorted(running, key=lambda record: record.announced):
        newest |= {device.identity: device for device in record.devices}
    held: dict[str, list[dict[str, Any]]] = {identity: [] for identity in ["cpu", *newest]}
    for record in running:
        called = {device.device: device.identity for device in record.devices}
        for model in record.models:
            for device, size in model.bytes_by_device.items():
                holder = {"name": model.name, "process": record.id, "bytes": size}
                held[called.get(device, "cpu")].append(holder)
    names = _names(newest)
    return [
        {"device": "cpu", "total": host.total, "used": host.used, "models": held["cpu"]},
        *(
            {
                "device": names[identity],
                "total": device.total,
                "used": device.total - device.free,
                "models": held[identity],
            }
            for identity, device in sorted(newest.items(), key=lambda item: names[item[0]])
        ),
    ]


def _names(found: dict[str, DeviceMemory]) -> dict[str, str]:
    """The name of each: two processes with other CUDA_VISIBLE_DEVICES may both say cuda:0."""
    said = [device.device for device in found.values()]
    return {
        identity: device.device
        if said.count(device.device) == 1
        else f"{device.device} ({identity[:8]})"
        for identity, device in found.items()
    }


def _used_by_container() -> int | None:
    """Bytes in use by the container, without files that Linux caches while there is room."""
    for used, statistics, files in (
        ("memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            lines = (_CGROUP / statistics).read_text().splitlines()
            kept = dict(line.split(maxsplit=1) for line in lines)
            return int((_CGROUP / used).read_text()) - int(kept.get(files, 0))
        except (OSError, ValueError):
            continue
    return None

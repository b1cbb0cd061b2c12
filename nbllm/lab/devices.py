"""Reports the memory of this machine and of its accelerators, and the models in it."""

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
    """The main memory of this machine or, within a container, of the container."""

    total: int  # bytes
    used: int


def host_memory() -> HostMemory:
    """Return the total and used memory of this machine or container."""
    import psutil

    machine = psutil.virtual_memory()
    limit = min(container_limits())
    if limit >= machine.total:
        return HostMemory(int(machine.total), int(machine.total - machine.available))
    used = _used_by_container()
    return HostMemory(limit, min(limit, int(machine.used)) if used is None else used)


def devices(running: Sequence[ProcessRecord], host: HostMemory) -> list[dict[str, Any]]:
    """Return each device with its total and used bytes and the models in its memory.

    Figures of an accelerator come from the newest announcement. Models on devices without figures,
    such as Apple's GPUs, which share the main memory, belong to the main memory.

    Args:
        running: The processes that hold models.
        host: The main memory.
    """
    newest: dict[str, DeviceMemory] = {}
    for record in sorted(running, key=lambda record: record.announced):
        newest |= {device.identity: device for device in record.devices}
    held: dict[str, list[dict[str, Any]]] = {identity: [] for identity in ["cpu", *newest]}
    for record in running:
        identities = {device.device: device.identity for device in record.devices}
        for model in record.models:
            for device, size in model.bytes_by_device.items():
                holder = {"name": model.name, "process": record.id, "bytes": size}
                held[identities.get(device, "cpu")].append(holder)
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
    """Return unique names: with CUDA_VISIBLE_DEVICES, several devices may be called cuda:0."""
    names = [device.device for device in found.values()]
    return {
        identity: device.device
        if names.count(device.device) == 1
        else f"{device.device} ({identity[:8]})"
        for identity, device in found.items()
    }


def _used_by_container() -> int | None:
    """Return the container's bytes in use, without reclaimable file cache; None if unknown."""
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

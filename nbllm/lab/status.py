"""Collects the status that the panel shows: processes, jobs and devices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbllm.activity.jobs import JobRecord, jobs
from nbllm.activity.owner import Owner
from nbllm.activity.processes import ProcessRecord, processes
from nbllm.lab.devices import devices, host_memory

__all__ = ["Status", "status"]


@dataclass(frozen=True)
class Status:
    """Processes, jobs and devices at one moment."""

    processes: Sequence[ProcessRecord]
    jobs: Sequence[JobRecord]
    devices: Sequence[Mapping[str, Any]]

    @property
    def kernels(self) -> set[str]:
        """The ids of the kernels that hold a model or ran a job."""
        owners = [process.owner for process in self.processes] + [job.owner for job in self.jobs]
        return {owner.kernel for owner in owners if owner.kernel is not None}

    def payload(self, sessions: Mapping[str, str | None], root: Path) -> dict[str, Any]:
        """Return the status as JSON for the panel.

        Args:
            sessions: The current notebook of each kernel of this server; None for a console.
            root: The server's folder. Paths of notebooks are relative to it; notebooks elsewhere,
                of another server, cannot be opened here and have none.
        """

        def notebook(owner: Owner) -> str | None:
            if owner.kernel is not None and owner.kernel in sessions:
                return sessions[owner.kernel]
            return None if owner.notebook is None else _below(root, owner.notebook)

        return {
            "processes": [
                {
                    "process": process.id,
                    "pid": process.owner.pid,
                    "kernel": process.owner.kernel,
                    "notebook": notebook(process.owner),
                    "models": [asdict(model) for model in process.models],
                }
                for process in self.processes
            ],
            "jobs": [_job(job) | {"notebook": notebook(job.owner)} for job in self.jobs],
            "devices": list(self.devices),
        }


def status() -> Status:
    """Return the current status, from the records on disk."""
    running = processes()
    return Status(running, jobs(), devices(running, host_memory()))


def _job(job: JobRecord) -> dict[str, Any]:
    record = asdict(job)
    del record["owner"]
    return record | {"kernel": job.owner.kernel}


def _below(root: Path, notebook: str) -> str | None:
    """Return the path of a notebook relative to the server's folder; None if it is elsewhere."""
    try:
        inside = Path(os.path.abspath(notebook)).relative_to(os.path.abspath(root))
    except ValueError:
        return None
    return inside.as_posix()

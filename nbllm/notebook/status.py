"""The status for `%llm status`: models, memory, running jobs, and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbllm.activity.jobs import JobRecord, jobs
from nbllm.display.card import card
from nbllm.display.table import Table
from nbllm.engine.ledger import ledger_path
from nbllm.escaping import visible
from nbllm.models.in_memory import loaded
from nbllm.models.memory.budget import device_memory, free_memory, held_bytes
from nbllm.wording import byte_size

__all__ = ["Status", "status"]


@dataclass(frozen=True)
class Status:
    """The status at one moment, displayed as a table."""

    lines: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        return visible("\n".join(f"{name:<10} {text}" for name, text in self.lines))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = Table(self.lines, columns=("text", "long"), named_rows=True)
        return card("", table.html())


def status() -> Status:
    """Return this process's models, the running jobs of all processes, and the ledger's size."""
    models = loaded()
    lines = [
        (
            "model",
            f"{model.name}: {byte_size(held_bytes(model.network))} on {model.device}, "
            f"{model.quantization if model.quantization != 'none' else 'not quantized'}",
        )
        for model in models
    ] or [("model", "none is in memory here; %llm load NAME loads one")]
    import torch

    for device in {str(model.device): model.device for model in models} or {
        "cpu": torch.device("cpu")
    }:
        at = torch.device(device)
        lines.append(
            ("memory", f"{byte_size(free_memory(at))} free of {byte_size(device_memory(at))}, {at}")
        )
    running = [job for job in jobs() if job.state == "running"]
    lines += [("job", _describe(job)) for job in running] or [("job", "none is running")]
    return Status([*lines, ("ledger", _ledger(ledger_path()))])


def _describe(job: JobRecord) -> str:
    where = f" in {Path(job.owner.notebook).name}" if job.owner.notebook else ""
    left = "" if job.seconds_left is None else f", about {job.seconds_left:,.0f} s left"
    state = ", stopping after this batch" if job.cancelling else left
    return (
        f"{job.verb} → {job.output}{where}: {int(job.share * 100)} %, "
        f"{job.answered + job.failed:,} of {job.texts:,} {job.unit}s{state}"
    )


def _ledger(path: Path) -> str:
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    size = sum(file.stat().st_size for file in files if file.exists())
    return f"{byte_size(size)} in {path}" if size else f"empty; it will be {path}"

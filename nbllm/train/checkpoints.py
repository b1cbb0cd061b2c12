"""The checkpoints of a run: which one to resume from, and whether it is the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbllm.storage.json_file import find_object

__all__ = ["STATE", "is_last", "last_checkpoint"]

STATE = "trainer_state.json"
_MOST_OF_STATE = 100_000_000  # bytes; it has the losses of a long run


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    found = [f for f in folder.glob("checkpoint-*") if _is_whole(f)]
    return max(found, key=lambda f: int(f.name.rpartition("-")[2]), default=None)


def _is_whole(checkpoint: Path) -> bool:
    return _state(checkpoint) is not None


def is_last(checkpoint: Path, steps: int) -> bool:
    """Whether training was over when it was written, and only the end was missing."""
    state = _state(checkpoint) or {}
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return state.get("global_step", 0) >= steps or bool(control.get("should_training_stop"))


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """Trainer's state, which it writes last; None where the checkpoint is incomplete."""
    return find_object(checkpoint / STATE, most=_MOST_OF_STATE)

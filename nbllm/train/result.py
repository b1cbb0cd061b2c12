"""The result of training: a folder to load from, and the record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TrainingResult"]


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult:
    """The folder and record of a run; its figures are of held-out rows."""

    folder: Path
    record: Mapping[str, Any]  # as in training.json

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Figures of the held-out rows, as the loaded model answers them."""
        found: Mapping[str, Any] = self.record["metrics"]
        return found

    @property
    def history(self) -> Sequence[dict[str, float]]:
        """Losses by step in nats a token, those of training and of held-out rows."""
        found: Sequence[dict[str, float]] = self.record["history"]
        return found

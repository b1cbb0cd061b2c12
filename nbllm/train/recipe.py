"""What a training run does: the recipe, its schedule on this machine, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History", "Outcome", "Recipe", "Schedule"]

History = list[dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How the weights move, apart from the rows."""

    rows: int  # a step
    learning_rate: float
    schedule: str = "linear"  # a name of transformers' schedulers
    warmup: float = 0.1  # share of the steps
    weight_decay: float = 0.01
    patience: int | None = 5  # validations without a better one, until it stops
    seed: int = 0


@dataclass(frozen=True)
class Schedule:
    """Machine-dependent schedule: micro-batch size, checkpoint interval; kept for a restart."""

    steps: int
    every: int  # steps from one validation and checkpoint to the next
    part: int  # examples that are computed at once
    recompute: bool  # activations, instead of keeping them
    mixed: bool  # products in bf16


@dataclass
class Outcome:
    """The losses of a run, and which of its steps was the best."""

    history: History = field(default_factory=list)
    steps: int = 0
    best_step: int | None = None
    interrupted: bool = False

    def ended(self, plan: Schedule) -> str:
        """How the run ended, in words."""
        if self.interrupted and self.best_step is None:
            return "interrupted before the first validation"
        if self.interrupted:
            return f"interrupted; step {self.best_step:,} was the best and is kept"
        if self.steps < plan.steps:
            return f"stopped early: step {self.best_step:,} was the best"
        return "done"

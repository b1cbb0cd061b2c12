"""The measures of an evaluation, with heading and footnotes."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.stats import Estimate

__all__ = ["Measure", "Summary"]


@dataclass(frozen=True)
class Measure:
    """One line of the summary."""

    name: str
    value: Estimate
    baseline: float | None = None
    label: str | None = None  # that it is about, where it is about one
    chance: float | None = None  # what drawing at random gives on average

    @property
    def title(self) -> str:
        """Its name, with the label that it is about."""
        return self.name if self.label is None else f"{self.name} of {self.label}"


@dataclass(frozen=True)
class Summary:
    """The content of an evaluation's display."""

    heading: str
    measures: tuple[Measure, ...]
    baseline: str  # what the baseline of the measures is
    remark: str  # a footnote

    @property
    def has_chance(self) -> bool:
        """Whether any measure has a value for random choice."""
        return any(measure.chance is not None for measure in self.measures)

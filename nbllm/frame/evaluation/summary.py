"""The measures of an evaluation, with heading and footnotes."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.stats import Estimate

__all__ = ["Measure", "Summary"]


@dataclass(frozen=True)
class Measure:
    """A measure with its interval and its baseline: one line of the summary."""

    name: str
    value: Estimate
    baseline: float | None = None
    label: str | None = None  # set for measures of a single label
    chance: float | None = None  # expected value of a random choice

    @property
    def title(self) -> str:
        """The name, with the label if there is one."""
        return self.name if self.label is None else f"{self.name} of {self.label}"


@dataclass(frozen=True)
class Summary:
    """The content of an evaluation's display."""

    heading: str
    measures: tuple[Measure, ...]
    baseline: str  # description of the baseline
    remark: str  # a footnote

    @property
    def has_chance(self) -> bool:
        """Whether any measure has an expected value of a random choice."""
        return any(measure.chance is not None for measure in self.measures)

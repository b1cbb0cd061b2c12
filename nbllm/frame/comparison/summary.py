"""The measures of a comparison, with heading and footnotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbllm.stats import Estimate

__all__ = ["Agreement", "Differences", "Form", "Measure", "Summary", "plain", "share"]

Form = Callable[[float], str]


def share(value: float) -> str:
    """Return a proportion as text."""
    return f"{value:.3f}"


def plain(value: float) -> str:
    """Return any other number as text, in three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class Measure:
    """One line of the summary: of each model, and of both together."""

    name: str
    form: Form
    a: Estimate | None = None
    b: Estimate | None = None
    both: Estimate | None = None
    relation: str = "a and b"  # what `both` is
    remark: str = ""


class Agreement(NamedTuple):
    """The agreement among rows where the margin of `a` exceeds a threshold."""

    margin: float
    rows: int
    share: Estimate


@dataclass(frozen=True)
class Summary:
    """The content of a comparison's display, except the rows that differ."""

    heading: str
    a: str  # the names of both models
    b: str
    measures: tuple[Measure, ...]
    sure: Sequence[Agreement]  # where `a` is sure of its answer
    remarks: Sequence[str]


@dataclass(frozen=True)
class Differences:
    """Some of the rows that differ."""

    count: int  # of all that differ
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

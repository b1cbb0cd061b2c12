"""The measures of a comparison, with heading and footnotes, and the format of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbllm.stats import Estimate

__all__ = [
    "Agreement",
    "ComparisonMeasure",
    "ComparisonSummary",
    "Differences",
    "Formatter",
    "format_number",
    "format_share",
]

Formatter = Callable[[float], str]


def format_share(value: float) -> str:
    """Return a proportion as text."""
    return f"{value:.3f}"


def format_number(value: float) -> str:
    """Return a number as text with three significant digits, from 1,000 on as an integer."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True)
class ComparisonMeasure:
    """A measure of each model and of both together: one line of the summary."""

    name: str
    formatter: Formatter
    a: Estimate | None = None
    b: Estimate | None = None
    both: Estimate | None = None
    relation: str = "a and b"  # of `both`, such as "b − a"
    remark: str = ""


class Agreement(NamedTuple):
    """The agreement among rows where the margin of `a` exceeds a threshold."""

    margin: float
    rows: int
    share: Estimate


@dataclass(frozen=True)
class ComparisonSummary:
    """The content of a comparison's display, except for the rows that differ."""

    heading: str
    a: str  # name of the first model
    b: str  # name of the second model
    measures: tuple[ComparisonMeasure, ...]
    agreements: Sequence[Agreement]  # one per threshold of the margin
    remarks: Sequence[str]


@dataclass(frozen=True)
class Differences:
    """Some of the rows that differ."""

    count: int  # number of all rows that differ
    head: Sequence[str]  # column names
    rows: Sequence[Sequence[Any]]

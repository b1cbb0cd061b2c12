"""Messages and traits of the run display."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "OtherLabels",
    "Phase",
    "RunRequest",
    "RunState",
    "RunStep",
    "StepSummary",
]


class RunRequest(TypedDict):
    """Stop the run after its batch."""

    kind: Literal["cancel"]


Phase = Literal["running", "stopping", "done", "failed", "cancelled", "interrupted"]


class StepSummary(TypedDict):
    """One run of a call, in figures."""

    verb: str
    column: str
    model: str
    texts: int
    rows: int
    known: int  # texts that the ledger answered
    computed: int
    failures: int
    seconds: float


class OtherLabels(TypedDict):
    """The labels beyond those that are listed."""

    labels: int
    rows: int


class RunStep(StepSummary):
    """The run that is at work."""

    job: str | None
    keeps: bool  # whether answers are filed in the ledger
    note: str
    share: float
    seconds_left: float | None
    rows_per_second: float
    tokens_per_second: float
    share_of_limit: float | None
    labels: list[tuple[str, int]]  # rows of each
    other_labels: OtherLabels | None
    failed: list[tuple[str, str]]  # row and error
    slowest: list[tuple[str, float]]  # row and seconds
    latest: list[tuple[str, str]]  # row and text


class RunState(TypedDict):
    """All that the run display shows; the trait `state`."""

    verb: str
    output: str
    phase: Phase
    steps: list[StepSummary]  # earlier ones of the same call
    step: RunStep | None
    summary: NotRequired[str]  # HTML without script, once it has ended

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
    """Stop the run after the current batch."""

    kind: Literal["cancel"]


Phase = Literal["running", "stopping", "done", "failed", "cancelled", "interrupted"]


class StepSummary(TypedDict):
    """The counts of one step: one run of a call."""

    verb: str
    column: str
    model: str
    texts: int
    rows: int
    known: int  # texts with an answer in the ledger
    computed: int
    failures: int
    seconds: float


class OtherLabels(TypedDict):
    """The labels that are not listed."""

    labels: int
    rows: int


class RunStep(StepSummary):
    """The current step."""

    job: str | None
    keeps: bool  # whether answers are stored in the ledger
    note: str
    share: float
    seconds_left: float | None
    rows_per_second: float
    tokens_per_second: float
    share_of_limit: float | None
    labels: list[tuple[str, int]]  # label and number of rows
    other_labels: OtherLabels | None
    failed: list[tuple[str, str]]  # row and error
    slowest: list[tuple[str, float]]  # row and seconds
    latest: list[tuple[str, str]]  # row and text


class RunState(TypedDict):
    """The content of the run display; the trait `state`."""

    verb: str
    output: str
    phase: Phase
    steps: list[StepSummary]  # earlier steps of the same call
    step: RunStep | None
    summary: NotRequired[str]  # HTML without script, once it has ended

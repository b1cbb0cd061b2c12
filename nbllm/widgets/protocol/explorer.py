"""Messages and traits of the explorer."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from nbllm.widgets.protocol.envelope import NoContent

__all__ = [
    "Confusion",
    "CorrectRequest",
    "Counts",
    "CountsRequest",
    "ExplainRequest",
    "ExplorerAnswers",
    "ExplorerOutline",
    "ExplorerRequest",
    "LabelCounts",
    "NumbersRequest",
    "OutlineColumn",
    "Place",
    "PlaceRequest",
    "PlotlyRequest",
    "QueryFields",
    "Role",
    "RowDetails",
    "RowRequest",
    "RowStatus",
    "RowText",
    "RowWindow",
    "RowsRequest",
    "ScoreCounts",
]

Role = Literal[
    "text", "answer", "truth", "score", "error", "probability", "field", "run", "other"
]  # of a column in the run that answered
RowStatus = Literal["failed", "unasked", "corrected", "wrong"]


class QueryFields(TypedDict):
    """The filter and the sort."""

    text: str
    labels: list[str]
    truths: list[str]
    score: tuple[float, float] | None
    only: RowStatus | None
    sort: str | None
    descending: bool


class OutlineColumn(TypedDict):
    """A column of the table."""

    name: str
    role: Role
    number: bool


class ExplorerOutline(TypedDict):
    """The frame without its rows; the trait `outline`."""

    output: str
    verb: str
    size: int
    index: str  # the heading of the row labels
    columns: list[OutlineColumn]
    hidden: int
    labels: list[str]  # to filter answers by
    choices: list[str]  # to correct a row to
    truths: list[str]
    truth: str | None
    scored: bool
    failed: int
    unasked: int
    wrong: int


class RowsRequest(TypedDict):
    """Request rows by their places in a query. Buffer: a `RowWindow` as JSON."""

    kind: Literal["rows"]
    query: QueryFields
    start: int
    stop: int


class RowWindow(TypedDict):
    """Rows of the table; also the trait `initial_rows`."""

    start: int
    total: int  # rows that match the query
    rows: list[int]  # their positions in the frame
    index: list[str]
    cells: list[list[str | None]]  # by column
    corrections: list[str | None]
    wrong: list[bool]
    failed: list[bool]


class NumbersRequest(TypedDict):
    """Request the frame positions of rows by their places in a query. Buffer: int32."""

    kind: Literal["numbers"]
    query: QueryFields
    start: int
    stop: int


class CountsRequest(TypedDict):
    """Request the counts of the charts."""

    kind: Literal["counts"]
    query: QueryFields


class LabelCounts(TypedDict):
    """Rows per label: all, and those that match the query."""

    names: list[str]
    all: list[int]
    shown: list[int]


class ScoreCounts(TypedDict):
    """Rows per bin of scores: all, and those that match the query."""

    edges: list[float]
    all: list[int]
    shown: list[int]


class Confusion(TypedDict):
    """Rows per right answer and answer."""

    truths: list[str]
    answers: list[str]
    counts: list[list[int]]


class Counts(TypedDict):
    """The counts of the charts."""

    labels: NotRequired[LabelCounts]
    scores: NotRequired[ScoreCounts]
    confusion: NotRequired[Confusion]


class PlaceRequest(TypedDict):
    """Request the place of a row in a query."""

    kind: Literal["place"]
    query: QueryFields
    row: int


class Place(TypedDict):
    """The place of a row; None if it does not match the query."""

    place: int | None


class RowRequest(TypedDict):
    """Request one row in full."""

    kind: Literal["row"]
    row: int


class RowText(TypedDict):
    """One text of a row."""

    name: str
    role: Role
    text: str


class RowDetails(TypedDict):
    """One row in full."""

    row: int
    index: str
    texts: list[RowText]
    probabilities: list[tuple[str, float]]
    answer: str | None
    truth: str | None


class PlotlyRequest(TypedDict):
    """Request the code of the charts. Buffer: plotly.js, gzipped."""

    kind: Literal["plotly"]


class CorrectRequest(TypedDict):
    """Correct the label of a row; None reverts a correction."""

    kind: Literal["correct"]
    row: int
    label: str | None


class ExplainRequest(TypedDict):
    """Explain a row below the table."""

    kind: Literal["explain"]
    row: int


ExplorerRequest = (
    RowsRequest
    | NumbersRequest
    | CountsRequest
    | PlaceRequest
    | RowRequest
    | PlotlyRequest
    | CorrectRequest
    | ExplainRequest
)


class ExplorerAnswers(TypedDict):
    """The contents of answers, by kind of request."""

    rows: NoContent
    numbers: NoContent
    counts: Counts
    place: Place
    row: RowDetails
    plotly: NoContent
    correct: NoContent
    explain: NoContent

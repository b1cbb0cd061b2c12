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
    "Only",
    "OutlineColumn",
    "Place",
    "PlaceRequest",
    "PlotlyRequest",
    "QueryFields",
    "Role",
    "RowDetails",
    "RowRequest",
    "RowText",
    "RowWindow",
    "RowsRequest",
    "ScoreCounts",
]

Role = Literal[
    "text", "answer", "truth", "score", "error", "probability", "field", "run", "other"
]  # what a column is to the run that answered
Only = Literal["failed", "unasked", "corrected", "wrong"]  # rows, by what is known of the answer


class QueryFields(TypedDict):
    """The filter and the sort."""

    text: str
    labels: list[str]
    truths: list[str]
    score: tuple[float, float] | None
    only: Only | None
    sort: str | None
    descending: bool


class OutlineColumn(TypedDict):
    """A column of the table."""

    name: str
    role: Role
    number: bool


class ExplorerOutline(TypedDict):
    """The frame but for its rows; the trait `outline`."""

    output: str
    verb: str
    size: int
    index: str  # what the rows are named by
    columns: list[OutlineColumn]
    hidden: int
    labels: list[str]  # that answers are filtered by
    choices: list[str]  # that a row can be corrected to
    truths: list[str]
    truth: str | None
    scored: bool
    failed: int
    unasked: int
    wrong: int


class RowsRequest(TypedDict):
    """The rows at some places of a query. Buffer: a `RowWindow` as JSON."""

    kind: Literal["rows"]
    query: QueryFields
    start: int
    stop: int


class RowWindow(TypedDict):
    """Rows as the table shows them; also the trait `initial_rows`."""

    start: int
    total: int  # rows that the query leaves
    rows: list[int]  # their positions in the frame
    index: list[str]
    cells: list[list[str | None]]  # by column
    corrections: list[str | None]
    wrong: list[bool]
    failed: list[bool]


class NumbersRequest(TypedDict):
    """The positions in the frame of the rows at some places. Buffer: int32."""

    kind: Literal["numbers"]
    query: QueryFields
    start: int
    stop: int


class CountsRequest(TypedDict):
    """Count the rows of a query for the charts."""

    kind: Literal["counts"]
    query: QueryFields


class LabelCounts(TypedDict):
    """Rows with each label: of all, and of those that the query leaves."""

    names: list[str]
    all: list[int]
    shown: list[int]


class ScoreCounts(TypedDict):
    """Rows with a score in each bin."""

    edges: list[float]
    all: list[int]
    shown: list[int]


class Confusion(TypedDict):
    """Rows by right answer and answer."""

    truths: list[str]
    answers: list[str]
    counts: list[list[int]]


class Counts(TypedDict):
    """The numbers of the charts."""

    labels: NotRequired[LabelCounts]
    scores: NotRequired[ScoreCounts]
    confusion: NotRequired[Confusion]


class PlaceRequest(TypedDict):
    """The place of a row in a query."""

    kind: Literal["place"]
    query: QueryFields
    row: int


class Place(TypedDict):
    """That place; None where the query does not leave the row."""

    place: int | None


class RowRequest(TypedDict):
    """One row in full."""

    kind: Literal["row"]
    row: int


class RowText(TypedDict):
    """A text of a row."""

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
    """The code of the charts. Buffer: plotly.js, gzipped."""

    kind: Literal["plotly"]


class CorrectRequest(TypedDict):
    """Give a row another label; None takes a correction back."""

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
    """The content of the answer to each kind of request."""

    rows: NoContent
    numbers: NoContent
    counts: Counts
    place: Place
    row: RowDetails
    plotly: NoContent
    correct: NoContent
    explain: NoContent

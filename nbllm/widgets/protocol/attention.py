"""Messages, traits, pages and constants of the attention viewer."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from nbllm.attention.views.colour_levels import DECADES, Scale
from nbllm.widgets.protocol.envelope import NoContent

__all__ = [
    "COMPARED_PIXELS",
    "DECADES",
    "LIGHT_COLOURS",
    "MATRIX_PIXELS",
    "PAGE_CONTENT",
    "PAGE_FORMAT",
    "QUERIES_IN_LINES",
    "AttentionAnswers",
    "AttentionRequest",
    "Comparand",
    "Contents",
    "ContentsRequest",
    "Dimensions",
    "DimensionsRequest",
    "InitialAnswer",
    "Measured",
    "MeasuresRequest",
    "Opened",
    "Outline",
    "OutlineRequest",
    "OwnMeasureRequest",
    "PageContent",
    "Picture",
    "PictureRequest",
    "Places",
    "Range",
    "Reduce",
    "Scale",
    "StoredAnswer",
    "StoredAnswers",
    "ThumbnailSize",
    "ThumbnailsRequest",
    "Tile",
    "TileRequest",
    "TokenFields",
]

# The number of the format of pages, raised when their content is written otherwise.
PAGE_FORMAT = 1
PAGE_CONTENT = "nbllm-content"  # id of the element that holds it

# Pixels of a picture's longer side: of a matrix alone, and of each of the three of a comparison.
MATRIX_PIXELS = 410
COMPARED_PIXELS = 300

QUERIES_IN_LINES = 21  # that the lines show at a time

# From no weight to full colour, on a light page. After "mako" of seaborn (BSD): lightness falls
# evenly, so it reads the same to colour-blind eyes and in print.
LIGHT_COLOURS = (
    *("#f7fbfa", "#def5e5", "#ade3c0", "#6cd3ad", "#43bbad", "#35a1ab"),
    *("#3487a6", "#366da0", "#3d5296", "#403a75", "#35264c"),
)

Range = tuple[int, int]  # start and stop

Reduce = Literal["head", "mean", "max"]  # one head, or the mean or largest over those of a layer
Comparand = Literal["a", "b", "difference"]  # of two recordings, b less a
Measured = dict[str, dict[str, int]]  # by stack and name: the version of a measure that was given
Places = tuple[list[int], list[int]]  # where the tokens that two recordings share lie in each


class ContentsRequest(TypedDict):
    """List the stacks and comparands."""

    kind: Literal["contents"]


class Contents(TypedDict):
    """Everything that the viewer can show."""

    stacks: list[str]  # one, or those of an encoder-decoder
    comparands: list[Comparand]
    models: list[str]  # of each comparand


class _SourceRequest(TypedDict):
    stack: str
    comparand: Comparand


class OutlineRequest(_SourceRequest):
    """Tokens, marks, layers and sink of a source."""

    kind: Literal["outline"]


class TokenFields(TypedDict):
    """The tokens along one side of a matrix."""

    text: str
    tokens: list[str]
    spans: list[Range]  # in the text, counted in UTF-16 as JavaScript does
    special: list[int]
    marks: list[tuple[str, int, int]]  # field, start, stop


class Opened(TypedDict):
    """The head with the most weight on the user's text, where the viewer opens."""

    token: int
    layer: int
    head: int
    share: float


class Outline(TypedDict):
    """A source but for its weights."""

    stack: str
    comparand: Comparand
    model: str
    queries: TokenFields
    keys: TokenFields | None  # None where they are the queries
    causal: bool
    layers: list[int]  # the model's numbers of the layers recorded
    heads: int
    sink: int | None
    signed: bool  # a difference
    opened: Opened | None
    closure: float
    prompt_length: int | None
    places: Places | None  # of a difference: where its rows lie in both recordings
    key_places: Places | None  # and its columns, where those are other tokens
    measures: list[str]
    sampled: int | None  # rows that the thumbnails are made from, where not from all


class ThumbnailsRequest(_SourceRequest):
    """Small pictures of the heads of a layer. Buffer: uint8 codes, (heads, height, width)."""

    kind: Literal["thumbnails"]
    layer: int


class ThumbnailSize(TypedDict):
    """Cells of a thumbnail."""

    height: int
    width: int


class MeasuresRequest(_SourceRequest):
    """The measures of the outline. Buffer: float32, (measures, layers, heads)."""

    kind: Literal["measures"]


class OwnMeasureRequest(_SourceRequest):
    """A measure of the table that was given. Buffer: float32, (layers, heads)."""

    kind: Literal["own_measure"]
    name: str
    version: int


class _SelectionRequest(_SourceRequest):
    layer: int
    head: int
    reduce: Reduce
    mask_sink: bool


class PictureRequest(_SelectionRequest):
    """Weights pooled to a size. Buffer: (height, width), float32 where exact, else codes."""

    kind: Literal["picture"]
    rows: Range | None  # None for all
    columns: Range | None
    size: int


class Picture(TypedDict):
    """A picture but for its weights."""

    rows: Range
    columns: Range
    height: int
    width: int
    exact: bool  # a pixel is a cell
    sampled: bool
    full: float  # weight of full colour: the largest of the head outside of its sink
    sink_share: float | None


class TileRequest(_SelectionRequest):
    """Exact weights. Buffer: float32, (rows, columns)."""

    kind: Literal["tile"]
    rows: Range
    columns: Range


class Tile(TypedDict):
    """A tile but for its weights."""

    rows: Range
    sink_mass: list[float]  # of each row


class DimensionsRequest(_SourceRequest):
    """Query, key and their scaled product by dimension. Buffer: float32, (3, head_dim)."""

    kind: Literal["dimensions"]
    layer: int
    head: int
    query: int
    key: int


class Dimensions(TypedDict):
    """Dimensions but for their values; `plain` if the score is the sum of the products alone."""

    plain: bool


AttentionRequest = (
    ContentsRequest
    | OutlineRequest
    | ThumbnailsRequest
    | MeasuresRequest
    | OwnMeasureRequest
    | PictureRequest
    | TileRequest
    | DimensionsRequest
)


class AttentionAnswers(TypedDict):
    """The content of the answer to each kind of request."""

    contents: Contents
    outline: Outline
    thumbnails: ThumbnailSize
    measures: NoContent
    own_measure: NoContent
    picture: Picture
    tile: Tile
    dimensions: Dimensions


class InitialAnswer(TypedDict):
    """An answer that comes before its request; without content it is still to come."""

    request: AttentionRequest
    content: Any
    numbers: str | None  # base64


# A page of its own


class StoredAnswer(TypedDict):
    """An answer that a page holds."""

    request: AttentionRequest
    content: Any
    block: NotRequired[int]  # the place of its numbers among the blocks


class StoredAnswers(TypedDict):
    """All answers of a page."""

    entries: list[StoredAnswer]
    blocks: list[str]  # each the base64 of a zlib stream


class PageContent(TypedDict):
    """The content of a page beside script and style."""

    format: int
    state: dict[str, Any]  # the synced traits
    about: str
    answers: StoredAnswers

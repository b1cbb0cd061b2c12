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
    "InitialHead",
    "MeasureVersions",
    "MeasuresRequest",
    "Outline",
    "OutlineRequest",
    "OwnMeasureRequest",
    "PageContent",
    "Picture",
    "PictureRequest",
    "Range",
    "Reduce",
    "Scale",
    "SharedPositions",
    "StoredAnswer",
    "StoredAnswers",
    "ThumbnailSize",
    "ThumbnailsRequest",
    "Tile",
    "TileRequest",
    "TokenFields",
]

# The format number of pages, increased with each change of their content's format.
PAGE_FORMAT = 1
PAGE_CONTENT = "nbllm-content"  # id of the element with the content

# Pixels of a picture's longer side: of a single matrix, and of the three of a comparison.
MATRIX_PIXELS = 410
COMPARED_PIXELS = 300

QUERIES_IN_LINES = 21  # shown at a time

# From no weight to full colour, on a light page. After "mako" of seaborn (BSD): lightness decreases
# evenly, so that it reads the same with colour-blindness and in print.
LIGHT_COLOURS = (
    *("#f7fbfa", "#def5e5", "#ade3c0", "#6cd3ad", "#43bbad", "#35a1ab"),
    *("#3487a6", "#366da0", "#3d5296", "#403a75", "#35264c"),
)

Range = tuple[int, int]  # start and stop

Reduce = Literal["head", "mean", "max"]  # one head, or the mean or largest over those of a layer
Comparand = Literal["a", "b", "difference"]  # the difference is b less a
MeasureVersions = dict[str, dict[str, int]]  # of the measures set from Python, by stack and name
SharedPositions = tuple[list[int], list[int]]  # of the tokens that two recordings have in common


class ContentsRequest(TypedDict):
    """List the stacks and comparands."""

    kind: Literal["contents"]


class Contents(TypedDict):
    """Everything that the viewer can show."""

    stacks: list[str]  # one, or three for an encoder-decoder
    comparands: list[Comparand]
    models: list[str]  # of each comparand


class _SourceRequest(TypedDict):
    stack: str
    comparand: Comparand


class OutlineRequest(_SourceRequest):
    """Request the tokens, marks, layers and sink of a source."""

    kind: Literal["outline"]


class TokenFields(TypedDict):
    """The tokens along one side of a matrix."""

    text: str
    tokens: list[str]
    spans: list[Range]  # in the text, counted in UTF-16 as JavaScript does
    special: list[int]
    marks: list[tuple[str, int, int]]  # field, start, stop


class InitialHead(TypedDict):
    """The head with the most weight on the user's text, where the viewer opens."""

    token: int
    layer: int
    head: int
    share: float


class Outline(TypedDict):
    """A source without its weights."""

    stack: str
    comparand: Comparand
    model: str
    queries: TokenFields
    keys: TokenFields | None  # None if they are the queries
    causal: bool
    layers: list[int]  # the model's numbers of the recorded layers
    heads: int
    sink: int | None
    signed: bool  # a difference
    opened: InitialHead | None
    closure: float
    prompt_length: int | None
    places: SharedPositions | None  # of the rows of a difference, in both recordings
    key_places: SharedPositions | None  # of its columns, if they are other tokens
    measures: list[str]
    sampled: int | None  # rows sampled for the thumbnails; None for all


class ThumbnailsRequest(_SourceRequest):
    """Request thumbnails of a layer's heads. Buffer: uint8 codes, (heads, height, width)."""

    kind: Literal["thumbnails"]
    layer: int


class ThumbnailSize(TypedDict):
    """The size of a thumbnail in cells."""

    height: int
    width: int


class MeasuresRequest(_SourceRequest):
    """Request the measures in the outline. Buffer: float32, (measures, layers, heads)."""

    kind: Literal["measures"]


class OwnMeasureRequest(_SourceRequest):
    """Request a measure set from Python. Buffer: float32, (layers, heads)."""

    kind: Literal["own_measure"]
    name: str
    version: int


class _SelectionRequest(_SourceRequest):
    layer: int
    head: int
    reduce: Reduce
    mask_sink: bool


class PictureRequest(_SelectionRequest):
    """Request pooled weights. Buffer: (height, width), float32 if exact, else codes."""

    kind: Literal["picture"]
    rows: Range | None  # None for all
    columns: Range | None
    size: int


class Picture(TypedDict):
    """A picture without its weights."""

    rows: Range
    columns: Range
    height: int
    width: int
    exact: bool  # each pixel is one cell
    sampled: bool
    full: float  # weight of full colour: the head's largest, without its sink
    sink_share: float | None


class TileRequest(_SelectionRequest):
    """Request exact weights. Buffer: float32, (rows, columns)."""

    kind: Literal["tile"]
    rows: Range
    columns: Range


class Tile(TypedDict):
    """A tile without its weights."""

    rows: Range
    sink_mass: list[float]  # by row


class DimensionsRequest(_SourceRequest):
    """Request query, key and their scaled product. Buffer: float32, (3, head_dim)."""

    kind: Literal["dimensions"]
    layer: int
    head: int
    query: int
    key: int


class Dimensions(TypedDict):
    """Dimensions without their values; `plain` if the score is only the sum of the products."""

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
    """The contents of answers, by kind of request."""

    contents: Contents
    outline: Outline
    thumbnails: ThumbnailSize
    measures: NoContent
    own_measure: NoContent
    picture: Picture
    tile: Tile
    dimensions: Dimensions


class InitialAnswer(TypedDict):
    """An answer sent before its request; without content, it is announced."""

    request: AttentionRequest
    content: Any
    numbers: str | None  # base64


# Saved pages


class StoredAnswer(TypedDict):
    """An answer stored in a page."""

    request: AttentionRequest
    content: Any
    block: NotRequired[int]  # the index of its numbers among the blocks


class StoredAnswers(TypedDict):
    """All answers stored in a page."""

    entries: list[StoredAnswer]
    blocks: list[str]  # each the base64 of a zlib stream


class PageContent(TypedDict):
    """The content of a page, without script and style."""

    format: int
    state: dict[str, Any]  # the synced traits
    about: str
    answers: StoredAnswers

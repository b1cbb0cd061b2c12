"""Chooses what a page of its own holds of a viewer: the requests that it can answer.

Until the bytes are spent, in this order: what each source is, with the small pictures of its
heads; what is on screen; a picture of each wanted head; its exact weights; the mean and the
largest over the heads of each layer; the heads with their sink masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nbllm.display.progress_bar import bar_class
from nbllm.widgets.attention.handler import LARGEST_SIDE, LARGEST_TILE, RequestHandler
from nbllm.widgets.attention.sources import AttentionSource, Selection
from nbllm.widgets.page import Answers
from nbllm.widgets.protocol.attention import (
    QUERIES_IN_LINES,
    AttentionRequest,
    Comparand,
    ContentsRequest,
    Measured,
    MeasuresRequest,
    OutlineRequest,
    OwnMeasureRequest,
    PictureRequest,
    Range,
    Reduce,
    ThumbnailsRequest,
    TileRequest,
)

__all__ = ["Matrix", "Stock", "store"]

SIDES = (LARGEST_SIDE, 384, 256, 192, 128, 96, 64)  # of pooled pictures
PICTURES_SHARE = 0.8  # of the bytes; what they leave is for exact weights
SAMPLED_HEADS = 3  # whose pictures give an estimate of the size of all


@dataclass(frozen=True)
class Matrix:
    """One matrix that a viewer can show, and the query token that is selected in it."""

    stack: str
    comparand: Comparand
    source: AttentionSource
    selection: Selection
    token: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether one request can have all of its weights."""
        return len(self.source.queries) * len(self.source.keys) <= LARGEST_TILE

    def picture(self, size: int) -> PictureRequest:
        """Request the whole matrix as a picture."""
        return PictureRequest(
            kind="picture",
            stack=self.stack,
            comparand=self.comparand,
            layer=self.selection.layer,
            head=self.selection.head,
            reduce=self.selection.reduce,
            mask_sink=self.selection.mask_sink,
            rows=None,
            columns=None,
            size=size,
        )

    def tile(self) -> TileRequest:
        """Request all weights; of a long text, those of the queries in the lines."""
        return self._tile((0, len(self.source.queries))) if self.is_short else self.lines()

    def lines(self) -> TileRequest:
        """Request the weights that the lines show first: of the queries around the token."""
        row, first = self.source.queries, self.token
        if first is None:
            first = (row.field_spans[0].start if row.field_spans else 0) + QUERIES_IN_LINES // 2
        count = min(QUERIES_IN_LINES, LARGEST_TILE // len(self.source.keys))
        start = max(0, min(first - count // 2, len(row) - count))
        return self._tile((start, min(start + count, len(row))))

    def _tile(self, rows: Range) -> TileRequest:
        return TileRequest(
            kind="tile",
            stack=self.stack,
            comparand=self.comparand,
            layer=self.selection.layer,
            head=self.selection.head,
            reduce=self.selection.reduce,
            mask_sink=self.selection.mask_sink,
            rows=rows,
            columns=(0, len(self.source.keys)),
        )


@dataclass(frozen=True)
class Stock:
    """Counts of what is stored of the wanted heads."""

    heads: int  # wanted; one of two recordings and of their difference is three
    pictures: int  # heads that have one
    side: int  # of these pictures, at most
    exact: int  # heads that have exact weights:
    queries: int  # of so many queries; all, or those around the query token
    whole: bool  # all weights of all wanted heads


def store(
    answers: Answers,
    handler: RequestHandler,
    opened: Sequence[Matrix],
    heads: Sequence[Matrix],
    all_heads: bool,
    measured: Measured,
) -> Stock:
    """Store the answers that the page has room for.

    Without room for what it shows first, nothing is of use, and no picture is counted.

    Args:
        answers: where they are stored.
        handler: answers the requests.
        opened: what the page shows first.
        heads: those wanted, one or more.
        all_heads: whether they are all, so that means over them are wanted too.
        measured: the measures that were given.
    """
    general = _general(handler, opened[0], measured)
    side = 0
    if _store(answers, "heads at a glance", general) == len(general):
        side = _side(answers, heads)
    first = [request for matrix in opened for request in (matrix.picture(side), matrix.tile())]
    if side == 0 or _store(answers, "the head on screen", first) < len(first):
        return Stock(len(heads), 0, 0, 0, 0, False)
    more = [*(_combined(heads, side) if all_heads else ()), *_masked(heads, side)]
    stages: dict[str, Sequence[AttentionRequest]] = {
        "pictures": [head.picture(side) for head in heads],
        "weights": [head.tile() for head in heads],
        "means and masks": more,
    }
    counts = dict.fromkeys(stages, 0)
    for stage, requests in stages.items():
        counts[stage] = _store(answers, stage, requests)
        if counts[stage] < len(requests):
            break
    start, stop = heads[0].tile()["rows"]
    whole = all(head.is_short for head in heads) and counts["weights"] == len(heads)
    return Stock(len(heads), counts["pictures"], side, counts["weights"], stop - start, whole)


def _store(answers: Answers, stage: str, requests: Sequence[AttentionRequest]) -> int:
    """Store the answers in order until the budget is spent; return how many were."""
    for count, request in enumerate(bar_class()(requests, desc=stage, delay=2, leave=False)):
        if not answers.store(request):
            return count
    return len(requests)


def _general(handler: RequestHandler, first: Matrix, measured: Measured) -> list[AttentionRequest]:
    """Return what a viewer requests before any head, the source on screen first."""
    requests: list[AttentionRequest] = [ContentsRequest(kind="contents")]
    on_screen = first.stack, first.comparand
    for stack, comparand in sorted(handler.sources, key=lambda at: at != on_screen):
        requests += [
            OutlineRequest(kind="outline", stack=stack, comparand=comparand),
            MeasuresRequest(kind="measures", stack=stack, comparand=comparand),
        ]
        requests += [
            OwnMeasureRequest(
                kind="own_measure", stack=stack, comparand=comparand, name=name, version=version
            )
            for name, version in measured.get(stack, {}).items()
        ]
        requests += [
            ThumbnailsRequest(kind="thumbnails", stack=stack, comparand=comparand, layer=layer)
            for layer in handler.source(stack, comparand).layer_numbers
        ]
    return requests


def _side(answers: Answers, heads: Sequence[Matrix]) -> int:
    """Return the largest side at which pictures of all heads take no more than their share."""
    longest = max(len(heads[0].source.queries), len(heads[0].source.keys))
    sample = heads[:: max(1, len(heads) // SAMPLED_HEADS)][:SAMPLED_HEADS]
    room = PICTURES_SHARE * (answers.budget - answers.size)
    sides = [min(longest, LARGEST_SIDE), *(side for side in SIDES if side < longest)]
    for side in sides:
        mean = sum(answers.cost(head.picture(side)) for head in sample) / len(sample)
        if mean * len(heads) <= room:
            return side
    return sides[-1]


def _combined(heads: Sequence[Matrix], side: int) -> Iterator[AttentionRequest]:
    """Request the mean and the largest over the heads of each layer."""
    layers = {(head.stack, head.comparand, head.selection.layer): head for head in heads}
    reduces: tuple[Reduce, ...] = ("mean", "max")
    for head in layers.values():
        for reduce in reduces:
            combined = replace(head, selection=replace(head.selection, reduce=reduce))
            yield from (combined.picture(side), combined.tile())


def _masked(heads: Sequence[Matrix], side: int) -> Iterator[AttentionRequest]:
    for head in heads:
        if head.source.sink is not None:
            masked = replace(head, selection=replace(head.selection, mask_sink=True))
            yield from (masked.picture(side), masked.tile())

"""Selects the answers that a saved page stores.

Until the budget is spent, in this order: the outline of each source, with thumbnails of its heads;
the weights on screen; a picture of each selected head; its exact weights; the mean and the largest
over the heads of each layer; the heads with their sink masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nbllm.display.progress_bar import bar_class
from nbllm.widgets.attention.handler import LARGEST_SIDE, LARGEST_TILE, RequestHandler
from nbllm.widgets.attention.sources import AttentionSource, Selection
from nbllm.widgets.page import AnswerStore
from nbllm.widgets.protocol.attention import (
    QUERIES_IN_LINES,
    AttentionRequest,
    Comparand,
    ContentsRequest,
    MeasuresRequest,
    MeasureVersions,
    OutlineRequest,
    OwnMeasureRequest,
    PictureRequest,
    Range,
    Reduce,
    ThumbnailsRequest,
    TileRequest,
)

__all__ = ["Matrix", "StoredCounts", "store_answers"]

SIDES = (LARGEST_SIDE, 384, 256, 192, 128, 96, 64)  # of pooled pictures
PICTURES_SHARE = 0.8  # of the budget; the rest is for exact weights
SAMPLED_HEADS = 3  # whose pictures estimate the bytes of all


@dataclass(frozen=True)
class Matrix:
    """A matrix that the viewer can show, and its selected query token."""

    stack: str
    comparand: Comparand
    source: AttentionSource
    selection: Selection
    token: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether one tile can have all of its weights."""
        return len(self.source.queries) * len(self.source.keys) <= LARGEST_TILE

    def picture(self, size: int) -> PictureRequest:
        """Return the request for the whole matrix as a picture of `size` pixels per side."""
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
        """Return the request for all weights; for a long text, for the queries in the lines."""
        return self._tile((0, len(self.source.queries))) if self.is_short else self.lines()

    def lines(self) -> TileRequest:
        """Return the request for the weights that the lines show: of queries around the token."""
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
class StoredCounts:
    """Counts of the stored answers for the selected heads."""

    heads: int  # selected; in a comparison, each counts for every comparand
    pictures: int  # heads with a picture
    side: int  # pixels per side of the pictures, at most
    exact: int  # heads with exact weights
    queries: int  # rows of the exact weights: all, or those around the query token
    complete: bool  # all weights of all selected heads are stored


def store_answers(
    answers: AnswerStore,
    handler: RequestHandler,
    on_screen: Sequence[Matrix],
    heads: Sequence[Matrix],
    all_heads: bool,
    versions: MeasureVersions,
) -> StoredCounts:
    """Store answers within the budget, and return their counts.

    If the budget is too small for the first view, the counts are 0.

    Args:
        answers: The store.
        handler: Answers the requests.
        on_screen: The matrices that the page shows first.
        heads: The selected heads, at least one.
        all_heads: Whether all heads are selected, so that means over heads are stored too.
        versions: The versions of the measures set from Python.
    """
    general = _general_requests(handler, on_screen[0], versions)
    side = 0
    if _store_until_full(answers, "heads at a glance", general) == len(general):
        side = _side(answers, heads)
    first_view = [request for head in on_screen for request in (head.picture(side), head.tile())]
    if side == 0 or _store_until_full(answers, "the head on screen", first_view) < len(first_view):
        return StoredCounts(len(heads), 0, 0, 0, 0, False)
    more = [*(_combined_requests(heads, side) if all_heads else ()), *_masked_requests(heads, side)]
    stages: dict[str, Sequence[AttentionRequest]] = {
        "pictures": [head.picture(side) for head in heads],
        "weights": [head.tile() for head in heads],
        "means and masks": more,
    }
    counts = dict.fromkeys(stages, 0)
    for stage, requests in stages.items():
        counts[stage] = _store_until_full(answers, stage, requests)
        if counts[stage] < len(requests):
            break
    start, stop = heads[0].tile()["rows"]
    complete = all(head.is_short for head in heads) and counts["weights"] == len(heads)
    return StoredCounts(
        len(heads), counts["pictures"], side, counts["weights"], stop - start, complete
    )


def _store_until_full(
    answers: AnswerStore, stage: str, requests: Sequence[AttentionRequest]
) -> int:
    """Store answers in order until the budget is spent; return the number of stored ones."""
    for count, request in enumerate(bar_class()(requests, desc=stage, delay=2, leave=False)):
        if not answers.store(request):
            return count
    return len(requests)


def _general_requests(
    handler: RequestHandler, first: Matrix, versions: MeasureVersions
) -> list[AttentionRequest]:
    """Return the requests that do not depend on a head, for the source on screen first."""
    requests: list[AttentionRequest] = [ContentsRequest(kind="contents")]
    current = first.stack, first.comparand
    for stack, comparand in sorted(handler.sources, key=lambda source: source != current):
        requests += [
            OutlineRequest(kind="outline", stack=stack, comparand=comparand),
            MeasuresRequest(kind="measures", stack=stack, comparand=comparand),
        ]
        requests += [
            OwnMeasureRequest(
                kind="own_measure", stack=stack, comparand=comparand, name=name, version=version
            )
            for name, version in versions.get(stack, {}).items()
        ]
        requests += [
            ThumbnailsRequest(kind="thumbnails", stack=stack, comparand=comparand, layer=layer)
            for layer in handler.source(stack, comparand).layer_numbers
        ]
    return requests


def _side(answers: AnswerStore, heads: Sequence[Matrix]) -> int:
    """Return the largest side at which the pictures of all heads stay within their share."""
    longest = max(len(heads[0].source.queries), len(heads[0].source.keys))
    sample = heads[:: max(1, len(heads) // SAMPLED_HEADS)][:SAMPLED_HEADS]
    room = PICTURES_SHARE * (answers.budget - answers.size)
    sides = [min(longest, LARGEST_SIDE), *(side for side in SIDES if side < longest)]
    for side in sides:
        mean = sum(answers.cost(head.picture(side)) for head in sample) / len(sample)
        if mean * len(heads) <= room:
            return side
    return sides[-1]


def _combined_requests(heads: Sequence[Matrix], side: int) -> Iterator[AttentionRequest]:
    """Yield the requests for the mean and the largest weights over the heads of each layer."""
    layers = {(head.stack, head.comparand, head.selection.layer): head for head in heads}
    reduces: tuple[Reduce, ...] = ("mean", "max")
    for head in layers.values():
        for reduce in reduces:
            combined = replace(head, selection=replace(head.selection, reduce=reduce))
            yield from (combined.picture(side), combined.tile())


def _masked_requests(heads: Sequence[Matrix], side: int) -> Iterator[AttentionRequest]:
    for head in heads:
        if head.source.sink is not None:
            masked = replace(head, selection=replace(head.selection, mask_sink=True))
            yield from (masked.picture(side), masked.tile())

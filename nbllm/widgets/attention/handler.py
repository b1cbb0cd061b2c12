"""Answers the requests of the attention viewer, which are for numbers on screen only.

Weights are never traits: the browser requests what is on screen and gets a binary buffer.
nbllm/widgets/protocol/ defines the messages, nbllm/attention/views/colour_levels.py the codes of
weights. A source is identified by `stack`, the stack of an encoder-decoder, and `comparand`, one of
two recordings or their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.attention.recording.indexing import evenly_spaced
from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording, TokenRow
from nbllm.attention.views.colour_levels import codes
from nbllm.attention.views.tiles import dimension_scores, sampled_rows, thumbnails
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.widgets.attention.head_values import head_values
from nbllm.widgets.attention.sources import (
    AttentionSource,
    DifferenceSource,
    RecordingSource,
    Selection,
    largest_weight,
    picture,
)
from nbllm.widgets.protocol.attention import (
    Comparand,
    Contents,
    Dimensions,
    InitialHead,
    Outline,
    Picture,
    ThumbnailSize,
    Tile,
    TokenFields,
)
from nbllm.widgets.protocol.envelope import NoContent
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RequestHandler"]

# Of head_measures, in the order in which the browser lists them.
MEASURES = ("entropy", "mean_distance", "sink_mass", "previous_token", "duplicate_token")
THUMBNAIL_SIDE = 24
SINK_ROWS = 256  # sampled for the share of weight on the sink
LARGEST_SIDE = 512  # of a picture: 512² int16 is half a megabyte
CACHED_PICTURES = 6  # a megabyte each: the window and the whole matrix of three comparands
LARGEST_EXACT = 65_536  # cells of a picture that is sent as float32: 256 × 256
LARGEST_TILE = 200_000  # weights: with a picture, less than 1 MB per interaction
DIFFERENCE_ROWS = 32  # sampled for the measure "difference"

Answer = tuple[Mapping[str, Any], "NDArray[Any] | None"]  # content and numbers
Recorded = Recording | EncoderDecoderRecording


class RequestHandler:
    """Answers the requests on one recording, or on two and their difference.

    Args:
        first: The recording.
        second: The recording to compare it with, if any.

    Raises:
        UnsupportedModelError: The recordings have different tokenizers or kinds of models.

    Example:
        head = {"stack": "causal", "comparand": "a", "layer": 0, "head": 0}
        handler.answer({"kind": "tile", **head, "rows": [0, 8], "columns": [0, 8]})
    """

    def __init__(self, first: Recorded, second: Recorded | None = None) -> None:
        self.sources: dict[tuple[str, Comparand], AttentionSource] = {}
        self.measure_tables: dict[str, Any] = {}  # measures set from Python, by stack
        self.cached_picture: Any = lru_cache(CACHED_PICTURES)(self._pool_picture)
        names: tuple[Comparand, ...] = ("a",) if second is None else ("a", "b")
        for comparand, recorded in zip(names, (first, second), strict=False):
            for stack, recording in _recordings(recorded).items():
                self.sources[stack, comparand] = RecordingSource(recording)
        self.stacks: list[str] = list(dict.fromkeys(stack for stack, _ in self.sources))
        self.comparands: list[Comparand] = list(names)
        if second is None:
            return
        if any(
            (stack, comparand) not in self.sources for stack in self.stacks for comparand in names
        ):
            raise UnsupportedModelError(
                "Only recordings of one kind can be compared: two of causal models, two of "
                "encoders, or two of encoder-decoders."
            )
        self.comparands.append("difference")
        for stack in self.stacks:
            both = self.recording_source(stack, "a"), self.recording_source(stack, "b")
            self.sources[stack, "difference"] = DifferenceSource(*both)

    def source(self, stack: str, comparand: Comparand) -> AttentionSource:
        """Return a source.

        Args:
            stack: The name of the stack.
            comparand: The name of the comparand.

        Raises:
            SelectionError: There is no such source.
        """
        if (stack, comparand) not in self.sources:
            raise SelectionError(
                f"There is no {stack!r} of {comparand!r} here. The stacks are "
                f"{', '.join(self.stacks)}, the comparands {', '.join(self.comparands)}."
            )
        return self.sources[stack, comparand]

    def recording_source(self, stack: str, comparand: Comparand) -> RecordingSource:
        """Return the source of a recording; for a difference, of the first one."""
        source = self.source(stack, comparand)
        if isinstance(source, RecordingSource):
            return source
        return self.recording_source(stack, "a")

    def answer(self, request: Mapping[str, Any]) -> Answer:
        """Return the content of the answer to a request, and its numbers.

        A malformed request raises NbllmError, KeyError, TypeError or ValueError.

        Args:
            request: The request.
        """
        kinds: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "contents": self._contents,
            "outline": self._outline,
            "thumbnails": self._thumbnails,
            "measures": self._measures,
            "own_measure": self._own_measure,
            "picture": self._picture,
            "tile": self._tile,
            "dimensions": self._dimensions,
        }
        kind = str(request.get("kind"))
        if kind not in kinds:
            raise SelectionError(f"There is no request of the kind {kind!r}.")
        return kinds[kind](request)

    def _contents(self, request: Mapping[str, Any]) -> Answer:
        models = [
            self.recording_source(self.stacks[0], comparand).recording.model
            for comparand in self.comparands
        ]
        return Contents(stacks=self.stacks, comparands=self.comparands, models=models), None

    def _outline(self, request: Mapping[str, Any]) -> Answer:
        stack, comparand = request["stack"], request["comparand"]
        source, first = self.source(stack, comparand), self.recording_source(stack, comparand)
        recording, overview = first.recording, first.overview
        compared = source if isinstance(source, DifferenceSource) else None
        rows = len(sampled_rows(recording))
        outline = Outline(
            stack=stack,
            comparand=comparand,
            model=recording.model,
            queries=_token_fields(source.queries),
            keys=None if source.queries is source.keys else _token_fields(source.keys),
            causal=source.causal,
            layers=list(source.layer_numbers),
            heads=source.heads,
            sink=source.sink,
            signed=source.signed,
            opened=None,
            closure=recording.closure(),
            prompt_length=None,
            places=None,
            key_places=None,
            measures=list(MEASURES),
            sampled=rows if rows < len(recording) else None,
        )
        if compared is not None:
            outline["places"], outline["key_places"] = compared.places, compared.key_places
            outline["measures"] = ["difference"]
        else:
            outline["prompt_length"] = recording.prompt_length
            outline["opened"] = InitialHead(
                token=overview.token,
                layer=overview.layer,
                head=overview.head,
                share=overview.share,
            )
        return outline, None

    def _thumbnails(self, request: Mapping[str, Any]) -> Answer:
        layer = request["layer"]
        source = self.recording_source(request["stack"], request["comparand"])
        source.recording.check(layer, 0)
        images = thumbnails(source.recording, layer, source.sink, THUMBNAIL_SIDE)
        return ThumbnailSize(height=images.shape[1], width=images.shape[2]), images

    def _measures(self, request: Mapping[str, Any]) -> Answer:
        source = self.source(request["stack"], request["comparand"])
        if isinstance(source, DifferenceSource):
            return NoContent(), _differences(source)
        from nbllm.attention.analysis.measures import (
            head_measures,  # imports pandas
        )

        frame = head_measures(
            self.recording_source(request["stack"], request["comparand"]).recording
        )
        grid = (len(source.layer_numbers), source.heads)
        frame = frame.sort_values(["layer", "head"])
        values = [frame[name].to_numpy(np.float32).reshape(grid) for name in MEASURES]
        return NoContent(), np.stack(values)

    def _own_measure(self, request: Mapping[str, Any]) -> Answer:
        source = self.source(request["stack"], request["comparand"])
        table = self.measure_tables[request["stack"]]
        return NoContent(), head_values(table, request["name"], source.layer_numbers, source.heads)

    def _picture(self, request: Mapping[str, Any]) -> Answer:
        source, selection, rows, columns = self._selected(request)
        size = min(max(int(request["size"]), 1), LARGEST_SIDE)
        place = request["stack"], request["comparand"]
        weights, sampled, full = self.cached_picture(*place, selection, rows, columns, size)
        sample = evenly_spaced(len(source.queries), SINK_ROWS)
        exact = weights.shape == (len(rows), len(columns)) and weights.size <= LARGEST_EXACT
        share = None if source.sink is None else float(source.sink_mass(selection, sample).mean())
        content = Picture(
            rows=(rows.start, rows.stop),
            columns=(columns.start, columns.stop),
            height=weights.shape[0],
            width=weights.shape[1],
            exact=exact,
            sampled=sampled,
            full=full,
            sink_share=share,
        )
        if exact:
            return content, weights.astype("<f4")
        return content, codes(weights, full, signed=source.signed)

    def _pool_picture(
        self,
        stack: str,
        comparand: Comparand,
        selection: Selection,
        rows: range,
        columns: range,
        size: int,
    ) -> tuple[NDArray[np.float32], bool, float]:
        """Return a picture, whether its rows are a sample, and the weight of full colour.

        Full colour is for the whole head, so that zooming keeps colours. Results are cached: the
        browser requests the picture of the static HTML again when it opens the view.
        """
        source = self.source(stack, comparand)
        weights, sampled = picture(source, selection, rows, columns, size)
        weights.flags.writeable = False
        whole = range(len(source.queries)), range(len(source.keys))
        if (rows, columns) != whole:
            _, _, full = self.cached_picture(stack, comparand, selection, *whole, size)
            return weights, sampled, full
        return weights, sampled, largest_weight(source, selection, weights)

    def _tile(self, request: Mapping[str, Any]) -> Answer:
        source, selection, rows, columns = self._selected(request)
        if len(rows) * len(columns) > LARGEST_TILE:
            raise SelectionError(
                f"A tile has at most {counted(LARGEST_TILE, 'weight')}. Ask for less."
            )
        weights = source.weights(selection, rows, columns).astype("<f4")
        masses = source.sink_mass(selection, rows).tolist()
        return Tile(rows=(rows.start, rows.stop), sink_mass=masses), weights

    def _dimensions(self, request: Mapping[str, Any]) -> Answer:
        source = self.source(request["stack"], request["comparand"])
        if isinstance(source, DifferenceSource):
            raise SelectionError("A difference has no score. Choose one of the two recordings.")
        recording = self.recording_source(request["stack"], request["comparand"]).recording
        layer, head, query, key = (request[name] for name in ("layer", "head", "query", "key"))
        recording.check(layer, head)
        _check_range("query", range(query, query + 1), source.queries)
        _check_range("key", range(key, key + 1), source.keys)
        attention = recording.layer(layer)
        group = attention.heads // attention.key.shape[0]
        q = attention.query[head, query].float().cpu().numpy()
        k = attention.key[head // group, key].float().cpu().numpy()
        product = dimension_scores(recording, layer, head, query, key)
        plain = attention.softcap is None and attention.bias is None
        return Dimensions(plain=plain), np.stack([q, k, product]).astype("<f4")

    def _selected(
        self, request: Mapping[str, Any]
    ) -> tuple[AttentionSource, Selection, range, range]:
        source = self.source(request["stack"], request["comparand"])
        selection = Selection(
            layer=request["layer"],
            head=request["head"],
            reduce=request.get("reduce", "head"),
            mask_sink=bool(request.get("mask_sink", False)),
        )
        if selection.layer not in source.layer_numbers:
            self.recording_source(request["stack"], request["comparand"]).recording.check(
                selection.layer, 0
            )
        rows, columns = (
            range(len(row)) if request[name] is None else range(*request[name])
            for name, row in (("rows", source.queries), ("columns", source.keys))
        )
        _check_range("query", rows, source.queries)
        _check_range("key", columns, source.keys)
        return source, selection, rows, columns


def _recordings(recorded: Recorded | None) -> dict[str, Recording]:
    if isinstance(recorded, EncoderDecoderRecording):
        return {
            "encoder": recorded.encoder,
            "decoder": recorded.decoder,
            "cross": recorded.cross,
        }
    return {} if recorded is None else {recorded.kind: recorded}


def _token_fields(row: TokenRow) -> TokenFields:
    # Positions in UTF-16 code units, as in JavaScript: a character beyond U+FFFF is two.
    places = [0, *accumulate(2 if character > "\uffff" else 1 for character in row.text)]
    return TokenFields(
        text=row.text,
        tokens=list(row.tokens),
        spans=[(places[start], places[stop]) for start, stop in row.spans],
        special=[place for place, special in enumerate(row.special) if special],
        marks=[(mark.field, mark.start, mark.stop) for mark in row.field_spans],
    )


def _check_range(name: str, places: range, row: TokenRow) -> None:
    if not 0 <= places.start < places.stop <= len(row):
        raise SelectionError(
            f"{name} tokens {places.start} to {places.stop - 1} are not in this recording, which "
            f"has {name} tokens 0 to {len(row) - 1}. Choose some of those."
        )


def _differences(source: DifferenceSource) -> NDArray[np.float32]:
    """Return the measure "difference" of each head: the mean total variation distance of rows.

    It is 0 for equal weights and 1 if all weight moved, on a sample of the common tokens' rows.

    Args:
        source: The difference.

    Returns:
        float32, (1, layers, heads).
    """
    rows, columns = evenly_spaced(len(source.queries), DIFFERENCE_ROWS), range(len(source.keys))
    distances = np.empty((1, len(source.layer_numbers), source.heads), np.float32)
    for at, layer in enumerate(source.layer_numbers):
        for head in range(source.heads):
            moved = np.abs(source.weights(Selection(layer, head), rows, columns)).sum(1) / 2
            distances[0, at, head] = moved.mean()
    return distances

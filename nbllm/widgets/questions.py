"""Answers to what the attention viewer asks: the numbers that come on screen, and no more.

Weights never ride on traits. The browser asks by message for what is on screen and gets one
binary buffer; each answer repeats the key of its question. `part` and `side` name a sheet:
the stack of an encoder-decoder, and which of two recordings or their difference.

    {"kind": "contents"}                     the parts, the sides, and the sizes of each sheet
    {"kind": "outline", part, side}          tokens, marks, sink
    {"kind": "thumbnails", ..., layer}       uint8 codes (heads, height, width)
    {"kind": "measures", ...}                float32 (measures, layers, heads)
    {"kind": "own_measure", ..., name, version}
                                             float32 (layers, heads), of a table that was given
    {"kind": "picture", ..., layer, head, how, mask_sink, rows, columns, size}
                                             float32 weights where each cell has its pixel,
                                             else, pooled to the size, their codes of
                                             nbllm/attention/views/colour_levels.py, with `full`
    {"kind": "tile", ..., layer, head, how, mask_sink, rows, columns}
                                             float32 weights, exact
    {"kind": "dimensions", ..., layer, head, pair}
                                             float32 (3, head_dim): q, k and their product

Rows and columns are [start, stop], of a picture also null for all; a pair is [query, key].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.attention.recording.indexing import evenly_spaced
from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording, TokenRow
from nbllm.attention.views.colour_levels import codes
from nbllm.attention.views.tiles import dimension_scores, sampled_rows, thumbnails
from nbllm.errors import SelectionError, UnsupportedModelError
from nbllm.widgets.head_values import head_values
from nbllm.widgets.sheets import (
    DifferenceSheet,
    RecordingSheet,
    Sheet,
    Shown,
    largest,
    picture,
)
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Questions"]

# Those of head_measures, in the order that the browser lists them.
MEASURES = ("entropy", "mean_distance", "sink_mass", "previous_token", "duplicate_token")
THUMBNAIL_SIDE = 24
MASS_ROWS = 256  # sampled to say how much weight rests on the sink
LARGEST_SIDE = 512  # of a picture: 512² int16 is half a megabyte
PICTURES_KEPT = 6  # a megabyte each: of three sides, the window and the whole
LARGEST_EXACT = 65_536  # cells of a picture that are sent as float32: 256 × 256
LARGEST_TILE = 200_000  # weights: with a picture, below 1 MB an interaction
DIFFERENCE_ROWS = 32  # sampled to measure how much a head differs

Answer = tuple[dict[str, Any], "NDArray[Any] | None"]
Recorded = Recording | EncoderDecoderRecording


class Questions:
    """The sheets of one viewer, and the answers about them.

    Takes one recording, or two to compare. Raises UnsupportedModelError if two were cut into
    tokens by different tokenizers, or are not of the same kind.

        Questions(recording).answer({"kind": "tile", "part": "causal", "side": "a", "layer": 0,
                                     "head": 0, "rows": [0, 8], "columns": [0, 8]})
    """

    def __init__(self, first: Recorded, second: Recorded | None = None) -> None:
        self.sheets: dict[tuple[str, str], Sheet] = {}
        self.tables: dict[str, Any] = {}  # by part: measures of its heads that were given
        self.drawn: Callable[..., tuple[NDArray[np.float32], bool, float]] = lru_cache(
            PICTURES_KEPT
        )(self._draw)
        names = ("a",) if second is None else ("a", "b")
        for side, recorded in zip(names, (first, second), strict=False):
            for part, recording in _parts(recorded).items():
                self.sheets[part, side] = RecordingSheet(recording)
        self.parts: list[str] = list(dict.fromkeys(part for part, _ in self.sheets))
        self.sides: list[str] = list(names)
        if second is None:
            return
        if any((part, side) not in self.sheets for part in self.parts for side in names):
            raise UnsupportedModelError(
                "Only recordings of one kind can be compared: two of causal models, two of "
                "encoders, or two of encoder-decoders."
            )
        self.sides.append("difference")
        for part in self.parts:
            sheets = self.recorded(part, "a"), self.recorded(part, "b")
            self.sheets[part, "difference"] = DifferenceSheet(*sheets)

    def sheet(self, part: str, side: str) -> Sheet:
        """One sheet; SelectionError if there is none of that name."""
        if (part, side) not in self.sheets:
            raise SelectionError(
                f"There is no {part!r} of {side!r} here. The parts are "
                f"{', '.join(self.parts)}, the sides {', '.join(self.sides)}."
            )
        return self.sheets[part, side]

    def recorded(self, part: str, side: str) -> RecordingSheet:
        """The sheet of a recording; of a difference, that of the first."""
        sheet = self.sheet(part, side)
        if isinstance(sheet, RecordingSheet):
            return sheet
        return self.recorded(part, "a")

    def answer(self, question: dict[str, Any]) -> Answer:
        """What a question asks for, as a message and the numbers that go with it.

        Raises NbllmError, KeyError, TypeError or ValueError for a question that makes no sense.
        """
        kinds = {
            "contents": self._contents,
            "outline": self._outline,
            "thumbnails": self._thumbnails,
            "measures": self._measures,
            "own_measure": self._own_measure,
            "picture": self._picture,
            "tile": self._tile,
            "dimensions": self._dimensions,
        }
        kind = str(question.get("kind"))
        if kind not in kinds:
            raise SelectionError(f"There is no question of the kind {kind!r}.")
        return kinds[kind](question)

    def _contents(self, question: dict[str, Any]) -> Answer:
        models = [self.recorded(self.parts[0], side).recording.model for side in self.sides]
        return {"parts": self.parts, "sides": self.sides, "models": models}, None

    def _outline(self, question: dict[str, Any]) -> Answer:
        part, side = question["part"], question["side"]
        sheet, first = self.sheet(part, side), self.recorded(part, side)
        recording, overview = first.recording, first.overview
        signed = isinstance(sheet, DifferenceSheet)
        outline = {
            "part": part,
            "side": side,
            "model": recording.model,
            "queries": _row(sheet.queries),
            "keys": None if sheet.queries is sheet.keys else _row(sheet.keys),
            "causal": sheet.causal,
            "layers": list(sheet.layer_numbers),
            "heads": sheet.heads,
            "sink": sheet.sink,
            "signed": sheet.signed,
            "opened": None
            if signed
            else [overview.token, overview.layer, overview.head, overview.share],
            "closure": recording.closure(),
            "prompt_length": None if signed else recording.prompt_length,
            # From rows and columns of this sheet to those of the two that it compares.
            "places": sheet.places if isinstance(sheet, DifferenceSheet) else None,
            "key_places": sheet.key_places if isinstance(sheet, DifferenceSheet) else None,
            "measures": ["difference"] if signed else list(MEASURES),
            # How many rows the thumbnails are made from, where not from all.
            "sampled": _fewer(len(sampled_rows(recording)), len(recording)),
        }
        return outline, None

    def _thumbnails(self, question: dict[str, Any]) -> Answer:
        layer = question["layer"]
        sheet = self.recorded(question["part"], question["side"])
        sheet.recording.check(layer, 0)
        small = thumbnails(sheet.recording, layer, sheet.sink, THUMBNAIL_SIDE)
        return {"height": small.shape[1], "width": small.shape[2]}, small

    def _measures(self, question: dict[str, Any]) -> Answer:
        sheet = self.sheet(question["part"], question["side"])
        if isinstance(sheet, DifferenceSheet):
            return {}, _differences(sheet)
        from nbllm.attention.analysis.measures import (
            head_measures,  # pandas: only when it is asked for
        )

        frame = head_measures(self.recorded(question["part"], question["side"]).recording)
        grid = (len(sheet.layer_numbers), sheet.heads)
        frame = frame.sort_values(["layer", "head"])
        values = [frame[name].to_numpy(np.float32).reshape(grid) for name in MEASURES]
        return {}, np.stack(values)

    def _own_measure(self, question: dict[str, Any]) -> Answer:
        sheet = self.sheet(question["part"], question["side"])
        table = self.tables[question["part"]]
        return {}, head_values(table, question["name"], sheet.layer_numbers, sheet.heads)

    def _picture(self, question: dict[str, Any]) -> Answer:
        sheet, shown, rows, columns = self._asked(question)
        size = min(max(int(question["size"]), 1), LARGEST_SIDE)
        place = question["part"], question["side"]
        weights, sampled, full = self.drawn(*place, shown, rows, columns, size)
        every = evenly_spaced(len(sheet.queries), MASS_ROWS)
        exact = weights.shape == (len(rows), len(columns)) and weights.size <= LARGEST_EXACT
        message = {
            "rows": [rows.start, rows.stop],
            "columns": [columns.start, columns.stop],
            "height": weights.shape[0],
            "width": weights.shape[1],
            "exact": exact,
            "sampled": sampled,
            "full": full,
            "sinkShare": None
            if sheet.sink is None
            else float(sheet.sink_mass(shown, every).mean()),
        }
        if exact:
            return message, weights.astype("<f4")
        return message, codes(weights, full, signed=sheet.signed)

    def _draw(
        self, part: str, side: str, shown: Shown, rows: range, columns: range, size: int
    ) -> tuple[NDArray[np.float32], bool, float]:
        """A picture, whether its rows are a sample, and the weight of full colour.

        That is the largest of the whole head, so that colours stay when a reader zooms. The last
        are kept: what stands in the notebook's output is asked for again at once, by the browser
        that opens the view.
        """
        sheet = self.sheet(part, side)
        weights, sampled = picture(sheet, shown, rows, columns, size)
        weights.flags.writeable = False
        whole = range(len(sheet.queries)), range(len(sheet.keys))
        if (rows, columns) != whole:
            return weights, sampled, self.drawn(part, side, shown, *whole, size)[2]
        return weights, sampled, largest(sheet, shown, weights)

    def _tile(self, question: dict[str, Any]) -> Answer:
        sheet, shown, rows, columns = self._asked(question)
        if len(rows) * len(columns) > LARGEST_TILE:
            raise SelectionError(
                f"A tile has at most {counted(LARGEST_TILE, 'weight')}. Ask for less."
            )
        weights = sheet.weights(shown, rows, columns).astype("<f4")
        return {
            "rows": question["rows"],
            "sinkMass": sheet.sink_mass(shown, rows).tolist(),
        }, weights

    def _dimensions(self, question: dict[str, Any]) -> Answer:
        sheet = self.sheet(question["part"], question["side"])
        if isinstance(sheet, DifferenceSheet):
            raise SelectionError("A difference has no score. Choose one of the two recordings.")
        recording = self.recorded(question["part"], question["side"]).recording
        layer, head, (query, key) = (question[name] for name in ("layer", "head", "pair"))
        recording.check(layer, head)
        _check_range("query", range(query, query + 1), sheet.queries)
        _check_range("key", range(key, key + 1), sheet.keys)
        recorded = recording.layer(layer)
        group = recorded.heads // recorded.key.shape[0]
        q = recorded.query[head, query].float().cpu().numpy()
        k = recorded.key[head // group, key].float().cpu().numpy()
        product = dimension_scores(recording, layer, head, query, key)
        plain = recorded.softcap is None and recorded.bias is None
        return {"plain": plain}, np.stack([q, k, product]).astype("<f4")

    def _asked(self, question: dict[str, Any]) -> tuple[Sheet, Shown, range, range]:
        sheet = self.sheet(question["part"], question["side"])
        shown = Shown(
            layer=question["layer"],
            head=question["head"],
            how=question.get("how", "head"),
            mask_sink=bool(question.get("mask_sink", False)),
        )
        if shown.layer not in sheet.layer_numbers:
            self.recorded(question["part"], question["side"]).recording.check(shown.layer, 0)
        rows, columns = (
            range(len(row)) if question[name] is None else range(*question[name])
            for name, row in (("rows", sheet.queries), ("columns", sheet.keys))
        )
        _check_range("query", rows, sheet.queries)
        _check_range("key", columns, sheet.keys)
        return sheet, shown, rows, columns


def _parts(recorded: Recorded | None) -> dict[str, Recording]:
    if isinstance(recorded, EncoderDecoderRecording):
        return {
            "encoder": recorded.encoder,
            "decoder": recorded.decoder,
            "cross": recorded.cross,
        }
    return {} if recorded is None else {recorded.kind: recorded}


def _row(row: TokenRow) -> dict[str, Any]:
    # Places in the text as JavaScript counts them: a character beyond U+FFFF is two.
    places = [0, *accumulate(2 if character > "\uffff" else 1 for character in row.text)]
    return {
        "text": row.text,
        "tokens": list(row.tokens),
        "spans": [[places[start], places[stop]] for start, stop in row.spans],
        "special": [place for place, special in enumerate(row.special) if special],
        "marks": [[mark.field, mark.start, mark.stop] for mark in row.marks],
    }


def _fewer(sampled: int, rows: int) -> int | None:
    return sampled if sampled < rows else None


def _check_range(name: str, asked: range, row: TokenRow) -> None:
    if not 0 <= asked.start < asked.stop <= len(row):
        raise SelectionError(
            f"{name} tokens {asked.start} to {asked.stop - 1} are not in this recording, which "
            f"has {name} tokens 0 to {len(row) - 1}. Choose some of those."
        )


def _differences(sheet: DifferenceSheet) -> NDArray[np.float32]:
    """Half the absolute difference of each row, averaged: 0 the same, 1 all weight moved.

    The total variation distance, over the tokens that both have, on a sample of rows.
    Returns float32, (1, layers, heads).
    """
    rows, columns = evenly_spaced(len(sheet.queries), DIFFERENCE_ROWS), range(len(sheet.keys))
    found = np.empty((1, len(sheet.layer_numbers), sheet.heads), np.float32)
    for at, layer in enumerate(sheet.layer_numbers):
        for head in range(sheet.heads):
            moved = np.abs(sheet.weights(Shown(layer, head), rows, columns)).sum(1) / 2
            found[0, at, head] = moved.mean()
    return found

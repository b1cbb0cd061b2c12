"""What a page of its own holds of a viewer: the questions that it can answer.

Until the bytes are spent, in this order: what each sheet is, with the small pictures of its
heads; what is on screen; a picture of each wanted head; its exact weights; the mean and the
largest over the heads of each layer; the heads with their sink masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nbllm.display.progress_bar import bar_class
from nbllm.widgets.attention.handler import LARGEST_SIDE, LARGEST_TILE, Questions
from nbllm.widgets.attention.sources import Sheet, Shown
from nbllm.widgets.page import Answers, Question

__all__ = ["Matrix", "Stock", "store"]

SIDES = (LARGEST_SIDE, 384, 256, 192, 128, 96, 64)  # of pooled pictures
PICTURES_SHARE = 0.8  # of the bytes; what they leave is for exact weights
LINES = 21  # queries that the lines show at a time; QUERIES of widgets/attention/lines.ts
SAMPLED_HEADS = 3  # whose pictures tell how large those of all will be


@dataclass(frozen=True)
class Matrix:
    """One matrix that a viewer can show, and the query token that is selected in it."""

    part: str
    side: str
    sheet: Sheet
    shown: Shown
    token: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether one question can ask for all of its weights."""
        return len(self.sheet.queries) * len(self.sheet.keys) <= LARGEST_TILE

    def picture(self, size: int) -> Question:
        asked = {"kind": "picture", **self._asked(), "rows": None, "columns": None}
        return {**asked, "size": size}

    def tile(self) -> Question:
        """All weights; of a long text, those of the queries in the lines."""
        return {"kind": "tile", **self._asked()} if self.is_short else self.lines()

    def lines(self) -> Question:
        """The weights that the lines show when they open: of the queries around the token."""
        return {"kind": "tile", **self._asked(), "rows": self._queries()}

    def _queries(self) -> list[int]:
        row, first = self.sheet.queries, self.token
        if first is None:
            first = (row.marks[0].start if row.marks else 0) + LINES // 2
        count = min(LINES, LARGEST_TILE // len(self.sheet.keys))
        start = max(0, min(first - count // 2, len(row) - count))
        return [start, min(start + count, len(row))]

    def _asked(self) -> Question:
        return {
            "part": self.part,
            "side": self.side,
            "layer": self.shown.layer,
            "head": self.shown.head,
            "how": self.shown.how,
            "mask_sink": self.shown.mask_sink,
            "rows": [0, len(self.sheet.queries)],
            "columns": [0, len(self.sheet.keys)],
        }


@dataclass(frozen=True)
class Stock:
    """How much of the wanted heads is stored."""

    heads: int  # wanted; one of two recordings and of their difference is three
    pictures: int  # heads that have one
    side: int  # of these pictures, at most
    exact: int  # heads that have exact weights:
    queries: int  # of so many queries; all, or those around the query token
    whole: bool  # all weights of all wanted heads


def store(
    answers: Answers,
    questions: Questions,
    opened: Sequence[Matrix],
    heads: Sequence[Matrix],
    all_heads: bool,
    measured: dict[str, dict[str, int]],
) -> Stock:
    """Ask for what the page can hold: `opened` is what it shows first, `heads` one or more.

    `measured` are the measures that were given, by part and name, with their version.

    Without room for what it shows first, nothing is of use, and no picture is counted.
    """
    general = _general(questions, opened[0], measured)
    side = 0
    if _store(answers, "heads at a glance", general) == len(general):
        side = _side(answers, heads)
    first = [asked for matrix in opened for asked in (matrix.picture(side), matrix.tile())]
    if side == 0 or _store(answers, "the head on screen", first) < len(first):
        return Stock(len(heads), 0, 0, 0, 0, False)
    more = [*(_combined(heads, side) if all_heads else ()), *_masked(heads, side)]
    stages = {
        "pictures": [head.picture(side) for head in heads],
        "weights": [head.tile() for head in heads],
        "means and masks": more,
    }
    counts = dict.fromkeys(stages, 0)
    for what, asked in stages.items():
        counts[what] = _store(answers, what, asked)
        if counts[what] < len(asked):
            break
    start, stop = heads[0].tile()["rows"]
    whole = all(head.is_short for head in heads) and counts["weights"] == len(heads)
    return Stock(len(heads), counts["pictures"], side, counts["weights"], stop - start, whole)


def _store(answers: Answers, what: str, asked: Sequence[Question]) -> int:
    """Store the answers in order, until the budget is spent; how many were."""
    for count, question in enumerate(bar_class()(asked, desc=what, delay=2, leave=False)):
        if not answers.store(question):
            return count
    return len(asked)


def _general(
    questions: Questions, first: Matrix, measured: dict[str, dict[str, int]]
) -> list[Question]:
    """What a viewer asks for before any head, the sheet on screen first."""
    asked: list[Question] = [{"kind": "contents"}]
    for part, side in sorted(questions.sheets, key=lambda at: at != (first.part, first.side)):
        which = {"part": part, "side": side}
        layers = questions.sheet(part, side).layer_numbers
        asked += [{"kind": "outline", **which}, {"kind": "measures", **which}]
        asked += [
            {"kind": "own_measure", **which, "name": name, "version": version}
            for name, version in measured.get(part, {}).items()
        ]
        asked += [{"kind": "thumbnails", **which, "layer": layer} for layer in layers]
    return asked


def _side(answers: Answers, heads: Sequence[Matrix]) -> int:
    """The largest side at which pictures of all heads take no more than their share."""
    longest = max(len(heads[0].sheet.queries), len(heads[0].sheet.keys))
    sample = heads[:: max(1, len(heads) // SAMPLED_HEADS)][:SAMPLED_HEADS]
    room = PICTURES_SHARE * (answers.budget - answers.size)
    sides = [min(longest, LARGEST_SIDE), *(side for side in SIDES if side < longest)]
    for side in sides:
        mean = sum(answers.cost(head.picture(side)) for head in sample) / len(sample)
        if mean * len(heads) <= room:
            return side
    return sides[-1]


def _combined(heads: Sequence[Matrix], side: int) -> Iterator[Question]:
    """The mean and the largest over the heads of each layer."""
    layers = {(head.part, head.side, head.shown.layer): head for head in heads}
    for head in layers.values():
        for how in ("mean", "max"):
            combined = replace(head, shown=replace(head.shown, how=how))
            yield from (combined.picture(side), combined.tile())


def _masked(heads: Sequence[Matrix], side: int) -> Iterator[Question]:
    for head in heads:
        if head.sheet.sink is not None:
            masked = replace(head, shown=replace(head.shown, mask_sink=True))
            yield from (masked.picture(side), masked.tile())

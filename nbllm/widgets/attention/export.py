"""Taking a view out of the notebook: as a table, a picture, a drawing or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from anywidget import AnyWidget

from nbllm.attention.recording.recording import Recording, TokenRow
from nbllm.attention.views.colour_levels import levels, scale_ticks
from nbllm.errors import SelectionError
from nbllm.escaping import visible
from nbllm.widgets.attention.handler import RequestHandler
from nbllm.widgets.attention.matrix_svg import LARGEST_SIDE, matrix_svg
from nbllm.widgets.attention.offline_store import Matrix, Stock, store
from nbllm.widgets.attention.picture import png
from nbllm.widgets.attention.sources import AttentionSource, Selection, largest, picture
from nbllm.widgets.attention.to_frame import to_frame
from nbllm.widgets.bundle import bundle
from nbllm.widgets.page import Answers, page
from nbllm.widgets.protocol.attention import Comparand, Measured, Scale
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Export", "Page", "drawing_of", "on_screen"]

Head = tuple[int, int]  # layer and head

PNG_SIDE = 1024  # pixels


@dataclass(frozen=True)
class Page:
    """A view that was written as an HTML file."""

    path: Path
    size: int  # bytes
    about: str  # what is stored, in a sentence

    def __repr__(self) -> str:
        return visible(f"{self.path}: {self.size / 1e6:.2f} MB. {self.about}")


class Viewed(Protocol):
    """The part of a view that is exported."""

    token: int | None
    stack: str
    comparand: Comparand
    scale: Scale
    keys: list[str]  # names of the synced traits
    measured: Measured
    handler: RequestHandler

    @property
    def recording(self) -> Recording: ...
    @property
    def source(self) -> AttentionSource: ...
    @property
    def selection(self) -> Selection: ...


def on_screen(view: Viewed) -> list[Matrix]:
    """Return the matrices on screen; of a comparison all of them, that of the lines first."""
    matrices = []
    for comparand in sorted(view.handler.comparands, key=lambda one: one != view.comparand):
        source = view.handler.source(view.stack, comparand)
        token = view.token if comparand == view.comparand else None
        if _has(source, view.selection):
            matrices.append(Matrix(view.stack, comparand, source, view.selection, token))
    return matrices


class Export:
    """Turns the attention viewer into a table, a picture, a drawing or a page.

    view = nbllm.inspect(model, "The plot was thin, but I loved it.")
    view.to_frame().nlargest(10, "weight")
    view.to_svg("head.svg")
    view.to_html("attention.html")
    """

    def to_frame(
        self: Viewed,
        heads: Sequence[Head] | None = None,
        queries: Sequence[int] | None = None,
        above: float = 0.0,
    ) -> pd.DataFrame:
        """The weights as a tidy DataFrame: those on screen, or of `heads`.

        `heads` are pairs of layer and head, of which the sink is masked where the view masks it;
        `queries` token positions, by default all. Weights up to `above` are left out, and so are,
        at 0, the keys that a query cannot see. It is always by token, not by word.

        Returns the columns layer, head, query, key, query_token, key_token, weight. Raises
        SelectionError for what is not in the recording, and for a table too large.

            view.to_frame(heads=[(5, 2), (5, 3)], above=0.01)
        """
        chosen = [self.selection]
        if heads is not None:
            mask = self.selection.mask_sink
            chosen = [replace(one, mask_sink=mask) for one in _chosen(self.source, heads)]
        count = len(self.source.queries)
        rows = range(count) if queries is None else list(queries)
        if any(not 0 <= row < count for row in rows):
            raise SelectionError(
                f"Not all of queries are in this recording of {self.recording.model}, which has "
                f"tokens 0 to {count - 1}. Choose some of those."
            )
        return to_frame(self.source, chosen, rows, above)

    def to_png(self: Viewed, path: str | Path | None = None) -> bytes:
        """The matrix on screen as a PNG, in the light colours and on the view's `scale`.

        A row is a query, a column a key; full colour is the largest weight outside of the sink.

        A text of more than 1024 tokens is pooled by the largest weight of each block; in a
        shorter one a weight has several pixels. Returns the file's bytes and, where `path` is
        given, writes it.

            view.to_png("head.png")
        """
        shades, _ = _levels(self.source, self.selection, PNG_SIDE, self.scale)
        larger = max(1, PNG_SIDE // max(shades.shape))
        data = png(shades.repeat(larger, 0).repeat(larger, 1))
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def to_svg(self: Viewed, path: str | Path | None = None) -> str:
        """The matrix on screen as SVG, in the light colours and on the view's `scale`.

        A token stands at its row and column; of long texts, as many as there is room for. Beyond
        128 tokens the matrix is pooled by the largest weight of each block. Returns the file's
        text and, where `path` is given, writes it.

            view.to_svg("head.svg")
        """
        shades, full = _levels(self.source, self.selection, LARGEST_SIDE, self.scale)
        drawing = drawing_of(self, shades, full)
        if path is not None:
            Path(path).write_text(drawing, encoding="utf-8")
        return drawing

    def to_html(
        self: Viewed,
        path: str | Path,
        heads: Sequence[Head] | None = None,
        budget: int = 10_000_000,
    ) -> Page:
        """The view as one HTML file that works from disk, with no kernel and no network.

        It holds the small pictures of all heads and, of what is on screen and of `heads` (pairs
        of layer and head; by default all, the nearest first), a picture and the exact weights.
        Where the budget does not last, pictures are pooled, and exact weights are stored of
        the first heads only; of a text beyond some 450 tokens, those around the query token.
        Fewer heads can be held in more detail. What is not stored, the page says.

        `budget` is in bytes, of what is stored; the script adds some 150 kB. Returns the
        file's path, size and what is in it. Raises SelectionError for a head that is not in
        the recording, or a budget that is too small for any.

            view.to_html("attention.html", heads=[(5, 2), (5, 3)])
        """
        if heads is not None and len(heads) == 0:
            raise SelectionError("heads names no head. Give pairs of layer and head, or None.")
        opened, others = on_screen(self), _others(self, heads)
        answers = Answers(self.handler.answer, budget)
        stock = store(
            answers,
            self.handler,
            opened,
            others,
            all_heads=heads is None,
            measured=self.measured,
        )
        if stock.pictures == 0:
            raise SelectionError(
                f"A budget of {counted(budget, 'byte')} is too small for this recording of "
                f"{self.recording.model}. Give a larger one; the default is 10,000,000."
            )
        several = len(self.handler.sources) > 1
        about = _about(stock, ("matrix", "matrices") if several else ("head", "heads"))
        text = page(
            title=f"Attention of {self.recording.model}",
            about=about,
            script=bundle("attention-page.js"),
            style=bundle("attention.css"),
            state=_state(self),
            answers=answers,
        )
        path = Path(path)
        path.write_text(text, encoding="utf-8")
        return Page(path, path.stat().st_size, about)


def _others(view: Viewed, heads: Sequence[Head] | None) -> list[Matrix]:
    """Return the wanted heads, those of the stack on screen first, each of all comparands."""
    handler, found = view.handler, []
    for stack in sorted(handler.stacks, key=lambda stack: stack != view.stack):
        first = handler.source(stack, view.comparand)
        if heads is None:
            chosen = _nearest_first(first, view.selection)
        elif stack == view.stack:
            chosen = _chosen(first, heads)
        else:
            continue
        for selection in chosen:
            for comparand in handler.comparands:
                source = handler.source(stack, comparand)
                is_first = (stack, comparand) == (view.stack, view.comparand)
                if _has(source, selection):
                    token = view.token if is_first else None
                    found.append(Matrix(stack, comparand, source, selection, token))
    return found


def _has(source: AttentionSource, selection: Selection) -> bool:
    return selection.layer in source.layer_numbers and selection.head in range(source.heads)


def _state(view: Viewed) -> dict[str, Any]:
    """Return what a reader set: the synced traits but for those of every widget."""
    of_all = {*AnyWidget.class_trait_names()}
    names = [name for name in view.keys if name not in of_all and not name.startswith("_")]
    return {name: getattr(view, name) for name in names}


def drawing_of(view: Viewed, shades: NDArray[np.uint8], full: float, **options: Any) -> str:
    """The matrix of a view as SVG, with its tokens and what the colours stand for.

    Args:
        view: the view.
        shades: colour levels, (rows, columns).
        full: the weight of full colour.
        options: more for `matrix_svg`.
    """
    source = view.source
    kind = "square root" if view.scale == "sqrt" else "logarithm"
    aside = f", {_labels(source.keys)[source.sink]!r} aside" if source.sink is not None else ""
    return matrix_svg(
        shades,
        title=f"{view.recording.model}: attention of {_name(view.selection)}",
        legend=f"Rows look at columns. Colour by the {kind}, full at the largest{aside}.",
        ticks=scale_ticks(full, view.scale),
        rows=_labels(source.queries),
        columns=_labels(source.keys),
        **options,
    )


def _levels(
    source: AttentionSource, selection: Selection, side: int, scale: Scale
) -> tuple[NDArray[np.uint8], float]:
    """Return colour levels of what is on screen, at most side², and the weight of full colour."""
    rows, columns = range(len(source.queries)), range(len(source.keys))
    weights, _ = picture(source, selection, rows, columns, side)
    full = largest(source, selection, weights)
    return np.rint(255 * levels(weights, full, scale)).astype(np.uint8), full


def _chosen(source: AttentionSource, heads: Sequence[Head]) -> list[Selection]:
    chosen = [Selection(layer, head) for layer, head in heads]
    for selection in chosen:
        if not _has(source, selection):
            numbers = source.layer_numbers
            raise SelectionError(
                f"There is no layer {selection.layer}, head {selection.head} here: the layers are "
                f"{numbers[0]} to {numbers[-1]}, the heads 0 to {source.heads - 1}. Choose among "
                "those."
            )
    return chosen


def _nearest_first(source: AttentionSource, selection: Selection) -> list[Selection]:
    """All heads of a source: the one on screen and those beside it, then other layers."""
    heads = [(layer, head) for layer in source.layer_numbers for head in range(source.heads)]
    heads.sort(key=lambda at: (abs(at[0] - selection.layer), at[0], abs(at[1] - selection.head)))
    return _chosen(source, heads)


def _labels(row: TokenRow) -> list[str]:
    """Each token; a dot for further bytes of a character that the token before it began."""
    ends = [0, *(stop for _, stop in row.spans)]
    return [
        "·" if start < stop and start < end else token
        for token, (start, stop), end in zip(row.tokens, row.spans, ends, strict=False)
    ]


def _name(selection: Selection) -> str:
    which = {
        "head": f"head {selection.head}",
        "mean": "mean over heads",
        "max": "largest over heads",
    }
    masked = ", without its sink" if selection.mask_sink else ""
    return f"layer {selection.layer}, {which[selection.reduce]}{masked}"


def _about(stock: Stock, names: tuple[str, str]) -> str:
    heads = f"{stock.heads} {names[stock.heads > 1]}"
    if stock.whole:
        return f"The page holds the exact weights of {heads}."
    return (
        f"The page holds pictures of {stock.pictures} of {heads}, of at most {stock.side} × "
        f"{counted(stock.side, 'cell')}, and exact weights of {stock.exact}, for "
        f"{counted(stock.queries, 'query', 'queries')}."
    )

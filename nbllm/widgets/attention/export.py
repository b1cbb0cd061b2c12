"""Exports a view as a DataFrame, a PNG, an SVG or an HTML page."""

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
from nbllm.widgets.attention.offline_store import Matrix, StoredCounts, store_answers
from nbllm.widgets.attention.picture import png
from nbllm.widgets.attention.sources import AttentionSource, Selection, largest_weight, picture
from nbllm.widgets.attention.to_frame import to_frame
from nbllm.widgets.bundle import bundle
from nbllm.widgets.page import AnswerStore, page
from nbllm.widgets.protocol.attention import Comparand, MeasureVersions, Scale
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["Export", "Page", "matrices_on_screen", "matrix_drawing"]

Head = tuple[int, int]  # layer and head

PNG_SIDE = 1024  # pixels


@dataclass(frozen=True)
class Page:
    """A written HTML page."""

    path: Path
    size: int  # bytes
    about: str  # a sentence on what the page contains

    def __repr__(self) -> str:
        return visible(f"{self.path}: {self.size / 1e6:.2f} MB. {self.about}")


class ExportableView(Protocol):
    """The part of a view that exports use."""

    token: int | None
    stack: str
    comparand: Comparand
    scale: Scale
    keys: list[str]  # names of the synced traits
    measured: MeasureVersions
    handler: RequestHandler

    @property
    def recording(self) -> Recording: ...
    @property
    def source(self) -> AttentionSource: ...
    @property
    def selection(self) -> Selection: ...


def matrices_on_screen(view: ExportableView) -> list[Matrix]:
    """Return the matrices on screen; in a comparison, the one that the lines show is first."""
    matrices = []
    for comparand in sorted(view.handler.comparands, key=lambda name: name != view.comparand):
        source = view.handler.source(view.stack, comparand)
        token = view.token if comparand == view.comparand else None
        if _has(source, view.selection):
            matrices.append(Matrix(view.stack, comparand, source, view.selection, token))
    return matrices


class Export:
    """The exports of the attention viewer.

    Example:
        view = nbllm.inspect(model, "The plot was thin, but I loved it.")
        view.to_frame().nlargest(10, "weight")
        view.to_svg("head.svg")
        view.to_html("attention.html")
    """

    def to_frame(
        self: ExportableView,
        heads: Sequence[Head] | None = None,
        queries: Sequence[int] | None = None,
        above: float = 0.0,
    ) -> pd.DataFrame:
        """Return weights as a tidy DataFrame, by token even if the view shows words.

        Args:
            heads: Pairs of layer and head, masked like the view; None for the weights on screen.
            queries: Token positions; None for all.
            above: The magnitude up to which weights are left out; 0 leaves out only keys that a
                query cannot see.

        Returns:
            The columns layer, head, query, key, query_token, key_token, weight.

        Raises:
            SelectionError: A head or a query is not in the recording, or the table is too large.

        Example:
            view.to_frame(heads=[(5, 2), (5, 3)], above=0.01)
        """
        selections = [self.selection]
        if heads is not None:
            mask = self.selection.mask_sink
            selections = [replace(head, mask_sink=mask) for head in _selections(self.source, heads)]
        count = len(self.source.queries)
        rows = range(count) if queries is None else list(queries)
        if any(not 0 <= row < count for row in rows):
            raise SelectionError(
                f"Not all of queries are in this recording of {self.recording.model}, which has "
                f"tokens 0 to {count - 1}. Choose some of those."
            )
        return to_frame(self.source, selections, rows, above)

    def to_png(self: ExportableView, path: str | Path | None = None) -> bytes:
        """Return the matrix on screen as a PNG, in the light colours and with the view's `scale`.

        Rows are queries, columns are keys; full colour is the largest weight, without the sink.
        A text of more than 1024 tokens is pooled by the largest weight of each block; for a
        shorter one, each weight has several pixels.

        Args:
            path: The file to write, if any.

        Returns:
            The bytes of the file.

        Example:
            view.to_png("head.png")
        """
        shades, _ = _levels(self.source, self.selection, PNG_SIDE, self.scale)
        larger = max(1, PNG_SIDE // max(shades.shape))
        data = png(shades.repeat(larger, 0).repeat(larger, 1))
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def to_svg(self: ExportableView, path: str | Path | None = None) -> str:
        """Return the matrix on screen as SVG, in the light colours and with the view's `scale`.

        Rows and columns are labelled with their tokens, or every n-th one of a long text. Beyond
        128 tokens the matrix is pooled by the largest weight of each block.

        Args:
            path: The file to write, if any.

        Returns:
            The text of the file.

        Example:
            view.to_svg("head.svg")
        """
        shades, full = _levels(self.source, self.selection, LARGEST_SIDE, self.scale)
        drawing = matrix_drawing(self, shades, full)
        if path is not None:
            Path(path).write_text(drawing, encoding="utf-8")
        return drawing

    def to_html(
        self: ExportableView,
        path: str | Path,
        heads: Sequence[Head] | None = None,
        budget: int = 10_000_000,
    ) -> Page:
        """Write the view as one HTML file that works from disk, without kernel and network.

        The page has thumbnails of all heads, and a picture and the exact weights of the selected
        head and of `heads`. Within the budget, pictures are pooled and exact weights stored for
        the first heads only; for a text of more than about 450 tokens, those around the query
        token. Fewer heads leave room for more detail. The page reports what is not stored.

        Args:
            path: The file to write.
            heads: Pairs of layer and head; None for all, the nearest first.
            budget: The bytes of stored answers; the script adds about 150 kB.

        Returns:
            The file's path, size and content.

        Raises:
            SelectionError: A head is not in the recording, or the budget is too small.

        Example:
            view.to_html("attention.html", heads=[(5, 2), (5, 3)])
        """
        if heads is not None and len(heads) == 0:
            raise SelectionError("heads names no head. Give pairs of layer and head, or None.")
        answers = AnswerStore(self.handler.answer, budget)
        stored = store_answers(
            answers,
            self.handler,
            matrices_on_screen(self),
            _head_matrices(self, heads),
            all_heads=heads is None,
            versions=self.measured,
        )
        if stored.pictures == 0:
            raise SelectionError(
                f"A budget of {counted(budget, 'byte')} is too small for this recording of "
                f"{self.recording.model}. Give a larger one; the default is 10,000,000."
            )
        one_source = len(self.handler.sources) == 1
        about = _about(stored, ("head", "heads") if one_source else ("matrix", "matrices"))
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


def _head_matrices(view: ExportableView, heads: Sequence[Head] | None) -> list[Matrix]:
    """Return the matrices of `heads` for all comparands, those of the current stack first."""
    handler, matrices = view.handler, []
    for stack in sorted(handler.stacks, key=lambda stack: stack != view.stack):
        current = handler.source(stack, view.comparand)
        if heads is None:
            selections = _nearest_first(current, view.selection)
        elif stack == view.stack:
            selections = _selections(current, heads)
        else:
            continue
        for selection in selections:
            for comparand in handler.comparands:
                source = handler.source(stack, comparand)
                is_current = (stack, comparand) == (view.stack, view.comparand)
                if _has(source, selection):
                    token = view.token if is_current else None
                    matrices.append(Matrix(stack, comparand, source, selection, token))
    return matrices


def _has(source: AttentionSource, selection: Selection) -> bool:
    return selection.layer in source.layer_numbers and selection.head in range(source.heads)


def _state(view: ExportableView) -> dict[str, Any]:
    """Return the view's settings: its synced traits without those of every widget."""
    common = {*AnyWidget.class_trait_names()}
    names = [name for name in view.keys if name not in common and not name.startswith("_")]
    return {name: getattr(view, name) for name in names}


def matrix_drawing(
    view: ExportableView, shades: NDArray[np.uint8], full: float, **options: Any
) -> str:
    """Return the matrix of a view as SVG, with its tokens and a colour bar.

    Args:
        view: The view.
        shades: The colour levels, (rows, columns).
        full: The weight of full colour.
        options: Further options of `matrix_svg`.
    """
    source = view.source
    kind = "square root" if view.scale == "sqrt" else "logarithm"
    aside = f", {_labels(source.keys)[source.sink]!r} aside" if source.sink is not None else ""
    return matrix_svg(
        shades,
        title=f"{view.recording.model}: attention of {_describe(view.selection)}",
        legend=f"Rows look at columns. Colour by the {kind}, full at the largest{aside}.",
        ticks=scale_ticks(full, view.scale),
        rows=_labels(source.queries),
        columns=_labels(source.keys),
        **options,
    )


def _levels(
    source: AttentionSource, selection: Selection, side: int, scale: Scale
) -> tuple[NDArray[np.uint8], float]:
    """Return the colour levels on screen, at most side × side, and the weight of full colour."""
    rows, columns = range(len(source.queries)), range(len(source.keys))
    weights, _ = picture(source, selection, rows, columns, side)
    full = largest_weight(source, selection, weights)
    return np.rint(255 * levels(weights, full, scale)).astype(np.uint8), full


def _selections(source: AttentionSource, heads: Sequence[Head]) -> list[Selection]:
    selections = [Selection(layer, head) for layer, head in heads]
    for selection in selections:
        if not _has(source, selection):
            numbers = source.layer_numbers
            raise SelectionError(
                f"There is no layer {selection.layer}, head {selection.head} here: the layers are "
                f"{numbers[0]} to {numbers[-1]}, the heads 0 to {source.heads - 1}. Choose among "
                "those."
            )
    return selections


def _nearest_first(source: AttentionSource, selection: Selection) -> list[Selection]:
    """Return all heads of a source, by their distance in layers, then in heads."""
    heads = [(layer, head) for layer in source.layer_numbers for head in range(source.heads)]
    heads.sort(key=lambda at: (abs(at[0] - selection.layer), at[0], abs(at[1] - selection.head)))
    return _selections(source, heads)


def _labels(row: TokenRow) -> list[str]:
    """Return the tokens, with a dot for further bytes of a character that an earlier one began."""
    ends = [0, *(stop for _, stop in row.spans)]
    return [
        "·" if start < stop and start < end else token
        for token, (start, stop), end in zip(row.tokens, row.spans, ends, strict=False)
    ]


def _describe(selection: Selection) -> str:
    heads = {
        "head": f"head {selection.head}",
        "mean": "mean over heads",
        "max": "largest over heads",
    }
    masked = ", without its sink" if selection.mask_sink else ""
    return f"layer {selection.layer}, {heads[selection.reduce]}{masked}"


def _about(stored: StoredCounts, names: tuple[str, str]) -> str:
    heads = f"{stored.heads} {names[stored.heads > 1]}"
    if stored.complete:
        return f"The page holds the exact weights of {heads}."
    return (
        f"The page holds pictures of {stored.pictures} of {heads}, of at most {stored.side} × "
        f"{counted(stored.side, 'cell')}, and exact weights of {stored.exact}, for "
        f"{counted(stored.queries, 'query', 'queries')}."
    )

"""An estimate of memory: its figures, and the sentences that explain them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nbllm.display.card import card
from nbllm.display.table import Table
from nbllm.display.theme import CHART, GREY, STACK
from nbllm.escaping import chart_text, escape, visible
from nbllm.models.estimate.requirement import Requirement
from nbllm.models.kind import Kind
from nbllm.models.memory.budget import BATCH_SHARE, LOAD_SHARE
from nbllm.wording import byte_size

if TYPE_CHECKING:
    import pandas
    from plotly.graph_objects import Figure

__all__ = ["MemoryEstimate"]

_HEAD = ("quantize", "context", "batch", "weights", "cache", "activations", "loading", "peak",
         "fits", "most texts")  # fmt: skip
_PARTS = ("weights", "cache", "activations", "more while loading")
# A memory that the highest bar fills less of than this would flatten all bars: it is named only.
_WORTH_A_LINE = 0.25


@dataclass(frozen=True, repr=False)
class MemoryEstimate:
    """The memory that a model would take: a row for each quantization, context and batch.

    It shows itself as a table; `to_frame()` gives the bytes, `plot()` a chart.
    """

    name: str
    kind: Kind
    parameters: int
    dtype: str
    device: str  # cpu, cuda, mps, or the name of a card
    memory: int  # bytes of the device, in use or not
    free: int  # those that can be had now, or of a card that nothing else uses
    rows: tuple[Requirement, ...]
    auto: str  # what `load` with quantize="auto" does, and why
    here: bool = True  # whether the device is one of this machine
    notes: tuple[str, ...] = ()  # what could not be forecast
    devices: int = 1  # of that kind, over which it can be spread

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas frame, in bytes.

        Example:
            >>> nbllm.estimate("smollm2").to_frame()[["quantization", "peak"]]  # doctest: +SKIP
        """
        import pandas

        return pandas.DataFrame([{**asdict(row), "peak": row.peak} for row in self.rows])

    def plot(self) -> Figure:
        """Return stacked bars of what is held, and the machine's memory as a line."""
        from plotly.graph_objects import Figure

        figure = Figure()
        labels = [
            f"{chart_text(row.quantization)}<br>{row.batch:,} × {row.context:,}"
            for row in self.rows
        ]
        for part, colour in zip(_PARTS, STACK, strict=True):
            sizes = [_size(row, part) for row in self.rows]
            if any(sizes):
                figure.add_bar(
                    name=part,
                    x=labels,
                    y=[size / 1e9 for size in sizes],
                    customdata=[byte_size(size) for size in sizes],
                    hovertemplate="%{customdata}",
                    marker_color=colour,
                )
        highest = max(row.peak for row in self.rows)
        device = f"this {self.device}" if self.here else self.device
        lines = (
            ("free now", self.free, "left", "dot"),
            (f"memory of {device}", self.memory, "right", "solid"),
        )
        for text, size, side, dash in lines:
            if highest >= _WORTH_A_LINE * size:
                text = chart_text(f"{text}: {byte_size(size)}")
                figure.add_hline(
                    size / 1e9,
                    line={"color": GREY, "dash": dash},
                    annotation={"text": text, "yanchor": "bottom"},
                    annotation_position=f"top {side}",
                )
        subtitle = {"text": chart_text(f"texts × tokens of each. {self._memory}")}
        figure.update_layout(
            **CHART,
            barmode="stack",
            title={"text": chart_text(self._title), "subtitle": subtitle},
            yaxis={"title": "GB", "rangemode": "tozero"},
        )
        return figure

    def __repr__(self) -> str:
        return visible("\n".join([self._title, *self._table.lines(), *self._remarks]))

    def _repr_html_(self) -> str:
        below = "".join(f"<div>{escape(remark)}</div>" for remark in self._remarks)
        return card(self._title, self._table.html(), below)

    @property
    def _table(self) -> Table:
        return Table([_cells(row) for row in self.rows], _HEAD, columns=["number" for _ in _HEAD])

    @property
    def _title(self) -> str:
        millions = f"{self.parameters / 1e6:,.0f} M parameters"
        return f"{self.name}: {millions}, {self.kind}, {self.dtype}"

    @property
    def _memory(self) -> str:
        has = byte_size(self.memory)
        if not self.here:
            return f"{self.device}: {has} per card, {byte_size(self.free)} of it free for use."
        return f"This {self.device} has {has}, {byte_size(self.free)} of it free."

    @property
    def _remarks(self) -> list[str]:
        """The lines below the table."""
        on_top = " Peaks come on top of what is in use now." if self.here else ""
        return [
            f"{self._memory}{on_top}",
            *self._legend,
            f"Loaded with quantize='auto': {self.auto}",
            *self.notes,
        ]

    @property
    def _legend(self) -> list[str]:
        """The meaning of two columns, which take other shares of the memory than "auto" does."""
        several = self.devices > 1
        spread = ", spread: over all of them with device_map='auto'" if several else ""
        on_one = "; on one of them where one text fits there, else over all" if several else ""
        return [
            f"fits: whether the peak is within what is free{spread}. quantize='auto' keeps weights "
            f"and cache within {LOAD_SHARE:.0%} of the memory.",
            f"most texts: of that context in one batch, in the {BATCH_SHARE:.0%} of what the "
            f"weights leave free that a run takes{on_one}.",
        ]


def _cells(row: Requirement) -> tuple[str, ...]:
    sizes = (row.weights, row.cache, row.activations, row.loading, row.peak)
    counts = (f"{row.context:,}", f"{row.batch:,}")
    return (row.quantization, *counts, *map(byte_size, sizes), row.fits, f"{row.most_texts:,}")


def _size(row: Requirement, part: str) -> int:
    return row.peak - row.running if part == "more while loading" else getattr(row, part)

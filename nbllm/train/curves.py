"""Curves of a run as inline SVG: training and held-out loss, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from nbllm.display.theme import BLUE, GREY, VERMILION, translucent
from nbllm.escaping import escape
from nbllm.wording import counted

__all__ = ["svg"]

# Told apart by colour-blind readers, and on light and dark ground.
_TRAIN, _HELD = BLUE, VERMILION
_WIDTH, _HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 34
_TEXT = "fill:var(--jp-ui-font-color1,CanvasText);font:11px var(--jp-ui-font-family,system-ui)"
_SMOOTHED = 25  # windows that a noisy curve is cut into

Point = tuple[float, float]


def svg(
    history: Sequence[dict[str, float]], *, unit: str, references: Sequence[tuple[str, float]] = ()
) -> str:
    """Loss over steps.

    Args:
        history: entries with `step` and `loss` or `eval_loss`.
        unit: what a loss is in, for the axis.
        references: names and losses of horizontal lines.
    """
    train = [(e["step"], e["loss"]) for e in history if "loss" in e]
    held = [(e["step"], e["eval_loss"]) for e in history if "eval_loss" in e]
    if not train and not held:
        return ""
    smooth = _smoothed(train)
    steps = [x for x, _ in (*train, *held)]
    # The first few losses of a run may be so high that nothing else could be seen.
    high = max(y for _, y in (*smooth, *held, *[(0.0, r) for _, r in references]))
    low = min(y for _, y in (*smooth, *held, *[(0.0, r) for _, r in references]))
    low, high = (0.0 if low < 0.3 * high else low), max(high, low + 1e-9)
    last = max(*steps, 1.0)

    def place(x: float, y: float) -> str:
        across = _LEFT + x / last * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (high - min(y, high)) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f},{down:.1f}"

    lines = [
        _line([place(*p) for p in train], _TRAIN, "opacity:0.25"),
        _line([place(*p) for p in smooth], _TRAIN, "stroke-width:2"),
        _line([place(*p) for p in held], _HELD, "stroke-width:2"),
        *(_dot(place(*p), _HELD) for p in held),
        *(_reference(name, place(0, y), place(last, y)) for name, y in references),
    ]
    described = _description(train, held, unit)
    return (
        f'<svg role="img" aria-label="{escape(described)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'style="width:{_WIDTH}px;max-width:100%;height:auto;display:block">'
        f"{_axes(place, low, high, last)}{''.join(lines)}{_legend(bool(held), unit)}</svg>"
    )


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Means of neighbours, where there are many."""
    size = max(1, len(points) // _SMOOTHED)
    if size == 1:
        return list(points)
    parts = [points[n : n + size] for n in range(0, len(points), size)]
    return [(p[len(p) // 2][0], sum(y for _, y in p) / len(p)) for p in parts]


def _line(places: Sequence[str], colour: str, style: str) -> str:
    if len(places) < 2:
        return ""
    return (
        f'<polyline points="{" ".join(places)}" style="fill:none;stroke:{colour};'
        f'stroke-linejoin:round;{style}"/>'
    )


def _dot(place: str, colour: str) -> str:
    x, y = place.split(",")
    return f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'


def _reference(name: str, start: str, end: str) -> str:
    (x1, y1), (x2, y2) = start.split(","), end.split(",")
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" style="stroke:#888;stroke-dasharray:4 4"/>'
        f'<text x="{x2}" y="{float(y1) - 4:.1f}" text-anchor="end" style="{_TEXT}">'
        f"{escape(name)}</text>"
    )


def _axes(place: object, low: float, high: float, last: float) -> str:
    parts = []
    for value in _ticks(low, high):
        x, y = place(0, value).split(",")  # type: ignore[operator]
        parts.append(
            f'<line x1="{x}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" '
            f'style="stroke:{translucent(GREY, 0.25)}"/>'
            f'<text x="{_LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end" style="{_TEXT}">'
            f"{value:g}</text>"
        )
    for value in _ticks(0, last):
        x = place(value, low).split(",")[0]  # type: ignore[operator]
        parts.append(
            f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle" style="{_TEXT}">'
            f"{value:,g}</text>"
        )
    return "".join(parts) + (
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end" style="{_TEXT}">step'
        "</text>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers between two."""
    rough = (high - low) / 4
    size = 10.0 ** floor(log10(rough))
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= rough)
    first = -(-low // step)
    return [
        float(f"{n * step:.6g}")
        for n in range(int(first), int(high // step) + 1)
        if n * step >= low
    ]


def _legend(held: bool, unit: str) -> str:
    items = [(_TRAIN, "training"), *([(_HELD, "held out")] if held else [])]
    parts = [f'<text x="{_LEFT}" y="14" style="{_TEXT}">loss ({escape(unit)})</text>']
    x = _WIDTH - _RIGHT - 76 * len(items)
    for colour, name in items:
        parts.append(
            f'<line x1="{x}" y1="10" x2="{x + 16}" y2="10" style="stroke:{colour};'
            f'stroke-width:2"/><text x="{x + 20}" y="14" style="{_TEXT}">{name}</text>'
        )
        x += 76
    return "".join(parts)


def _description(train: Sequence[Point], held: Sequence[Point], unit: str) -> str:
    said = [
        f"{name} loss from {points[0][1]:.3g} to {points[-1][1]:.3g} {unit}"
        for name, points in (("training", train), ("held-out", held))
        if points
    ]
    steps = counted(round(max(x for x, _ in (*train, *held))), "step")
    return f"{' and '.join(said)} in {steps}"

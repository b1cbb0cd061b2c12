"""The attention viewer: all heads at a glance, one head as matrix, lines and painted words.

Layer, head and query token are synced traits, so Python reads what was clicked and sets
what is shown. Weights never ride on traits: the browser asks by custom message for what is
on screen, and gets one binary buffer. Each question carries a key that its answer repeats:

    {"kind": "outline"}                                 tokens, marks, sizes
    {"kind": "thumbnails", layer}                       uint8 levels (heads, side, side)
    {"kind": "picture", layer, head, size}              uint16 weights · 65535, pooled (side, side)
    {"kind": "tile", layer, head, rows, columns}        float32 weights, exact; [start, stop] each
"""

from __future__ import annotations

import operator
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import publish_display_data

from nbllm.attention.capture import Recording, record
from nbllm.attention.overview import full_colour, pool, survey, thumbnails
from nbllm.engine.prompt import Prompt
from nbllm.errors import NbllmError, SelectionError
from nbllm.models.model import Model
from nbllm.widgets.picture import png_url

__all__ = ["AttentionView", "inspect"]

STATIC = Path(__file__).parent / "static"
THUMBNAIL_SIDE = 24
STATIC_SIDE = 256
LARGEST_SIDE = 700  # of a pooled head: 700² uint16 is just below 1 MB
LARGEST_TILE = 262_144  # weights, 1 MB


def _bundle(name: str) -> Path:
    path = STATIC / name
    if not path.exists():
        raise NbllmError(
            f"The widget's browser half, {name}, is not built. In a source checkout run "
            "`make setup`; an installed nbllm without it is damaged: install it again."
        )
    return path


class _Position(traitlets.Int[int, int]):
    """An integer, also as NumPy's argmax gives it."""

    def validate(self, obj: Any, value: Any) -> Any:
        if value is not None:
            try:
                value = operator.index(value)
            except TypeError:
                self.error(obj, value)
        return super().validate(obj, value)


class AttentionView(anywidget.AnyWidget):
    """The attention of a recording, in the notebook.

    `layer`, `head` and `token` (the query token, or None for no selection) can be read and
    set from Python; setting one that the recording does not have raises SelectionError.

        view = nbllm.inspect(model, "The plot was thin, but I loved it.")
        view.layer, view.head = 5, 2
        view.token            # what was clicked
    """

    _esm = _bundle("attention.js")
    _css = _bundle("attention.css")

    layer = _Position().tag(sync=True)
    head = _Position().tag(sync=True)
    token = _Position(None, allow_none=True).tag(sync=True)

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._overview = survey(recording)
        super().__init__(
            layer=self._overview.layer, head=self._overview.head, token=self._overview.token
        )
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return (
            f"AttentionView({self.recording.model}, {len(self.recording)} tokens, "
            f"layer={self.layer}, head={self.head}, token={self.token})"
        )

    @traitlets.validate("layer", "head", "token")
    def _check(self, proposal: Any) -> Any:
        place = {"layer": 0, "head": 0, "token": None, proposal["trait"].name: proposal["value"]}
        self.recording.check(**place)
        return proposal["value"]

    def _answer(self, _: Any, question: dict[str, Any], buffers: Any) -> None:
        kinds = {
            "outline": self._outline,
            "thumbnails": self._thumbnails,
            "picture": self._picture,
            "tile": self._tile,
        }
        key, kind = question.get("key"), question.get("kind")
        try:
            answer, numbers = kinds[str(kind)](question)
        except (NbllmError, KeyError, TypeError, ValueError) as error:
            self.send({"key": key, "error": f"{type(error).__name__}: {error}"})
        else:
            buffers = [] if numbers is None else [np.ascontiguousarray(numbers).data]
            self.send({"key": key, **answer}, buffers=buffers)

    def _outline(self, question: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        recording, overview = self.recording, self._overview
        outline = {
            "model": recording.model,
            "text": recording.text,
            "tokens": recording.tokens,
            "spans": recording.spans,
            "special": recording.special,
            "marks": [[mark.field, mark.start, mark.stop] for mark in recording.marks],
            "causal": recording.causal,
            "layers": len(recording.layers),
            "heads": recording.heads,
            "sink": overview.sink,
            "opened": [overview.token, overview.layer, overview.head, overview.share],
            "closure": recording.closure(),
        }
        return outline, None

    def _thumbnails(self, question: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        layer = question["layer"]
        self.recording.check(layer, 0)
        small = thumbnails(self.recording, layer, self._overview.sink, THUMBNAIL_SIDE)
        return {"side": small.shape[1]}, small

    def _picture(self, question: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        weights = self.recording.weights(question["layer"], question["head"])
        small = pool(weights, min(max(int(question["size"]), 1), LARGEST_SIDE))
        sink = self._overview.sink
        share = None if sink is None else float(weights[:, sink].mean())
        answer = {"side": len(small), "full": full_colour(weights, sink), "sinkShare": share}
        return answer, np.rint(small * 65535).astype("<u2")

    def _tile(self, question: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        rows, columns = (range(*question[name]) for name in ("rows", "columns"))
        if len(rows) * len(columns) > LARGEST_TILE:
            raise SelectionError(f"A tile has at most {LARGEST_TILE:,} weights. Ask for less.")
        weights = self.recording.weights(question["layer"], question["head"], rows, columns)
        return {}, weights.astype("<f4")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The live widget, and a picture for front ends that have no widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._still()}, metadata

    def _ipython_display_(self) -> None:
        """Show the picture and, after it, the widget, which hides the picture.

        As one output JupyterLab would take the widget alone, and a notebook opened without
        its kernel would say "model not found" in place of the picture.
        """
        data, metadata = self._repr_mimebundle_()
        publish_display_data({"text/html": data.pop("text/html")})  # type: ignore[no-untyped-call]
        publish_display_data(data, metadata)  # type: ignore[no-untyped-call]

    def _still(self) -> str:
        """The head that is shown, as HTML without script."""
        recording, sink = self.recording, self._overview.sink
        weights = recording.weights(self.layer, self.head)
        full = full_colour(weights, sink)
        levels = np.sqrt(np.clip(pool(weights, STATIC_SIDE) / full, 0, 1)) * 255
        head = f"layer {self.layer}, head {self.head}"
        lines = [
            f"<strong>{escape(recording.model)}</strong>: attention of {head} over "
            f"{len(recording)} tokens. A row is a token that looks, a column one that is looked "
            f"at; colour is the square root of the weight, full from {full:.3g}."
        ]
        if sink is not None:
            share = weights[:, sink].mean()
            lines.append(
                f"{self._quoted(sink)} takes {share:.0%} of the weight and is left out of the "
                "colour scale."
            )
        if self.token is not None:
            row = weights[self.token]
            strongest = ", ".join(
                f"{self._quoted(key)} {row[key]:.3f}" for key in np.argsort(-row)[:6]
            )
            lines.append(f"From {self._quoted(self.token)} (token {self.token}): {strongest}.")
        return (
            '<figure class="nbllm-attention-still" style="margin:8px 0;max-width:520px">'
            f'<img src="{png_url(np.rint(levels).astype(np.uint8))}" alt="Attention matrix of '
            f'{escape(recording.model)}, {head}" '
            'style="width:100%;max-width:400px;image-rendering:pixelated;border:1px solid #8888">'
            f'<figcaption style="font-size:90%">{" ".join(lines)}</figcaption></figure>'
        )

    def _quoted(self, token: int) -> str:
        """A token as HTML text, with a line break made visible."""
        return f"“{escape(self.recording.tokens[token].strip(' ').replace(chr(10), '⏎'))}”"


def inspect(model: Model | Recording, text: str | Prompt | None = None) -> AttentionView:
    """Show what a model looked at: `inspect(model, text)` or `inspect(recording)`.

    Opens at the head that puts the most weight, from the token that the answer is read
    from, on the user's text. Raises what `record` raises.

        nbllm.inspect(model, "The plot was thin, but I loved it.")
    """
    if isinstance(model, Recording):
        if text is not None:
            raise TypeError("A recording has its text already: call inspect(recording) alone.")
        return AttentionView(model)
    if text is None:
        raise TypeError("inspect(model, text) needs the text to look at.")
    return AttentionView(record(model, text))

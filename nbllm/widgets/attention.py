"""The attention viewer: all heads at a glance, one head as matrix, lines and painted words.

All that a reader sets in the browser is a synced trait, so Python reads what was clicked and
sets what is shown. What the browser asks for is answered in nbllm/widgets/questions.py.
"""

from __future__ import annotations

import operator
from threading import RLock
from typing import Any, TypeVar, cast

import numpy as np
import traitlets
from IPython.display import DisplayHandle, publish_display_data

from nbllm.attention.recording.capture import record
from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording
from nbllm.attention.views.colour_levels import Scale, levels
from nbllm.engine.prompt import Prompt
from nbllm.errors import ArgumentError, SelectionError
from nbllm.escaping import escape, visible
from nbllm.models.model import ModelLike
from nbllm.widgets.bundle import bundle
from nbllm.widgets.export import Export, drawing_of, on_screen
from nbllm.widgets.head_values import value_names
from nbllm.widgets.matrix_svg import picture_size, svg_url
from nbllm.widgets.opening import opening_answers, opening_side
from nbllm.widgets.questions import MEASURES, Questions
from nbllm.widgets.sheets import How, Sheet, Shown, shrunk
from nbllm.widgets.subshell import MISUNDERSTOOD, answer_beside_cells
from nbllm.widgets.view import View
from nbllm.wording import counted

__all__ = ["AttentionView", "inspect"]

STATIC_SIDE = 256  # cells of the picture that needs no kernel
STATIC_PIXELS = 460.0


_Get = TypeVar("_Get")
_Set = TypeVar("_Set")


class _Position(traitlets.Int[_Get, _Set]):
    """An integer, also as NumPy's argmax gives it."""

    def validate(self, obj: Any, value: Any) -> Any:
        if value is not None:
            try:
                value = operator.index(value)
            except TypeError:
                self.error(obj, value)
        return super().validate(obj, value)


class AttentionView(Export, View):
    """The attention of a recording, or of two beside each other, in the notebook.

    What is shown can be read and set from Python; setting a layer, head or token that the
    recording does not have raises SelectionError.

    - `layer`, `head`; `how`: "head", or "mean" or "max" over the heads of the layer
    - `token`, `key`: the query token and the key that are selected, or None
    - `window`: the queries and keys in the matrix, (start, stop, start, stop); None for all
    - `mask_sink`: the sink is left out, and the rest of each row made whole again
    - `words`: tokens are joined to words
    - `scale`: colours by the square root of a weight, "sqrt", or by its logarithm, "log"; full
      colour is the largest weight outside of the sink
    - `measure`: what the heads are sorted by, or None for their pictures; also a column of
      `measures`
    - `part`: the stack of an encoder-decoder: "encoder", "decoder" or "cross"
    - `side`: of two recordings "a", "b" or their "difference", b less a

        view = nbllm.inspect(model, "The plot was thin, but I loved it.")
        view.layer, view.head = 5, 2
        view.token            # what was clicked
    """

    _esm = bundle("attention.js")
    _css = bundle("attention.css")

    layer: _Position[int, int] = _Position().tag(sync=True)
    head: _Position[int, int] = _Position().tag(sync=True)
    how: traitlets.Enum[str] = traitlets.Enum(("head", "mean", "max"), "head").tag(sync=True)
    token: _Position[int | None, int | None] = _Position(None, allow_none=True).tag(sync=True)
    key: _Position[int | None, int | None] = _Position(None, allow_none=True).tag(sync=True)
    window: traitlets.Tuple = traitlets.Tuple(
        *(_Position() for _ in range(4)), default_value=None, allow_none=True
    ).tag(sync=True)
    mask_sink: traitlets.Bool[bool, bool | int] = traitlets.Bool(False).tag(sync=True)
    words: traitlets.Bool[bool, bool | int] = traitlets.Bool(False).tag(sync=True)
    measure: traitlets.Unicode[str | None, str | bytes | None] = traitlets.Unicode(
        None, allow_none=True
    ).tag(sync=True)
    # By part and name, a number that changes with the values: the browser asks for those.
    measured: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    part: traitlets.Unicode[str, str | bytes] = traitlets.Unicode().tag(sync=True)
    side: traitlets.Unicode[str, str | bytes] = traitlets.Unicode("a").tag(sync=True)
    scale: traitlets.Enum[str] = traitlets.Enum(("sqrt", "log"), "sqrt").tag(sync=True)
    # The first answers, while the view is being shown.
    _opening = traitlets.Any(None).tag(sync=True)

    def __init__(
        self,
        recording: Recording | EncoderDecoderRecording,
        other: Recording | EncoderDecoderRecording | None = None,
    ) -> None:
        self.questions: Questions = Questions(recording, other)
        # What is asked in a subshell waits for the picture that a cell is about to show.
        self._turn = RLock()
        part, side = self.questions.parts[-1], self.questions.sides[-1]
        opened = self.questions.recorded(part, side).overview
        sheet = self.questions.sheet(part, side)
        last = len(sheet.queries) - 1
        super().__init__(
            part=part,
            side=side,
            layer=_nearest(opened.layer, sheet.layer_numbers),
            head=min(opened.head, sheet.heads - 1),
            token=opened.token if other is None else last if sheet.causal else 0,
        )
        self.on_msg(self._answer)
        answer_beside_cells(self.comm)
        self.observe(self._fit, ["part", "side"])

    @property
    def recording(self) -> Recording:
        """The recording that is shown; of a difference, the first of the two."""
        return self.questions.recorded(self.part, self.side).recording

    @property
    def measures(self) -> Any:
        """More that the heads can be sorted by: a DataFrame of one row a head, or None.

        It has the columns layer and head; each other column of numbers can be chosen in the view
        or set as `measure`. Of an encoder-decoder it belongs to the `part` that is shown. Raises
        SelectionError for a table of another form or of another model.

            view.measures = nbllm.attention.induction_scores(model)
            view.measure = "induction"
        """
        return self.questions.tables.get(self.part)

    @measures.setter
    def measures(self, table: Any) -> None:
        part, sheet = self.part, self.sheet
        names = [] if table is None else value_names(table, sheet.layer_numbers, sheet.heads)
        self.questions.tables[part] = table
        version = 1 + max((0, *(max(named.values()) for named in self.measured.values() if named)))
        with self.hold_sync():
            self.measured = {
                **self.measured,
                part: dict.fromkeys(names, version),
            }
            self._fit_measure()

    @property
    def sheet(self) -> Sheet:
        """The weights that are shown: of `part` and `side`."""
        return self.questions.sheet(self.part, self.side)

    @property
    def shown(self) -> Shown:
        """Which of those weights: `layer`, `head`, `how` and `mask_sink`."""
        return Shown(self.layer, self.head, cast(How, self.how), self.mask_sink)

    def __repr__(self) -> str:
        return visible(
            f"AttentionView({self.recording.model}, {counted(len(self.sheet.queries), 'token')}, "
            f"layer={self.layer}, head={self.head}, token={self.token})"
        )

    @traitlets.validate("part", "side")
    def _check_sheet(self, proposal: Any) -> Any:
        place = {"part": self.part, "side": self.side, proposal["trait"].name: proposal["value"]}
        self.questions.sheet(**place)
        return proposal["value"]

    @traitlets.validate("layer", "head")
    def _check_head(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        sheet = self.sheet
        there = sheet.layer_numbers if name == "layer" else range(sheet.heads)
        if value not in there:
            self.recording.check(
                **{"layer": self.recording.layer_numbers[0], "head": 0, name: value}
            )
            raise SelectionError(f"{name} {value} is not in both recordings. Choose another.")
        return value

    @traitlets.validate("measure")
    def _check_measure(self, proposal: Any) -> Any:
        name, there = proposal["value"], (*MEASURES, *self.measured.get(self.part, ()))
        if name is not None and name not in there:
            raise SelectionError(
                f"There is no measure {name!r} here. Choose one of {', '.join(there)}, or give "
                "more as view.measures, a table with the columns layer, head and the measure."
            )
        return name

    @traitlets.validate("token", "key")
    def _check_token(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        row = self.sheet.queries if name == "token" else self.sheet.keys
        if value is not None and not 0 <= value < len(row):
            raise SelectionError(
                f"{name} {value} is not in this recording of {self.recording.model}, which has "
                f"{name}s 0 to {len(row) - 1}. Choose one of those."
            )
        return value

    @traitlets.validate("window")
    def _check_window(self, proposal: Any) -> Any:
        window = proposal["value"]
        if window is None:
            return None
        sheet = self.sheet
        for start, stop, row in (
            (*window[:2], sheet.queries),
            (*window[2:], sheet.keys),
        ):
            if not 0 <= start < stop <= len(row):
                raise SelectionError(
                    f"The window {tuple(window)} is not within the matrix of "
                    f"{counted(len(sheet.queries), 'query', 'queries')} × "
                    f"{counted(len(sheet.keys), 'key')}. Give (first query, end, first key, end), "
                    "or None for all."
                )
        return window

    def _fit(self, _: Any) -> None:
        """Another sheet may have fewer layers, heads and tokens."""
        sheet = self.sheet
        with self.hold_sync():
            self.layer = _nearest(self.layer, sheet.layer_numbers)
            self.head = min(self.head, sheet.heads - 1)
            for name, row in (("token", sheet.queries), ("key", sheet.keys)):
                if (getattr(self, name) or 0) >= len(row):
                    self.set_trait(name, None)
            try:
                self._check_window({"value": self.window})
            except SelectionError:
                self.set_trait("window", None)
            self._fit_measure()

    def _fit_measure(self) -> None:
        if self.measure not in (*MEASURES, *self.measured.get(self.part, ())):
            self.set_trait("measure", None)

    def _answer(self, _: Any, question: dict[str, Any], buffers: Any) -> None:
        together = question.get("questions") if isinstance(question, dict) else None
        if not isinstance(together, list):
            answer, numbers = self._answered(question)
            self.send(answer, buffers=numbers)
            return
        answers = [self._answered(each) for each in together]
        self.send(
            {"answers": [{**answer, "buffers": len(numbers)} for answer, numbers in answers]},
            buffers=[block for _, numbers in answers for block in numbers],
        )

    def _answered(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[memoryview]]:
        key = question.get("key") if isinstance(question, dict) else None
        try:
            with self._turn:
                answer, numbers = self.questions.answer(question)
        except MISUNDERSTOOD as error:
            return {"key": key, "error": f"{type(error).__name__}: {error}"}, []
        blocks = [] if numbers is None else [np.ascontiguousarray(numbers).data]
        return {"key": key, **answer}, blocks

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The live widget, and a picture for front ends that have no widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._still()}, metadata

    def _ipython_display_(self) -> None:
        """Show the widget and, above it, the picture, which the widget hides.

        As one output JupyterLab would take the widget alone, and a notebook opened without
        its kernel would say "model not found" in place of the picture. The picture comes last,
        into the place held for it, so that the browser opens the view while it is drawn.
        """
        if self.comm is None:  # closed: nothing would answer the browser
            publish_display_data({"text/plain": repr(self), "text/html": self._still()})  # type: ignore[no-untyped-call]
            return
        place = DisplayHandle()  # type: ignore[no-untyped-call]
        place.display({"text/html": ""}, raw=True)  # type: ignore[no-untyped-call]
        told = opening_answers(self.questions, on_screen(self), self.window)
        try:
            with self._turn:
                self._opening = next(told)
                publish_display_data(*super()._repr_mimebundle_())  # type: ignore[no-untyped-call, misc]
                for answers in told:
                    self._opening = answers
            place.update({"text/html": self._still()}, raw=True)  # type: ignore[no-untyped-call]
        finally:
            self._opening = None  # what was not told is asked, and so is all by a later view

    def _still(self) -> str:
        """The head that is shown, as HTML without script."""
        sheet, shown = self.sheet, self.shown
        rows, columns = range(len(sheet.queries)), range(len(sheet.keys))
        place = self.part, self.side
        size = opening_side(self.questions)
        weights, _, full = self.questions.drawn(*place, shown, rows, columns, size)
        small = shrunk(weights, STATIC_SIDE)
        shades = np.rint(255 * levels(small, full, cast(Scale, self.scale))).astype(np.uint8)
        drawing = drawing_of(self, shades, full, largest=STATIC_PIXELS, as_picture=True)
        head = f"layer {self.layer}, head {self.head}"
        if self.how != "head":
            head = f"layer {self.layer}, the {self.how} of its heads"
        kind = "square root" if self.scale == "sqrt" else "logarithm"
        lines = [
            f"<strong>{escape(self.recording.model)}</strong>: attention of {head} over "
            f"{counted(len(rows), 'token')}. A row is a token that looks, a column one that is "
            f"looked at; colour is the {kind} of the weight, full at the largest, {full:.3g}."
        ]
        if sheet.signed:
            lines.append("It shows by how much two recordings differ, over their common tokens.")
        elif sheet.sink is not None:
            share = sheet.sink_mass(shown, rows).mean()
            lines.append(
                f"{self._quoted(sheet.sink)} takes {share:.0%} of the weight"
                + (
                    " and is masked: the rest of each row is made whole again."
                    if self.mask_sink
                    else " and is left out of the colour scale."
                )
            )
        if self.token is not None:
            row = sheet.weights(shown, [self.token], columns)[0]
            strongest = ", ".join(
                f"{self._quoted(key)} {row[key]:.3g}"
                for key in np.argsort(-np.abs(row))[:6]
                if row[key]
            )
            query = escape(_visible(sheet.queries.tokens[self.token]))
            lines.append(f"From “{query}” (token {self.token}): {strongest}.")
        width, height = picture_size(drawing)
        # Its size as attributes too: where styles are stripped, a picture has no other.
        return (
            '<figure class="nbllm-attention-still" style="margin:8px 0;max-width:640px">'
            f'<img src="{svg_url(drawing)}" width="{width}" height="{height}" '
            f'alt="Attention matrix of {escape(self.recording.model)}, {head}" '
            'style="max-width:100%;height:auto;border:1px solid #8888">'
            f'<figcaption style="font-size:90%">{" ".join(lines)}</figcaption></figure>'
        )

    def _quoted(self, key: int) -> str:
        """A key as HTML text."""
        return f"“{escape(_visible(self.sheet.keys.tokens[key]))}”"


def _visible(token: str) -> str:
    return token.strip(" ").replace("\n", "⏎")


def _nearest(layer: int, numbers: tuple[int, ...]) -> int:
    return min(numbers, key=lambda number: abs(number - layer))


def inspect(
    model: ModelLike | Recording | EncoderDecoderRecording,
    text: str | Prompt | Recording | EncoderDecoderRecording | None = None,
    **options: Any,
) -> AttentionView:
    """Show what a model looked at: `inspect(model, text)` or `inspect(recording)`.

    Two recordings, `inspect(a, b)`, are shown beside each other and as their difference.
    Opens at the head that puts the most weight, from the token that the answer is read
    from, on the user's text, apart from the sink, that token and its neighbours. Options go to
    `record`: `layers`, `target`, `generate`. Raises what `record` raises, and
    UnsupportedModelError for two recordings that cannot be compared.
    As any widget, a view stays in the kernel's memory with its recording until `view.close()`.

        nbllm.inspect(model, "The plot was thin, but I loved it.")
        nbllm.inspect(record(model, "It was good."), record(model, "It was not good."))
    """
    recorded = (Recording, EncoderDecoderRecording)
    if isinstance(model, recorded):
        if options or not (text is None or isinstance(text, recorded)):
            raise ArgumentError(
                "a recording has its text already, and inspect was given more. Call "
                "inspect(recording) alone, or give a second recording to compare it with."
            )
        return AttentionView(model, text)
    if text is None or isinstance(text, recorded):
        raise ArgumentError("inspect(model, text) was given no text. Pass the one to look at.")
    return AttentionView(record(model, text, **options))

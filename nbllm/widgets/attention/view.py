"""The attention viewer: all heads at a glance, one head as matrix, lines and coloured words.

All that a reader sets in the browser is a synced trait, so Python reads what was clicked and
sets what is shown. nbllm/widgets/attention/handler.py answers the browser's requests.
"""

from __future__ import annotations

import operator
from threading import RLock
from typing import Any, TypeVar, cast, get_args

import numpy as np
import traitlets
from IPython.display import DisplayHandle, publish_display_data

from nbllm._deprecation import warn_renamed
from nbllm.attention.recording.capture import record
from nbllm.attention.recording.recording import EncoderDecoderRecording, Recording
from nbllm.engine.prompt import Prompt
from nbllm.errors import ArgumentError, SelectionError
from nbllm.escaping import visible
from nbllm.models.model import ModelLike
from nbllm.widgets.attention.export import Export, on_screen
from nbllm.widgets.attention.handler import MEASURES, RequestHandler
from nbllm.widgets.attention.head_values import value_names
from nbllm.widgets.attention.initial_answers import initial_answers
from nbllm.widgets.attention.sources import AttentionSource, Selection
from nbllm.widgets.attention.static_html import static_html
from nbllm.widgets.bundle import bundle
from nbllm.widgets.protocol.attention import Comparand, Reduce, Scale
from nbllm.widgets.requests import Reply, answer_requests
from nbllm.widgets.subshell import answer_beside_cells
from nbllm.widgets.view import View
from nbllm.wording import counted

__all__ = ["AttentionView", "inspect"]


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


class _Renamed:
    """An earlier name of a trait, which works for one release more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set_name__(self, owner: type, earlier: str) -> None:
        self._names = f"view.{earlier}", f"view.{self._name}"

    def __get__(self, view: AttentionView | None, owner: type) -> Any:
        if view is None:
            return self
        warn_renamed(*self._names)
        return getattr(view, self._name)

    def __set__(self, view: AttentionView, value: Any) -> None:
        warn_renamed(*self._names)
        setattr(view, self._name, value)


class AttentionView(Export, View):
    """The attention of a recording, or of two beside each other, in the notebook.

    What is shown can be read and set from Python; setting a layer, head or token that the
    recording does not have raises SelectionError.

    - `layer`, `head`; `reduce`: "head", or "mean" or "max" over the heads of the layer
    - `token`, `key`: the query token and the key that are selected, or None
    - `window`: the queries and keys in the matrix, (start, stop, start, stop); None for all
    - `mask_sink`: the sink is left out, and the rest of each row made whole again
    - `words`: tokens are joined to words
    - `scale`: colours by the square root of a weight, "sqrt", or by its logarithm, "log"; full
      colour is the largest weight outside of the sink
    - `measure`: what the heads are sorted by, or None for their pictures; also a column of
      `measures`
    - `stack`: the stack of an encoder-decoder: "encoder", "decoder" or "cross"
    - `comparand`: of two recordings "a", "b" or their "difference", b less a

        view = nbllm.inspect(model, "The plot was thin, but I loved it.")
        view.layer, view.head = 5, 2
        view.token            # what was clicked
    """

    _esm = bundle("attention.js")
    _css = bundle("attention.css")

    layer: _Position[int, int] = _Position().tag(sync=True)
    head: _Position[int, int] = _Position().tag(sync=True)
    reduce: traitlets.Enum[str] = traitlets.Enum(get_args(Reduce), "head").tag(sync=True)
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
    # By stack and name, a number that changes with the values, which the browser requests.
    measured: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    stack: traitlets.Unicode[str, str | bytes] = traitlets.Unicode().tag(sync=True)
    comparand: traitlets.Unicode[str, str | bytes] = traitlets.Unicode("a").tag(sync=True)
    scale: traitlets.Enum[str] = traitlets.Enum(get_args(Scale), "sqrt").tag(sync=True)
    how: _Renamed = _Renamed("reduce")
    part: _Renamed = _Renamed("stack")
    side: _Renamed = _Renamed("comparand")
    # While the view is being displayed.
    _initial_answers = traitlets.Any(None).tag(sync=True)

    def __init__(
        self,
        recording: Recording | EncoderDecoderRecording,
        other: Recording | EncoderDecoderRecording | None = None,
    ) -> None:
        self.handler: RequestHandler = RequestHandler(recording, other)
        # A request in a subshell waits for the picture that a cell is about to show.
        self._lock = RLock()
        stack, comparand = self.handler.stacks[-1], self.handler.comparands[-1]
        opened = self.handler.recorded(stack, comparand).overview
        source = self.handler.source(stack, comparand)
        last = len(source.queries) - 1
        super().__init__(
            stack=stack,
            comparand=comparand,
            layer=_nearest(opened.layer, source.layer_numbers),
            head=min(opened.head, source.heads - 1),
            token=opened.token if other is None else last if source.causal else 0,
        )
        answer_requests(self, self._answer)
        answer_beside_cells(self.comm)
        self.observe(self._fit, ["stack", "comparand"])

    @property
    def recording(self) -> Recording:
        """The recording that is shown; of a difference, the first of the two."""
        return self.handler.recorded(self.stack, cast(Comparand, self.comparand)).recording

    @property
    def measures(self) -> Any:
        """More that the heads can be sorted by: a DataFrame of one row a head, or None.

        It has the columns layer and head; each other column of numbers can be chosen in the view
        or set as `measure`. Of an encoder-decoder it belongs to the `stack` that is shown. Raises
        SelectionError for a table of another form or of another model.

            view.measures = nbllm.attention.induction_scores(model)
            view.measure = "induction"
        """
        return self.handler.tables.get(self.stack)

    @measures.setter
    def measures(self, table: Any) -> None:
        stack, source = self.stack, self.source
        names = [] if table is None else value_names(table, source.layer_numbers, source.heads)
        self.handler.tables[stack] = table
        version = 1 + max((0, *(max(named.values()) for named in self.measured.values() if named)))
        with self.hold_sync():
            self.measured = {**self.measured, stack: dict.fromkeys(names, version)}
            self._fit_measure()

    @property
    def source(self) -> AttentionSource:
        """The weights that are shown: of `stack` and `comparand`."""
        return self.handler.source(self.stack, cast(Comparand, self.comparand))

    @property
    def selection(self) -> Selection:
        """The selection among those weights: `layer`, `head`, `reduce` and `mask_sink`."""
        return Selection(self.layer, self.head, cast(Reduce, self.reduce), self.mask_sink)

    def __repr__(self) -> str:
        return visible(
            f"AttentionView({self.recording.model}, {counted(len(self.source.queries), 'token')}, "
            f"layer={self.layer}, head={self.head}, token={self.token})"
        )

    @traitlets.validate("stack", "comparand")
    def _check_source(self, proposal: Any) -> Any:
        place = {
            "stack": self.stack,
            "comparand": self.comparand,
            proposal["trait"].name: proposal["value"],
        }
        self.handler.source(**place)
        return proposal["value"]

    @traitlets.validate("layer", "head")
    def _check_head(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        source = self.source
        there = source.layer_numbers if name == "layer" else range(source.heads)
        if value not in there:
            self.recording.check(
                **{"layer": self.recording.layer_numbers[0], "head": 0, name: value}
            )
            raise SelectionError(f"{name} {value} is not in both recordings. Choose another.")
        return value

    @traitlets.validate("measure")
    def _check_measure(self, proposal: Any) -> Any:
        name, there = proposal["value"], (*MEASURES, *self.measured.get(self.stack, ()))
        if name is not None and name not in there:
            raise SelectionError(
                f"There is no measure {name!r} here. Choose one of {', '.join(there)}, or give "
                "more as view.measures, a table with the columns layer, head and the measure."
            )
        return name

    @traitlets.validate("token", "key")
    def _check_token(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        row = self.source.queries if name == "token" else self.source.keys
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
        source = self.source
        for start, stop, row in (
            (*window[:2], source.queries),
            (*window[2:], source.keys),
        ):
            if not 0 <= start < stop <= len(row):
                raise SelectionError(
                    f"The window {tuple(window)} is not within the matrix of "
                    f"{counted(len(source.queries), 'query', 'queries')} × "
                    f"{counted(len(source.keys), 'key')}. Give (first query, end, first key, end), "
                    "or None for all."
                )
        return window

    def _fit(self, _: Any) -> None:
        """Another source may have fewer layers, heads and tokens."""
        source = self.source
        with self.hold_sync():
            self.layer = _nearest(self.layer, source.layer_numbers)
            self.head = min(self.head, source.heads - 1)
            for name, row in (("token", source.queries), ("key", source.keys)):
                if (getattr(self, name) or 0) >= len(row):
                    self.set_trait(name, None)
            try:
                self._check_window({"value": self.window})
            except SelectionError:
                self.set_trait("window", None)
            self._fit_measure()

    def _fit_measure(self) -> None:
        if self.measure not in (*MEASURES, *self.measured.get(self.stack, ())):
            self.set_trait("measure", None)

    def _answer(self, request: Any) -> Reply:
        with self._lock:
            content, numbers = self.handler.answer(request)
        return content, [] if numbers is None else [np.ascontiguousarray(numbers).data]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The live widget, and a picture for front ends that have no widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._static_html()}, metadata

    def _ipython_display_(self) -> None:
        """Show the widget and, above it, the picture, which the widget hides.

        As one output JupyterLab would take the widget alone, and a notebook opened without
        its kernel would say "model not found" in place of the picture. The picture comes last,
        into the place held for it, so that the browser opens the view while it is drawn.
        """
        if self.comm is None:  # closed: nothing would answer the browser
            publish_display_data({"text/plain": repr(self), "text/html": self._static_html()})  # type: ignore[no-untyped-call]
            return
        place = DisplayHandle()  # type: ignore[no-untyped-call]
        place.display({"text/html": ""}, raw=True)  # type: ignore[no-untyped-call]
        initial = initial_answers(self.handler, on_screen(self), self.window)
        try:
            with self._lock:
                self._initial_answers = next(initial)
                publish_display_data(*super()._repr_mimebundle_())  # type: ignore[no-untyped-call, misc]
                for answers in initial:
                    self._initial_answers = answers
            place.update({"text/html": self._static_html()}, raw=True)  # type: ignore[no-untyped-call]
        finally:
            # The browser requests what has not come; a view that opens later requests all.
            self._initial_answers = None

    def _static_html(self) -> str:
        """Return the head that is shown, as HTML without script."""
        return static_html(self)


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

"""The attention viewer: thumbnails of all heads, one head as matrix, lines and coloured words.

The settings are synced traits, so that Python can read and set them.
nbllm/widgets/attention/handler.py answers the browser's requests.
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
from nbllm.widgets.attention.export import Export, matrices_on_screen
from nbllm.widgets.attention.handler import MEASURES, RequestHandler
from nbllm.widgets.attention.head_values import value_names
from nbllm.widgets.attention.initial_answers import initial_answers
from nbllm.widgets.attention.sources import AttentionSource, Selection
from nbllm.widgets.attention.static_html import static_html
from nbllm.widgets.bundle import bundle
from nbllm.widgets.protocol.attention import Comparand, Reduce, Scale
from nbllm.widgets.requests import Reply, answer_requests
from nbllm.widgets.subshell import answer_while_busy
from nbllm.widgets.view import View
from nbllm.wording import counted

__all__ = ["AttentionView", "inspect"]


_Get = TypeVar("_Get")
_Set = TypeVar("_Set")


class _Position(traitlets.Int[_Get, _Set]):
    """An integer trait that accepts NumPy's integers."""

    def validate(self, obj: Any, value: Any) -> Any:
        if value is not None:
            try:
                value = operator.index(value)
            except TypeError:
                self.error(obj, value)
        return super().validate(obj, value)


class _Renamed:
    """A deprecated name of a trait, to be removed in the next release."""

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
    """A notebook view of the attention of a recording, or of two side by side.

    Its settings can be read and set from Python; a layer, head or token that the recording does
    not have raises SelectionError.

    - `layer`, `head`; `reduce`: "head", or "mean" or "max" over the heads of the layer
    - `token`, `key`: the selected query token and key, or None
    - `window`: the queries and keys in the matrix, (start, stop, start, stop); None for all
    - `mask_sink`: whether the sink is masked and each row renormalized
    - `words`: whether tokens are joined to words
    - `scale`: "sqrt" or "log": colours by the square root or the logarithm of a weight; full
      colour is the largest weight, without the sink
    - `measure`: the measure, also a column of `measures`, that sorts the heads; None for
      thumbnails
    - `stack`: the stack of an encoder-decoder: "encoder", "decoder" or "cross"
    - `comparand`: one of two recordings, "a" or "b", or their "difference", b less a

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
    # Versions of the measures set from Python, by stack and name; the browser requests the values.
    measured: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    stack: traitlets.Unicode[str, str | bytes] = traitlets.Unicode().tag(sync=True)
    comparand: traitlets.Unicode[str, str | bytes] = traitlets.Unicode("a").tag(sync=True)
    scale: traitlets.Enum[str] = traitlets.Enum(get_args(Scale), "sqrt").tag(sync=True)
    how: _Renamed = _Renamed("reduce")
    part: _Renamed = _Renamed("stack")
    side: _Renamed = _Renamed("comparand")
    # Only while the view is being displayed.
    _initial_answers = traitlets.Any(None).tag(sync=True)

    def __init__(
        self,
        recording: Recording | EncoderDecoderRecording,
        other: Recording | EncoderDecoderRecording | None = None,
    ) -> None:
        self.handler: RequestHandler = RequestHandler(recording, other)
        # A request in a subshell waits for the picture that a cell is computing.
        self._lock = RLock()
        stack, comparand = self.handler.stacks[-1], self.handler.comparands[-1]
        initial = self.handler.recording_source(stack, comparand).overview
        source = self.handler.source(stack, comparand)
        last = len(source.queries) - 1
        super().__init__(
            stack=stack,
            comparand=comparand,
            layer=_nearest(initial.layer, source.layer_numbers),
            head=min(initial.head, source.heads - 1),
            token=initial.token if other is None else last if source.causal else 0,
        )
        answer_requests(self, self._answer)
        answer_while_busy(self.comm)
        self.observe(self._fit, ["stack", "comparand"])

    @property
    def recording(self) -> Recording:
        """The recording that is shown; for a difference, the first one."""
        return self.handler.recording_source(self.stack, cast(Comparand, self.comparand)).recording

    @property
    def measures(self) -> Any:
        """Further measures to sort the heads by: a DataFrame with one row per head, or None.

        It has the columns layer and head; each further numeric column can be selected in the view
        or set as `measure`. For an encoder-decoder it belongs to the current `stack`. A table of
        another form or of another model raises SelectionError.

        Example:
            view.measures = nbllm.attention.induction_scores(model)
            view.measure = "induction"
        """
        return self.handler.measure_tables.get(self.stack)

    @measures.setter
    def measures(self, table: Any) -> None:
        stack, source = self.stack, self.source
        names = [] if table is None else value_names(table, source.layer_numbers, source.heads)
        self.handler.measure_tables[stack] = table
        versions = [version for named in self.measured.values() for version in named.values()]
        version = max(versions, default=0) + 1
        with self.hold_sync():
            self.measured = {**self.measured, stack: dict.fromkeys(names, version)}
            self._fit_measure()

    @property
    def source(self) -> AttentionSource:
        """The source of the weights on screen: `stack` and `comparand`."""
        return self.handler.source(self.stack, cast(Comparand, self.comparand))

    @property
    def selection(self) -> Selection:
        """The weights on screen: `layer`, `head`, `reduce` and `mask_sink`."""
        return Selection(self.layer, self.head, cast(Reduce, self.reduce), self.mask_sink)

    def __repr__(self) -> str:
        return visible(
            f"AttentionView({self.recording.model}, {counted(len(self.source.queries), 'token')}, "
            f"layer={self.layer}, head={self.head}, token={self.token})"
        )

    @traitlets.validate("stack", "comparand")
    def _check_source(self, proposal: Any) -> Any:
        names = {
            "stack": self.stack,
            "comparand": self.comparand,
            proposal["trait"].name: proposal["value"],
        }
        self.handler.source(**names)
        return proposal["value"]

    @traitlets.validate("layer", "head")
    def _check_head(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        source = self.source
        choices = source.layer_numbers if name == "layer" else range(source.heads)
        if value not in choices:
            self.recording.check(
                **{"layer": self.recording.layer_numbers[0], "head": 0, name: value}
            )
            raise SelectionError(f"{name} {value} is not in both recordings. Choose another.")
        return value

    @traitlets.validate("measure")
    def _check_measure(self, proposal: Any) -> Any:
        name, choices = proposal["value"], (*MEASURES, *self.measured.get(self.stack, ()))
        if name is not None and name not in choices:
            raise SelectionError(
                f"There is no measure {name!r} here. Choose one of {', '.join(choices)}, or give "
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
        """Limit the settings to a source that has fewer layers, heads and tokens."""
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
        """Return the widget, and a picture for front ends without widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._static_html()}, metadata

    def _ipython_display_(self) -> None:
        """Show the widget and, in a separate output above it, a picture, which the widget hides.

        In a single output JupyterLab would ignore the picture, and a notebook opened without its
        kernel would show "model not found". The picture is added last, so that the browser opens
        the view while it is computed.
        """
        if self.comm is None:  # a closed widget cannot answer the browser
            publish_display_data({"text/plain": repr(self), "text/html": self._static_html()})  # type: ignore[no-untyped-call]
            return
        output = DisplayHandle()  # type: ignore[no-untyped-call]
        output.display({"text/html": ""}, raw=True)  # type: ignore[no-untyped-call]
        initial = initial_answers(self.handler, matrices_on_screen(self), self.window)
        try:
            with self._lock:
                self._initial_answers = next(initial)
                publish_display_data(*super()._repr_mimebundle_())  # type: ignore[no-untyped-call, misc]
                for answers in initial:
                    self._initial_answers = answers
            output.update({"text/html": self._static_html()}, raw=True)  # type: ignore[no-untyped-call]
        finally:
            # The browser then requests missing answers; a view that opens later requests all.
            self._initial_answers = None

    def _static_html(self) -> str:
        """Return the selected head as HTML without script."""
        return static_html(self)


def _nearest(layer: int, numbers: tuple[int, ...]) -> int:
    return min(numbers, key=lambda number: abs(number - layer))


def inspect(
    model: ModelLike | Recording | EncoderDecoderRecording,
    text: str | Prompt | Recording | EncoderDecoderRecording | None = None,
    **options: Any,
) -> AttentionView:
    """Return a view of a model's attention: `inspect(model, text)` or `inspect(recording)`.

    Two recordings, `inspect(a, b)`, are shown side by side and as their difference. The view opens
    at the head with the most weight from the token that the answer is read at on the user's text,
    without the sink, that token and its neighbours. Like any widget, it stays in the kernel's
    memory with its recording until `view.close()`. It raises the errors of `record`.

    Args:
        model: The model, its name, or a recording.
        text: The text or prompt or, with a recording, a second recording to compare.
        options: Options of `record`: `layers`, `target`, `generate`.

    Raises:
        ArgumentError: The arguments are neither a model with a text nor recordings alone.
        UnsupportedModelError: The recordings cannot be compared.

    Example:
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

"""The results explorer: the answered rows as a table, with charts that filter it.

What a reader sets in the browser is a synced trait, so Python reads and sets it. The rows on
screen, the counts of the charts and the code that draws them are asked for by message, each
with the whole query in it, and answered by what came of it:

    {"kind": "rows", "query": {...}, "start", "stop"}   the window, and how many rows match
    {"kind": "counts", "query": {...}}                  for the charts
    {"kind": "numbers", "query": {...}, "start", "stop"}   the rows there, as int32
    {"kind": "place", "query": {...}, "row"}            where the row stands in the query
    {"kind": "row", "row"}                              one row in full
    {"kind": "plotly"}                                  plotly.js, compressed; once a page

and two that do something: {"kind": "correct", "row", "label"} and {"kind": "explain", "row"}.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets
import narwhals as nw
import numpy as np
import traitlets
from IPython.display import publish_display_data

from nbllm.errors import LabelError, NbllmError, SelectionError
from nbllm.escaping import visible
from nbllm.frame.evaluation.calibration import corrected
from nbllm.frame.new_columns import new_series
from nbllm.widgets.bundle import bundle
from nbllm.widgets.explanation import Explanation
from nbllm.widgets.explorer.answers import Answers
from nbllm.widgets.explorer.query import ONLY, Query
from nbllm.widgets.explorer.still import still
from nbllm.widgets.explorer.why import Why
from nbllm.widgets.subshell import MISUNDERSTOOD, answer_beside_cells
from nbllm.widgets.view import View, close_tree
from nbllm.wording import counted

__all__ = ["Explorer"]

_OPENING = 40  # rows that come with the widget, on screen before the kernel is asked
_LARGEST_WINDOW = 1000
_QUERY = ("text", "labels", "truths", "score", "only", "sort", "descending")


class Explorer(View):
    """A frame that a verb answered, to sort, filter, correct and open. Made by `df.llm.explore`.

    What is shown can be read and set from Python; what these rows do not have raises
    SelectionError. As any widget it stays in the kernel's memory, with the frame and the recording
    of the row that was opened last, until `view.close()`.

    - `text`: only rows that hold it
    - `labels`, `truths`: only rows with one of these answers, or of these right answers
    - `score`: only rows whose score is in (from, to); None for all
    - `only`: "failed", "unasked", "corrected" or "wrong" rows; None for all
    - `sort`, `descending`: the column that rows are sorted by; None for the frame's order
    - `selected`: the index labels (positions in polars) of the rows that are selected
    - `filtered`: the rows that the filter leaves, as a frame, in the order shown
    - `corrections`: the rows that were given another label, for `calibrate` and `corrected`
    - `examples`: their texts and labels, to show a model or to train on
    - `explanation`: of the row that was opened last

        view = answered.llm.explore(truth="label")
        view.only, view.sort = "wrong", "review_sentiment_score"
        calibrated = answered.llm.calibrate(view.corrections)
    """

    _esm = bundle("explorer.js")
    _css = bundle("explorer.css")

    text: traitlets.Unicode[str, str | bytes] = traitlets.Unicode().tag(sync=True)
    labels: traitlets.List[str] = traitlets.List(traitlets.Unicode()).tag(sync=True)
    truths: traitlets.List[str] = traitlets.List(traitlets.Unicode()).tag(sync=True)
    score: traitlets.Tuple = traitlets.Tuple(
        traitlets.Float(), traitlets.Float(), default_value=None, allow_none=True
    ).tag(sync=True)
    only: traitlets.Enum[str | None] = traitlets.Enum(ONLY, None, allow_none=True).tag(sync=True)
    sort: traitlets.Unicode[str | None, str | bytes | None] = traitlets.Unicode(
        None, allow_none=True
    ).tag(sync=True)
    descending: traitlets.Bool[bool, bool | int] = traitlets.Bool(False).tag(sync=True)
    # Positions of those selected.
    rows: traitlets.List[int] = traitlets.List(traitlets.Int()).tag(sync=True)
    edits: traitlets.Int[int, int] = traitlets.Int(0).tag(sync=True)  # rises with each correction
    outline: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    opening: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        frame: Any,
        output: str,
        *,
        truth: Any = None,
        explain: Callable[[int], Explanation],
    ) -> None:
        """Explore the answers in a column.

        Args:
            frame: a pandas or polars DataFrame that has the `_run` column of the answers.
            output: the column of the answers.
            truth: the right ones: a column, a Series with the frame's index, or one value a row.
            explain: from the position of a row to its explanation.
        """
        self.answers: Answers = Answers(frame, output, truth)
        self._matching = lru_cache(8)(self._match)
        self._warmed = False
        super().__init__(outline=self._outline(), opening=self._window(Query(), 0, _OPENING))
        self.why: Why = Why(explain, self._called)
        self._whole = ipywidgets.VBox([self, self.why.box])
        self.on_msg(self._answer)
        answer_beside_cells(self.comm)

    # What Python reads and sets

    @property
    def query(self) -> Query:
        """The filter and the sort, as they are set."""
        return Query.read({name: getattr(self, name) for name in _QUERY})

    @property
    def frame(self) -> Any:
        """The frame that is explored."""
        return self.answers.frame

    @property
    def filtered(self) -> Any:
        """The rows that the filter leaves, in the order shown, under their own index."""
        return self._taken(self._rows(self.query))

    @property
    def selected(self) -> list[Any]:
        """The index labels (positions in polars) of the selected rows."""
        return [self.answers.index[row] for row in self.rows]

    @selected.setter
    def selected(self, labels: Iterable[Any]) -> None:
        try:
            self.rows = [self.answers.positions.of(label) for label in labels]
        except NbllmError as error:
            raise SelectionError(f"This cannot be selected: {error}") from error

    @property
    def explanation(self) -> Explanation | None:
        """Of the row that was opened last, until another is; None where that failed."""
        return self.why.explanation

    @property
    def corrections(self) -> Any:
        """The corrected rows: index label (position in polars), label, answer and the texts.

        Its first two columns are what `calibrate` and `corrected` take.
        """
        rows = sorted(self.answers.corrections)
        texts = [column for column in self.answers.texts if column.name in self._asked]
        columns: dict[str, Sequence[str | None]] = {
            "label": [self.answers.corrections[row] for row in rows],
            "answer": self.answers.columns[self.answers.output].cells(rows, None),
            **{column.name: column.cells(rows, None) for column in texts},
        }
        first = next(name for name in ("row", "index", "position") if name not in columns)
        return self._new_frame(first, [self.answers.index[row] for row in rows], columns)

    @property
    def examples(self) -> Any:
        """The corrected rows' texts and labels, as `df.llm.corrected` gives them.

        Raises:
            FrameError: the answers are not one label a row, or come from several runs.
        """
        return corrected(self.frame, self.corrections, self.answers.output)

    def correct(self, label: Any, to: str | None) -> None:
        """Give a row another label; None takes a correction back.

        Args:
            label: of the row, in the index (position in polars).
            to: one of the run's labels.

        Raises:
            FrameError: no such row, or several.
            LabelError: it is none of the labels.
        """
        self._correct(self.answers.positions.of(label), to)

    def explain(self, label: Any) -> Explanation:
        """Show below the table why a row got its answer, as Enter does.

        Args:
            label: of the row, in the index (position in polars).

        Raises what `df.llm.explain` raises.
        """
        return self.why.open(self.answers.positions.of(label))

    def close(self) -> None:
        """Close the table and what stands below it, and stop what is computed for them."""
        if self.comm is None:
            return
        super().close()
        self.why.close()
        close_tree(self._whole)

    def __repr__(self) -> str:
        return visible(f"Explorer({self.answers.output}, {counted(len(self.answers), 'row')})")

    # What the browser asks

    def _answer(self, _: Any, question: dict[str, Any], buffers: Any) -> None:
        key = question.get("key") if isinstance(question, dict) else None
        try:
            answer, sent = self._reply(question)
        except MISUNDERSTOOD as error:
            self.send({"key": key, "error": f"{type(error).__name__}: {error}"})
        else:
            self.send({"key": key, **answer}, buffers=sent)

    def _reply(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        kind = question["kind"]
        if kind == "plotly":
            return {}, [_plotly()]
        if kind in ("rows", "numbers", "counts", "place"):
            query = Query.read(question["query"])
            self.answers.check(query)
            if kind == "rows":
                window = self._window(query, int(question["start"]), int(question["stop"]))
                # As a buffer, which the browser forgets when it has too many.
                return {}, [json.dumps(window, ensure_ascii=False).encode()]
            if kind == "numbers":
                found = self._rows(query)[int(question["start"]) : int(question["stop"])]
                return {}, [found.astype("<i4").tobytes()]
            if kind == "counts":
                self._warm()
                return self.answers.counts(query), []
            found = np.flatnonzero(self._rows(query) == int(question["row"]))
            return {"place": int(found[0]) if len(found) else None}, []
        row = int(question["row"])
        if not 0 <= row < len(self.answers):
            raise SelectionError(f"there is no row {row} among {len(self.answers)}.")
        if kind == "row":
            return self.answers.whole(row), []
        if kind == "correct":
            self._correct(row, question["label"])
            return {}, []
        if kind == "explain":
            self.why.start(row)
            return {}, []
        raise ValueError(f"nothing answers {kind!r}")

    def _warm(self) -> None:
        """Rank what rows are sorted by, once the first rows are on screen."""
        if not self._warmed:
            self._warmed = True
            self.why.beside(self.answers.warm)

    def _window(self, query: Query, start: int, stop: int) -> dict[str, Any]:
        rows = self._rows(query)
        stop = min(stop, start + _LARGEST_WINDOW)
        shown = self.answers.window(rows[max(start, 0) : stop].tolist())
        return {"start": start, "total": len(rows), **shown}

    def _rows(self, query: Query) -> np.ndarray[Any, np.dtype[np.intp]]:
        return self._matching(query, self.edits if query.only == "corrected" else 0)

    def _match(self, query: Query, edits: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        return self.answers.matching(query)

    def _outline(self) -> dict[str, Any]:
        answers = self.answers
        return {
            "output": answers.output,
            "verb": answers.verb,
            "size": len(answers),
            "index": answers.index_name,
            "columns": [
                {
                    "name": name,
                    "role": answers.roles[name],
                    "number": answers.columns[name].is_number,
                }
                for name in answers.shown_columns
            ],
            "hidden": len(answers.roles) - len(answers.shown_columns),
            "labels": list(answers.labels),
            "choices": list(answers.choices),
            "truths": list(answers.true_labels),
            "truth": None if answers.truth is None else answers.truth.name,
            "scored": answers.score is not None,
            "failed": int(answers.failed.sum()),
            "unasked": int(answers.unasked.sum()),
            "wrong": int(answers.wrong.sum()),
        }

    # Corrections

    @property
    def _asked(self) -> list[str]:
        return [name for record in self.answers.records for name in record["columns"].values()]

    def _correct(self, row: int, label: str | None) -> None:
        if label is None:
            self.answers.corrections.pop(row, None)
        elif label not in self.answers.choices:
            there = ", ".join(self.answers.choices) or "there are none, as it wrote its answers"
            raise LabelError(f"{label!r} is none of the labels of the run: {there}.")
        else:
            self.answers.corrections[row] = label
        self.edits += 1

    def _called(self, row: int) -> str:
        """The row and its answer, as a heading."""
        answer = self.answers.answer(row)
        given = f": {answer[:80]}" if isinstance(answer, str) else ""
        return f"Row {self.answers.named(row)}{given}"

    # Frames

    def _taken(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Any:
        found = nw.from_native(self.frame, eager_only=True)[list(map(int, rows))].to_native()
        if hasattr(found, "attrs"):
            found.attrs = dict(self.frame.attrs)
        return found

    def _new_frame(
        self, first: str, index: list[Any], columns: Mapping[str, Sequence[str | None]]
    ) -> Any:
        """A frame of index labels, of any type in pandas, and columns of text."""
        backend = nw.from_native(self.frame, eager_only=True).implementation
        made = {
            name: new_series(name, values, nw.String, backend) for name, values in columns.items()
        }
        if not backend.is_pandas():
            made = {first: new_series(first, index, nw.Int64, backend), **made}
            return nw.DataFrame.from_dict(made, backend=backend).to_native()
        import pandas

        labels = pandas.Series(index, dtype=object).infer_objects()  # tuples, where it has levels
        return pandas.DataFrame({first: labels, **{k: v.to_native() for k, v in made.items()}})

    # Checks and display

    @traitlets.validate("labels", "truths", "score", "only", "sort")
    def _check(self, proposal: Any) -> Any:
        self.answers.check(Query.read({proposal["trait"].name: proposal["value"]}))
        return proposal["value"]

    @traitlets.validate("rows")
    def _check_rows(self, proposal: Any) -> Any:
        for row in proposal["value"]:
            if not 0 <= row < len(self.answers):
                raise SelectionError(f"there is no row {row} among {len(self.answers):,}.")
        return proposal["value"]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The live widget, and the first rows for front ends that have no widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._still()}, metadata

    def _still(self) -> str:
        """The first rows of the filter and the sort that are set."""
        return still(self.answers, self.query, self._rows(self.query).tolist())

    def _ipython_display_(self) -> None:
        """Show the first rows and, after them, the widget, which hides them.

        As one output JupyterLab would take the widget alone, and a notebook opened without
        its kernel would show nothing.
        """
        publish_display_data({"text/plain": repr(self), "text/html": self._still()})  # type: ignore[no-untyped-call]
        if self.comm is not None:  # where it is closed, nothing would answer the browser
            publish_display_data(self._whole._repr_mimebundle_())  # type: ignore[no-untyped-call]


@lru_cache(1)
def _plotly() -> bytes:
    """plotly.js as the plotly package ships it, compressed.

    plotly's own FigureWidget would put 5 MB into the state of each chart.
    """
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise NbllmError("The charts are drawn by plotly, which is not here: pip install plotly.")
    script = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 5)

"""The results explorer: the answered rows as a table, with charts that filter it.

The settings are synced traits, so that Python can read and set them. The rows on screen, the counts
of the charts and the code that draws them are requested by messages that contain the whole query;
see nbllm/widgets/protocol/.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

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
from nbllm.widgets.explorer.explanation_panel import ExplanationPanel
from nbllm.widgets.explorer.filtering import chart_counts, check_query, matching_rows
from nbllm.widgets.explorer.query import Query
from nbllm.widgets.explorer.rows import (
    index_name,
    row_details,
    row_name,
    row_window,
    shown_columns,
)
from nbllm.widgets.explorer.static_html import static_html
from nbllm.widgets.protocol.envelope import NoContent
from nbllm.widgets.protocol.explorer import (
    ExplorerOutline,
    OutlineColumn,
    Place,
    RowStatus,
    RowWindow,
)
from nbllm.widgets.requests import Reply, answer_requests
from nbllm.widgets.subshell import answer_while_busy
from nbllm.widgets.view import View, close_tree
from nbllm.wording import counted

__all__ = ["Explorer"]

_INITIAL_ROWS = 40  # sent with the widget, and so shown without a request
_LARGEST_WINDOW = 1000
_QUERY = ("text", "labels", "truths", "score", "only", "sort", "descending")


class Explorer(View):
    """A view of an answered frame, to sort, filter, correct and explain; see `df.llm.explore`.

    Its settings can be read and set from Python; values that the rows do not have raise
    SelectionError. Like any widget, it stays in the kernel's memory, with the frame and the
    recording of the row explained last, until `view.close()`.

    - `text`: only rows that contain it
    - `labels`, `truths`: only rows with one of these answers, or right answers
    - `score`: only rows whose score is in (from, to); None for all
    - `only`: "failed", "unasked", "corrected" or "wrong" rows; None for all
    - `sort`, `descending`: the column to sort by, None for the frame's order; its direction
    - `selected`: the index labels (positions in polars) of the selected rows
    - `filtered`: the matching rows as a frame, in the order shown
    - `corrections`: the corrected rows, for `calibrate` and `corrected`
    - `examples`: texts and labels of the corrected rows, for prompts or training
    - `explanation`: the explanation of the row opened last

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
    only = traitlets.Enum(get_args(RowStatus), None, allow_none=True).tag(sync=True)
    sort = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    descending = traitlets.Bool(False).tag(sync=True)
    rows = traitlets.List(traitlets.Int()).tag(sync=True)  # positions of the selected rows
    edits = traitlets.Int(0).tag(sync=True)  # rises with each correction
    outline = traitlets.Dict().tag(sync=True)
    initial_rows = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        frame: Any,
        output: str,
        *,
        truth: Any = None,
        explain: Callable[[int], Explanation],
    ) -> None:
        """Create a view of the answers in a column.

        Args:
            frame: A pandas or polars DataFrame with the `_run` column of the answers.
            output: The column of the answers.
            truth: The right answers: a column, a Series with the frame's index, or one value per
                row.
            explain: Returns the explanation of a row, by its position.
        """
        self.answers: Answers = Answers(frame, output, truth)
        self._cached_rows = lru_cache(8)(self._match)
        self._ranking_started = False
        super().__init__(
            outline=self._outline(), initial_rows=self._window(Query(), 0, _INITIAL_ROWS)
        )
        self.panel = ExplanationPanel(explain, self._heading)
        self._container = ipywidgets.VBox([self, self.panel.box])
        answer_requests(self, self._answer)
        answer_while_busy(self.comm)

    # The interface for Python

    @property
    def query(self) -> Query:
        """The current filter and sort."""
        return Query.parse({name: getattr(self, name) for name in _QUERY})

    @property
    def frame(self) -> Any:
        """The answered frame."""
        return self.answers.frame

    @property
    def filtered(self) -> Any:
        """The matching rows, in the order shown, with their index."""
        return self._take(self._rows(self.query))

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
        """The explanation of the row opened last; None before the first, or if it failed."""
        return self.panel.explanation

    @property
    def corrections(self) -> Any:
        """The corrected rows: index label (position in polars), label, answer and texts.

        `calibrate` and `corrected` take it as their corrections.
        """
        rows = sorted(self.answers.corrections)
        texts = [column for column in self.answers.texts if column.name in self._text_columns]
        columns: dict[str, Sequence[str | None]] = {
            "label": [self.answers.corrections[row] for row in rows],
            "answer": self.answers.columns[self.answers.output].cells(rows, None),
            **{column.name: column.cells(rows, None) for column in texts},
        }
        first = next(name for name in ("row", "index", "position") if name not in columns)
        return self._new_frame(first, [self.answers.index[row] for row in rows], columns)

    @property
    def examples(self) -> Any:
        """The texts and labels of the corrected rows, as `df.llm.corrected` returns them.

        Raises:
            FrameError: The answers are not one label per row, or come from several runs.
        """
        return corrected(self.frame, self.corrections, self.answers.output)

    def correct(self, label: Any, to: str | None) -> None:
        """Correct the label of a row, or revert its correction.

        Args:
            label: The index label (position in polars) of the row.
            to: One of the run's labels; None to revert.

        Raises:
            FrameError: There is no such row, or there are several.
            LabelError: `to` is not one of the labels.
        """
        self._correct(self.answers.positions.of(label), to)

    def explain(self, label: Any) -> Explanation:
        """Show the explanation of a row below the table, as the Enter key does.

        Raises the errors of `df.llm.explain`.

        Args:
            label: The index label (position in polars) of the row.
        """
        return self.panel.open(self.answers.positions.of(label))

    def close(self) -> None:
        """Close the table and the panel below it, and abandon running computations."""
        if self.comm is None:
            return
        super().close()
        self.panel.close()
        close_tree(self._container)

    def __repr__(self) -> str:
        return visible(f"Explorer({self.answers.output}, {counted(len(self.answers), 'row')})")

    # Requests of the browser

    def _answer(self, request: Mapping[str, Any]) -> Reply:
        kind = request["kind"]
        if kind == "plotly":
            return NoContent(), [_plotly()]
        if kind in ("rows", "numbers", "counts", "place"):
            return self._answer_query(request)
        row = int(request["row"])
        if not 0 <= row < len(self.answers):
            raise SelectionError(f"there is no row {row} among {len(self.answers)}.")
        if kind == "row":
            return row_details(self.answers, row), []
        if kind == "correct":
            self._correct(row, request["label"])
            return NoContent(), []
        if kind == "explain":
            self.panel.start(row)
            return NoContent(), []
        raise ValueError(f"nothing answers {kind!r}")

    def _answer_query(self, request: Mapping[str, Any]) -> Reply:
        kind, query = request["kind"], Query.parse(request["query"])
        check_query(self.answers, query)
        if kind == "rows":
            window = self._window(query, int(request["start"]), int(request["stop"]))
            # As a buffer, since the browser evicts answers by the size of their buffers.
            return NoContent(), [json.dumps(window, ensure_ascii=False).encode()]
        if kind == "numbers":
            found = self._rows(query)[int(request["start"]) : int(request["stop"])]
            return NoContent(), [found.astype("<i4").tobytes()]
        if kind == "counts":
            self._start_ranking()
            return chart_counts(self.answers, query), []
        found = np.flatnonzero(self._rows(query) == int(request["row"]))
        return Place(place=int(found[0]) if len(found) else None), []

    def _start_ranking(self) -> None:
        """Rank the usual sort columns in the background, once the first rows are on screen."""
        if not self._ranking_started:
            self._ranking_started = True
            self.panel.run_in_thread(self.answers.rank_columns)

    def _window(self, query: Query, start: int, stop: int) -> RowWindow:
        rows = self._rows(query)
        stop = min(stop, start + _LARGEST_WINDOW)
        return row_window(self.answers, rows[max(start, 0) : stop].tolist(), start, len(rows))

    def _rows(self, query: Query) -> np.ndarray[Any, np.dtype[np.intp]]:
        return self._cached_rows(query, self.edits if query.only == "corrected" else 0)

    def _match(self, query: Query, edits: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        return matching_rows(self.answers, query)

    def _outline(self) -> ExplorerOutline:
        answers, names = self.answers, shown_columns(self.answers)
        return ExplorerOutline(
            output=answers.output,
            verb=answers.verb,
            size=len(answers),
            index=index_name(answers),
            columns=[
                OutlineColumn(
                    name=name, role=answers.roles[name], number=answers.columns[name].is_number
                )
                for name in names
            ],
            hidden=len(answers.roles) - len(names),
            labels=list(answers.labels),
            choices=list(answers.choices),
            truths=list(answers.true_labels),
            truth=None if answers.truth is None else answers.truth.name,
            scored=answers.score is not None,
            failed=int(answers.failed.sum()),
            unasked=int(answers.unasked.sum()),
            wrong=int(answers.wrong.sum()),
        )

    # Corrections

    @property
    def _text_columns(self) -> list[str]:
        return [name for record in self.answers.records for name in record["columns"].values()]

    def _correct(self, row: int, label: str | None) -> None:
        if label is None:
            self.answers.corrections.pop(row, None)
        elif label not in self.answers.choices:
            choices = ", ".join(self.answers.choices) or "there are none, as it wrote its answers"
            raise LabelError(f"{label!r} is none of the labels of the run: {choices}.")
        else:
            self.answers.corrections[row] = label
        self.edits += 1

    def _heading(self, row: int) -> str:
        """Return the name and the answer of a row, as a heading."""
        answer = self.answers.answer(row)
        text = f": {answer[:80]}" if isinstance(answer, str) else ""
        return f"Row {row_name(self.answers, row)}{text}"

    # Frames

    def _take(self, rows: Sequence[int] | np.ndarray[Any, Any]) -> Any:
        found = nw.from_native(self.frame, eager_only=True)[list(map(int, rows))].to_native()
        if hasattr(found, "attrs"):
            found.attrs = dict(self.frame.attrs)
        return found

    def _new_frame(
        self, first: str, index: list[Any], columns: Mapping[str, Sequence[str | None]]
    ) -> Any:
        """Return a frame of index labels, which may have any type in pandas, and texts."""
        backend = nw.from_native(self.frame, eager_only=True).implementation
        new_columns = {
            name: new_series(name, values, nw.String, backend) for name, values in columns.items()
        }
        if not backend.is_pandas():
            new_columns = {first: new_series(first, index, nw.Int64, backend), **new_columns}
            return nw.DataFrame.from_dict(new_columns, backend=backend).to_native()
        import pandas

        labels = pandas.Series(index, dtype=object).infer_objects()  # tuples for a MultiIndex
        texts = {name: series.to_native() for name, series in new_columns.items()}
        return pandas.DataFrame({first: labels, **texts})

    # Checks and display

    @traitlets.validate("labels", "truths", "score", "only", "sort")
    def _check(self, proposal: Any) -> Any:
        check_query(self.answers, Query.parse({proposal["trait"].name: proposal["value"]}))
        return proposal["value"]

    @traitlets.validate("rows")
    def _check_rows(self, proposal: Any) -> Any:
        for row in proposal["value"]:
            if not 0 <= row < len(self.answers):
                raise SelectionError(f"there is no row {row} among {len(self.answers):,}.")
        return proposal["value"]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return the widget, and the first rows for front ends without widgets."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        return {**data, "text/html": self._static_html()}, metadata

    def _static_html(self) -> str:
        """Return the first rows of the current query as HTML."""
        return static_html(self.answers, self.query, self._rows(self.query).tolist())

    def _ipython_display_(self) -> None:
        """Show the first rows and, in a second output, the widget, which hides them.

        In a single output JupyterLab would ignore the rows, and a notebook opened without its
        kernel would show nothing.
        """
        publish_display_data({"text/plain": repr(self), "text/html": self._static_html()})  # type: ignore[no-untyped-call]
        if self.comm is not None:  # a closed widget cannot answer the browser
            publish_display_data(self._container._repr_mimebundle_())  # type: ignore[no-untyped-call]


@lru_cache(1)
def _plotly() -> bytes:
    """Return plotly.js from the plotly package, compressed with gzip.

    The charts do not use plotly's FigureWidget, which puts 5 MB into the state of each.
    """
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise NbllmError("The charts are drawn by plotly, which is not here: pip install plotly.")
    script = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 5)

"""The results explorer: the answered rows as a table, with charts that filter it.

What a reader sets in the browser is a synced trait, so Python reads and sets it. The rows on
screen, the counts of the charts and the code that draws them are requested by message, each with
the whole query in it: nbllm/widgets/protocol/ has the requests.
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
from nbllm.widgets.explorer.filtering import check, counts, matching
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
from nbllm.widgets.protocol.explorer import ExplorerOutline, Only, OutlineColumn, Place, RowWindow
from nbllm.widgets.requests import Reply, answer_requests
from nbllm.widgets.subshell import answer_beside_cells
from nbllm.widgets.view import View, close_tree
from nbllm.wording import counted

__all__ = ["Explorer"]

_INITIAL_ROWS = 40  # rows that come with the widget, on screen without a request
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
    only = traitlets.Enum(get_args(Only), None, allow_none=True).tag(sync=True)
    sort = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    descending = traitlets.Bool(False).tag(sync=True)
    rows = traitlets.List(traitlets.Int()).tag(sync=True)  # positions of those selected
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
        super().__init__(
            outline=self._outline(), initial_rows=self._window(Query(), 0, _INITIAL_ROWS)
        )
        self.panel = ExplanationPanel(explain, self._heading)
        self._whole = ipywidgets.VBox([self, self.panel.box])
        answer_requests(self, self._answer)
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
        """The explanation of the row opened last, until another is; None where that failed."""
        return self.panel.explanation

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
        return self.panel.open(self.answers.positions.of(label))

    def close(self) -> None:
        """Close the table and what stands below it, and stop what is computed for them."""
        if self.comm is None:
            return
        super().close()
        self.panel.close()
        close_tree(self._whole)

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
        kind, query = request["kind"], Query.read(request["query"])
        check(self.answers, query)
        if kind == "rows":
            window = self._window(query, int(request["start"]), int(request["stop"]))
            # As a buffer, which the browser forgets when it has too many.
            return NoContent(), [json.dumps(window, ensure_ascii=False).encode()]
        if kind == "numbers":
            found = self._rows(query)[int(request["start"]) : int(request["stop"])]
            return NoContent(), [found.astype("<i4").tobytes()]
        if kind == "counts":
            self._warm()
            return counts(self.answers, query), []
        found = np.flatnonzero(self._rows(query) == int(request["row"]))
        return Place(place=int(found[0]) if len(found) else None), []

    def _warm(self) -> None:
        """Rank what rows are sorted by, once the first rows are on screen."""
        if not self._warmed:
            self._warmed = True
            self.panel.run_in_thread(self.answers.rank_columns)

    def _window(self, query: Query, start: int, stop: int) -> RowWindow:
        rows = self._rows(query)
        stop = min(stop, start + _LARGEST_WINDOW)
        return row_window(self.answers, rows[max(start, 0) : stop].tolist(), start, len(rows))

    def _rows(self, query: Query) -> np.ndarray[Any, np.dtype[np.intp]]:
        return self._matching(query, self.edits if query.only == "corrected" else 0)

    def _match(self, query: Query, edits: int) -> np.ndarray[Any, np.dtype[np.intp]]:
        return matching(self.answers, query)

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

    def _heading(self, row: int) -> str:
        """Return the row and its answer, as a heading."""
        answer = self.answers.answer(row)
        given = f": {answer[:80]}" if isinstance(answer, str) else ""
        return f"Row {row_name(self.answers, row)}{given}"

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
        check(self.answers, Query.read({proposal["trait"].name: proposal["value"]}))
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
        return {**data, "text/html": self._static_html()}, metadata

    def _static_html(self) -> str:
        """Return the first rows of the filter and the sort that are set."""
        return static_html(self.answers, self.query, self._rows(self.query).tolist())

    def _ipython_display_(self) -> None:
        """Show the first rows and, after them, the widget, which hides them.

        As one output JupyterLab would take the widget alone, and a notebook opened without
        its kernel would show nothing.
        """
        publish_display_data({"text/plain": repr(self), "text/html": self._static_html()})  # type: ignore[no-untyped-call]
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

"""The result of comparing two models: measures with intervals, and the rows that differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.perplexity import Perplexity
from nbllm.frame.columns import is_missing
from nbllm.frame.comparison import render
from nbllm.frame.comparison.summary import (
    Agreement,
    ComparisonMeasure,
    ComparisonSummary,
    Differences,
    Formatter,
    format_number,
    format_share,
)
from nbllm.frame.evaluation.truth import right_answers
from nbllm.frame.running.report import RunReport
from nbllm.models.memory.placement import devices_of
from nbllm.stats import Estimate, bootstrap, mcnemar, paired_difference, proportion
from nbllm.wording import byte_size, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["ComparedModel", "Comparison"]

_MARGINS = (0.0, 0.1, 0.2, 0.5)
_SHOWN = 5  # number of differing rows in HTML


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models, and the cost of its run."""

    model: dict[str, str]  # provenance
    weights: int  # bytes
    report: RunReport
    seconds: float  # wall-clock time of the run with calibration and ledger, without loading
    cpu_seconds: float  # CPU time of the process in the same interval, over all threads
    perplexity: Perplexity | None = None

    @property
    def name(self) -> str:
        """Name, quantization, dtype and device."""
        device_map = json.loads(self.model.get("device_map", "{}"))
        device = devices_of(device_map, self.model["device"])
        return ", ".join([*(self.model[key] for key in ("name", "quantization", "dtype")), device])


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Comparison of two models on the same rows, as `compare` returns it.

    `rows` is the frame passed to `compare` plus an answer, score, margin, error and run for each
    of the models `a` and `b`. The margin is the difference between the calibrated probabilities
    of the two likeliest labels. Any row can be explained:
    `comparison.rows.llm.explain(row, output="b")`.
    """

    rows: Any
    a: ComparedModel
    b: ComparedModel
    verb: str
    columns: tuple[str, ...]  # columns that the models read
    truth: str | None  # column of the right answers
    confidence: float  # level of the intervals
    seed: int  # of bootstrap resampling

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Whether both models answered each row, shape (rows,)."""
        pairs = zip(self.values("a"), self.values("b"), strict=True)
        return np.array([None not in pair for pair in pairs], dtype=bool)

    @cached_property
    def agree(self) -> NDArray[np.bool_]:
        """Whether both models gave the same answer to each row, shape (rows,)."""
        pairs = zip(self.values("a"), self.values("b"), strict=True)
        return np.array([None not in pair and pair[0] == pair[1] for pair in pairs], dtype=bool)

    @property
    def count(self) -> int:
        """The number of rows that both models answered."""
        return int(self.answered.sum())

    @property
    def gives_labels(self) -> bool:
        """Whether the answers are labels, which have margins, rather than texts."""
        return "a_margin" in self._data.columns

    @cached_property
    def agreement(self) -> Estimate:
        """The share of rows with the same answer, with Wilson's interval."""
        return self._share(self.agree[self.answered])

    def agreement_above(self, margin: float) -> Estimate:
        """Return the agreement among the rows where `a` has a larger margin.

        Args:
            margin: The threshold, 0 to 1. The answers must be labels.
        """
        return self._share(self.agree[self._above(margin)])

    def _above(self, margin: float) -> NDArray[np.bool_]:
        """Return whether both answered each row, `a` with a larger margin, shape (rows,)."""
        larger: NDArray[np.bool_] = self.floats("a_margin") > margin
        return self.answered & larger

    @property
    def by_margin(self) -> Any:
        """The agreement above several margins of `a`, as a frame; for labels only."""
        found = [(margin, rows, *share) for margin, rows, share in self._agreements(_MARGINS)]
        return self._frame(("margin_above", "rows", "agreement", "low", "high"), found)

    @property
    def differences(self) -> Any:
        """The rows with different answers and their index, most surprising first.

        Labels are ordered by the smaller of both margins, texts by their similarity.
        """
        if self.gives_labels:
            order = -np.minimum(self.floats("a_margin"), self.floats("b_margin"))
            added = ["a", "a_score", "a_margin", "b", "b_score", "b_margin"]
        else:
            order, added = self.floats("similarity"), ["a", "b", "similarity"]
        differ = np.flatnonzero(self.answered & ~self.agree)
        positions = differ[np.argsort(order[differ], kind="stable")]
        truth = [] if self.truth is None else [self.truth]
        names = list(dict.fromkeys([*self.columns, *truth, *added, "a_run", "b_run"]))
        found = self._data.select(names)[positions.tolist()]
        native = found.to_native()
        if hasattr(native, "attrs"):
            native.attrs = dict(self.rows.attrs)
        return native

    @cached_property
    def measures(self) -> tuple[ComparisonMeasure, ...]:
        """The measures, in reading order."""
        return (
            *self._measures_of_answers(),
            *self._measures_of_perplexity(),
            *self._measures_of_cost(),
        )

    @property
    def summary(self) -> Any:
        """The measures as a frame, with one row for each of `a`, `b` and both together."""
        lines = [
            (measure.name, of, *estimate)
            for measure in self.measures
            for of, estimate in (
                ("a", measure.a),
                ("b", measure.b),
                (measure.relation, measure.both),
            )
            if estimate is not None
        ]
        return self._frame(("measure", "of", "value", "low", "high"), lines)

    def plot(self) -> Figure:
        """Return a chart of each row by both margins, and of agreement by the margin of `a`.

        The margin of `b` is negative where its answer differs. For texts the chart is a histogram
        of the similarity of both answers.
        """
        names = {"a": self.a.name, "b": self.b.name}
        if not self.gives_labels:
            return render.similarities_plot(names, self.floats("similarity")[self.answered])
        margins = [step / 20 for step in range(20) if self._above(step / 20).any()]
        return render.margins_plot(names, self._points(), self._agreements(margins))

    def _agreements(self, margins: Iterable[float]) -> list[Agreement]:
        return [
            Agreement(margin, int(self._above(margin).sum()), self.agreement_above(margin))
            for margin in margins
        ]

    def _points(self) -> dict[str, render.Points]:
        """Return the rows that both models answered, by outcome."""
        a, b = self.floats("a_margin"), self.floats("b_margin")
        b = np.where(self.agree, b, -b)
        texts = list(zip(*map(self.values, (self.columns[0], "a", "b")), strict=True))
        return {
            name: render.Points(a[chosen], b[chosen], [texts[n] for n in np.flatnonzero(chosen)])
            for name, chosen in self._groups().items()
        }

    def _groups(self) -> dict[str, NDArray[np.bool_]]:
        if self.truth is None:
            same = self.answered & self.agree
            return {"same answer": same, "different answers": self.answered & ~self.agree}
        judged, a, b = self.judged, self.right("a"), self.right("b")
        return {
            "both right": judged & a & b,
            "both wrong": judged & ~a & ~b,
            "only a right": judged & a & ~b,
            "only b right": judged & ~a & b,
        }

    def _measures_of_answers(self) -> list[ComparisonMeasure]:
        found = [ComparisonMeasure("agreement", format_share, both=self.agreement)]
        if not self.gives_labels:
            similarity = self.floats("similarity")[self.answered]
            mean = self._bootstrap(lambda rows: float(similarity[rows].mean()), len(similarity))
            found.append(ComparisonMeasure("words in common", format_share, both=mean))
        if self.truth is not None:
            a, b = (self.right(model)[self.judged] for model in "ab")
            found.append(
                ComparisonMeasure(
                    "accuracy",
                    format_share,
                    self._share(a),
                    self._share(b),
                    paired_difference(a, b, self.confidence),
                    "b − a",
                    f"McNemar p = {mcnemar(a, b):.2g}",
                )
            )
        return found

    def _measures_of_perplexity(self) -> list[ComparisonMeasure]:
        a, b = self.a.perplexity, self.b.perplexity
        if a is None or b is None:
            return []

        def bits(model: Perplexity, rows: NDArray[np.intp]) -> float:
            return float(model.nll[rows].sum() / np.log(2) / model.utf8_bytes[rows].sum())

        texts = len(a.nll)
        of_a = self._bootstrap(lambda rows: bits(a, rows), texts)
        of_b = self._bootstrap(lambda rows: bits(b, rows), texts)
        change = self._bootstrap(lambda rows: bits(b, rows) - bits(a, rows), texts)
        return [
            ComparisonMeasure("bits a byte", format_number, of_a, of_b, change, "b − a"),
            ComparisonMeasure("perplexity", format_number, _exact(a.value), _exact(b.value)),
        ]

    def _measures_of_cost(self) -> list[ComparisonMeasure]:
        a, b, found = self.a, self.b, []
        # Answers from the ledger take no time, so times compare only if as many were computed.
        if a.report.computed == b.report.computed > 0:
            found.append(_ratio("CPU seconds", format_number, a.cpu_seconds, b.cpu_seconds))
            rates = [model.report.computed / model.seconds for model in (a, b)]
            found.append(_ratio("rows / s", format_number, *rates))
            if self.gives_labels:  # reports state only an upper bound of the tokens of texts
                rates = [model.report.tokens / model.seconds for model in (a, b)]
                found.append(_ratio("tokens / s", format_number, *rates))
        return [*found, _ratio("weights", byte_size, a.weights, b.weights)]

    def right(self, model: str) -> NDArray[np.bool_]:
        """Return whether a model was right, shape (rows,); false for rows without a truth.

        Args:
            model: "a" or "b".
        """
        pairs = zip(self.values(model), self._truth, strict=True)
        return np.array([None not in pair and pair[0] == pair[1] for pair in pairs], dtype=bool)

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """Whether both models answered each row and it has a truth, shape (rows,)."""
        known = np.array([value is not None for value in self._truth], dtype=bool)
        both: NDArray[np.bool_] = self.answered & known
        return both

    def values(self, column: str) -> list[Any]:
        """Return a column of `rows`, None for missing values."""
        found = self._data[column].to_list()
        return [None if is_missing(value) else value for value in found]

    def floats(self, column: str) -> NDArray[np.float64]:
        """Return a column of `rows`, NaN for missing values, shape (rows,)."""
        return np.array(self.values(column), dtype=np.float64)

    @cached_property
    def _data(self) -> nw.DataFrame[Any]:
        return nw.from_native(self.rows, eager_only=True)

    @cached_property
    def _truth(self) -> list[str | None]:
        if self.truth is None:
            return [None] * len(self._data)
        return right_answers(self.rows, self.truth)

    def _share(self, hits: NDArray[np.bool_]) -> Estimate:
        return proportion(int(hits.sum()), len(hits), self.confidence)

    def _bootstrap(self, statistic: Callable[[NDArray[np.intp]], float], rows: int) -> Estimate:
        return bootstrap(statistic, rows, self.confidence, self.seed)

    def _frame(self, names: tuple[str, ...], lines: list[tuple[Any, ...]]) -> Any:
        columns = {name: [line[n] for line in lines] for n, name in enumerate(names)}
        return nw.from_dict(columns, backend=self._data.implementation).to_native()

    @property
    def _display(self) -> ComparisonSummary:
        columns = ", ".join(map(repr, self.columns))
        return ComparisonSummary(
            heading=f"{self.verb} of {columns}, {counted(self.count, 'row')}",
            a=self.a.name,
            b=self.b.name,
            measures=self.measures,
            agreements=self._agreements(_MARGINS) if self.gives_labels else (),
            remarks=self._remarks(),
        )

    def _remarks(self) -> list[str]:
        """Return the footnotes to the measures."""
        a, b = self.a.report, self.b.report
        found = [
            f"Of {counted(a.rows, 'row')} {a.blank:,} are blank; {a.failed:,} failed with a, "
            f"{b.failed:,} with b. The intervals hold with {100 * self.confidence:g} %."
        ]
        judged = int(self.judged.sum())
        if self.truth is not None and judged < self.count:
            found.append(f"Accuracy is of the {counted(judged, 'row')} that have a truth.")
        if a.known or b.known:
            found.append(
                f"{counted(a.known, 'text')} with a and {b.known:,} with b came from the ledger; "
                f"time is of the {a.computed:,} and {b.computed:,} computed here, where they are "
                "as many."
            )
        return found

    def _some_differences(self) -> Differences:
        rows = nw.from_native(self.differences, eager_only=True)
        head = [name for name in rows.columns if name not in ("a_run", "b_run")]
        return Differences(len(rows), head, rows.select(head).head(_SHOWN).rows())

    def __repr__(self) -> str:
        return render.text(self._display)

    def _repr_html_(self) -> str:
        return render.html(self._display, self._some_differences())


def _exact(value: float) -> Estimate:
    """Return a value without an interval."""
    return Estimate(value, float("nan"), float("nan"))


def _ratio(name: str, formatter: Formatter, a: float, b: float) -> ComparisonMeasure:
    both = _exact(b / a) if a else None
    return ComparisonMeasure(name, formatter, _exact(a), _exact(b), both, relation="b / a")

"""Base class of all evaluations: answers, true values, measures and display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.frame.evaluation import render
from nbllm.frame.evaluation.summary import Measure, Summary
from nbllm.stats import Estimate, bootstrap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

__all__ = ["CONFIDENCE", "SEED", "Evaluation", "mean_estimate"]

CONFIDENCE = 0.95  # level of every interval
SEED = 0  # of bootstrap resampling


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Evaluation of answers against the truth, as `df.llm.evaluate` returns it.

    Rows without a truth or without an answer are left out.
    """

    frame: Any
    output: str  # column of the answers
    truth: str  # column of the true values
    verb: str
    answers: list[Any]  # of the rows with both an answer and a truth
    right: list[Any]  # true values of the same rows
    positions: list[int]  # of the same rows in the frame
    unanswered: int  # rows with a truth and no answer
    baseline: str  # description of the baseline

    @property
    def unit(self) -> str:
        """The unit of evaluation, in the plural."""
        return "rows"

    @property
    def remark(self) -> str:
        """A footnote to the measures, or an empty string."""
        return ""

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        raise NotImplementedError

    @property
    def summary(self) -> Any:
        """The measures as a frame: value, 95 % interval and baseline, by measure and label.

        The column `chance`, where there is one, is the expected value of a random choice.
        """
        lines = [(m.name, m.label, *m.value, m.baseline, m.chance) for m in self.measures]
        names = ["measure", "label", "value", "low", "high", "baseline", "chance"]
        if all(measure.chance is None for measure in self.measures):
            names.pop()
        columns = [[line[n] for line in lines] for n in range(len(names))]
        return self._frame(dict(zip(names, columns, strict=True)))

    @property
    def count(self) -> int:
        """The number of rows with both an answer and a truth."""
        return len(self.answers)

    def _rows_at(self, positions: Sequence[int], frame: Any = None) -> Any:
        """Return the rows at these positions of `frame`, by default the evaluated frame."""
        frame = self.frame if frame is None else frame
        found = nw.from_native(frame, eager_only=True)[list(positions)].to_native()
        if hasattr(found, "attrs"):
            found.attrs = dict(frame.attrs)
        return found

    def _frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Return the columns as a frame of the same library as the evaluated one."""
        schema: dict[str, Any] = dict.fromkeys(("measure", "label", "truth"), nw.String)
        schema |= dict.fromkeys(("baseline", "chance"), nw.Float64)
        backend = nw.from_native(self.frame, eager_only=True).implementation
        series = [
            nw.new_series(name, values, schema.get(name), backend=backend)
            for name, values in columns.items()
        ]
        return nw.DataFrame.from_dict({s.name: s for s in series}, backend=backend).to_native()

    @property
    def _display(self) -> Summary:
        heading = f"{self.output} against {self.truth}, {self.count:,} {self.unit}"
        remark = f"The baseline is {self.baseline}."
        if self.unanswered:
            remark += f" Left out: {self.unanswered:,} with a truth and no answer."
        remark = f"{remark} {self.remark}".rstrip()
        return Summary(heading, self.measures, self.baseline, remark)

    def plot(self) -> Figure:
        """Return a chart of each measure with its interval and its baseline."""
        return render.measures_plot(self._display)

    def __repr__(self) -> str:
        return render.text(self._display)

    def _repr_html_(self) -> str:
        return render.html(self._display)


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """Return the mean with its bootstrap interval over rows.

    Args:
        values: The value of each row, shape (rows,).
    """
    return bootstrap(lambda rows: float(values[rows].mean()), len(values), CONFIDENCE, SEED)

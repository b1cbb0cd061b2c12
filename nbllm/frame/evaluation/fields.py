"""Evaluation of answers with several fields per row: `extract`, aspects and `multi`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import FrameError, LabelError
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.stats import bootstrap_counts, label_scores, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FieldEvaluation", "evaluate_fields", "field_names"]


@dataclass(frozen=True, eq=False, repr=False)
class FieldEvaluation(Evaluation):
    """Evaluation of several fields per row, as `df.llm.evaluate` returns it.

    Texts are compared regardless of case, and numbers by value. Shares of rows have Wilson's
    interval; F1 has the interval of 2,000 seeded bootstrap resamples. The baseline gives each
    field its most frequent true value.
    """

    field_answers: dict[str, list[str]]  # by field, the value in each row as JSON
    field_truths: dict[str, list[str]]  # likewise
    boolean: bool  # whether each field is a label that a row either has or lacks

    @cached_property
    def hits(self) -> dict[str, NDArray[np.bool_]]:
        """By field, whether the answer of each row is right, shape (rows,)."""
        return self._hits(self.field_answers)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        most_frequent = {
            name: [max(sorted(set(values)), key=values.count)] * len(values)
            for name, values in self.field_truths.items()
        }
        hits, baseline = self.hits, self._hits(most_frequent)
        found = [_share("all fields right", _all(hits), _all(baseline))]
        found += [_share("accuracy", hits[name], baseline[name], name) for name in hits]
        if self.boolean:
            found += [self._f1(name, most_frequent[name]) for name in hits]
        return tuple(found)

    def rows(self, field: str) -> Any:
        """Return the rows of the frame where this field is wrong.

        Args:
            field: The name of the field.

        Raises:
            LabelError: There is no such field.

        Example:
            >>> found.rows("price")  # doctest: +SKIP
        """
        if field not in self.hits:
            raise LabelError(f"there is no field {field!r}. There are {', '.join(self.hits)}.")
        wrong = [p for p, hit in zip(self.positions, self.hits[field], strict=True) if not hit]
        return self._rows_at(wrong)

    def _hits(self, answers: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.bool_]]:
        return {
            name: np.array([a == b for a, b in zip(answers[name], truths, strict=True)])
            for name, truths in self.field_truths.items()
        }

    def _f1(self, label: str, baseline: Sequence[str]) -> Measure:
        """Return the F1 of a label that each row either has or lacks."""

        def counts(answers: Sequence[str]) -> NDArray[np.int64]:
            table = np.zeros((2, 2), dtype=np.int64)
            for truth, answer in zip(self.field_truths[label], answers, strict=True):
                table[int(truth == "true"), int(answer == "true")] += 1
            return table

        found = bootstrap_counts(label_scores, counts(self.field_answers[label]), CONFIDENCE, SEED)
        return Measure("F1", found[-1], float(label_scores(counts(baseline))[-1]), label)


def field_names(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of a run's answers; empty if an answer is one value."""
    parameters = record["parameters"]
    if "schema" in parameters:
        return list(json.loads(parameters["schema"])["properties"])
    if "aspects" in parameters:
        return list(parameters["aspects"])
    return list(parameters["labels"]) if "several" in parameters else []


def evaluate_fields(
    data: nw.DataFrame[Any], record: Mapping[str, Any], common: dict[str, Any]
) -> FieldEvaluation:
    """Return the evaluation of each field against a column of JSON, dicts or lists.

    Args:
        data: The frame.
        record: The record of the run that answered.
        common: The attributes that all evaluations share.

    Raises:
        FrameError: A true value has another form.
    """
    names, several = field_names(record), "several" in record["parameters"]
    column = data[common["truth"]].to_list()
    truths = [_parse(column[n], names, several, common["truth"]) for n in common["positions"]]
    answers = [_parse(answer, names, several, common["output"]) for answer in common["answers"]]
    return FieldEvaluation(
        **common,
        baseline="the most frequent true value of each field",
        field_answers={name: [row[name] for row in answers] for name in names},
        field_truths={name: [row[name] for row in truths] for name in names},
        boolean=several,
    )


def _parse(cell: Any, names: Sequence[str], several: bool, column: str) -> dict[str, str]:
    """Return the value of each field in one cell as JSON, normalized for comparison."""
    try:
        found: Any = json.loads(cell) if isinstance(cell, str) else cell
    except json.JSONDecodeError:
        found = None
    found = found.tolist() if hasattr(found, "tolist") else found
    fits = isinstance(found, list if several else dict)
    unknown = [key for key in found if key not in names] if fits else []
    if not fits or unknown:
        form = "a list of labels" if several else "an object of fields"
        why = f"has {unknown[0]!r}, which is none" if unknown else "is not one"
        raise FrameError(
            f"column {column!r} should hold {form} a row, as JSON or as such, of "
            f"{', '.join(names)}; {cell!r:.80} {why}. Correct it."
        )
    if several:
        return {name: json.dumps(name in found) for name in names}
    return {name: json.dumps(_normalized(found.get(name)), sort_keys=True) for name in names}


def _normalized(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_normalized(item) for item in value]
    if isinstance(value, dict):
        return {key: _normalized(item) for key, item in value.items()}
    return value


def _share(
    name: str, hits: NDArray[np.bool_], baseline: NDArray[np.bool_], label: str | None = None
) -> Measure:
    value = proportion(int(hits.sum()), len(hits), CONFIDENCE)
    return Measure(name, value, float(baseline.mean()), label)


def _all(hits: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    together: NDArray[np.bool_] = np.all(list(hits.values()), axis=0)
    return together

"""Answers of several fields per row against the truth, as `extract`, aspects and `multi` give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.errors import FrameError, LabelError
from nbllm.frame.evaluation.base import CONFIDENCE, METRICS_ARE_OF_TEXTS, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.stats import bootstrap_counts, label_scores, proportion

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FieldEvaluation", "field_names", "of_fields"]


@dataclass(frozen=True, eq=False, repr=False)
class FieldEvaluation(Evaluation):
    """Several fields a row against the truth, each right or wrong. Made by `df.llm.evaluate`.

    Texts are compared in whatever case, and a number with its value. Shares of rows have Wilson's
    interval, F1 that of 2,000 bootstrap resamples, seeded. The baseline gives each field its most
    frequent true value.
    """

    given: dict[str, list[str]]  # by field, its value in each row as JSON
    wanted: dict[str, list[str]]
    yes_or_no: bool  # whether the fields are labels that a row has or has not

    @cached_property
    def hits(self) -> dict[str, NDArray[np.bool_]]:
        """By field, whether each row has it right, shape (rows,)."""
        return self._hits(self.given)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The measures, in reading order."""
        plain = {
            name: [max(sorted(set(values)), key=values.count)] * len(values)
            for name, values in self.wanted.items()
        }
        base = self._hits(plain)
        found = [_share("all fields right", _all(self.hits), _all(base))]
        found += [_share("accuracy", self.hits[name], base[name], name) for name in self.wanted]
        if self.yes_or_no:
            found += [self._f1(name, plain[name]) for name in self.wanted]
        return tuple(found)

    def rows(self, field: str) -> Any:
        """Return the rows of the frame where this field is wrong.

        Raises:
            LabelError: no such field.

        Example:
            >>> found.rows("price")  # doctest: +SKIP
        """
        if field not in self.hits:
            raise LabelError(f"there is no field {field!r}. There are {', '.join(self.hits)}.")
        wrong = [p for p, hit in zip(self.positions, self.hits[field], strict=True) if not hit]
        return self._taken(wrong)

    def _hits(self, given: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.bool_]]:
        return {
            name: np.array([a == b for a, b in zip(given[name], values, strict=True)])
            for name, values in self.wanted.items()
        }

    def _f1(self, label: str, plain: Sequence[str]) -> Measure:
        """Return the F1 of a label that a row has or has not."""

        def counts(given: Sequence[str]) -> NDArray[np.int64]:
            table = np.zeros((2, 2), dtype=np.int64)
            for true, answer in zip(self.wanted[label], given, strict=True):
                table[int(true == "true"), int(answer == "true")] += 1
            return table

        found = bootstrap_counts(label_scores, counts(self.given[label]), CONFIDENCE, SEED)
        return Measure("F1", found[-1], float(label_scores(counts(plain))[-1]), label)


def field_names(record: Mapping[str, Any]) -> list[str]:
    """Return the fields of each answer of a run; empty if an answer is one value."""
    parameters = record["parameters"]
    if "schema" in parameters:
        return list(json.loads(parameters["schema"])["properties"])
    if "aspects" in parameters:
        return list(parameters["aspects"])
    return list(parameters["labels"]) if "several" in parameters else []


def of_fields(
    data: nw.DataFrame[Any],
    record: Mapping[str, Any],
    metrics: Sequence[str] | None,
    common: dict[str, Any],
) -> FieldEvaluation:
    """Return the fields of each answer beside those of a column of JSON, dicts or lists.

    Args:
        data: the frame.
        record: of the run that answered.
        metrics: must be None, since fields have no choice of metrics.
        common: the fields that all evaluations share.

    Raises:
        FrameError: metrics are given, or a truth has another form.
    """
    if metrics is not None:
        raise FrameError(METRICS_ARE_OF_TEXTS)
    names, several = field_names(record), "several" in record["parameters"]
    truths = data[common["truth"]].to_list()
    wanted = [_read(truths[n], names, several, common["truth"]) for n in common["positions"]]
    given = [_read(answer, names, several, common["output"]) for answer in common["answers"]]
    return FieldEvaluation(
        **common,
        baseline="the most frequent true value of each field",
        given={name: [row[name] for row in given] for name in names},
        wanted={name: [row[name] for row in wanted] for name in names},
        yes_or_no=several,
    )


def _read(cell: Any, names: Sequence[str], several: bool, column: str) -> dict[str, str]:
    """Return the value of each field in one cell, normalized so that equal values are equal."""
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
    return {name: json.dumps(_plain(found.get(name)), sort_keys=True) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _share(
    name: str, hits: NDArray[np.bool_], plain: NDArray[np.bool_], label: str | None = None
) -> Measure:
    value = proportion(int(hits.sum()), len(hits), CONFIDENCE)
    return Measure(name, value, float(plain.mean()), label)


def _all(hits: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    together: NDArray[np.bool_] = np.all(list(hits.values()), axis=0)
    return together

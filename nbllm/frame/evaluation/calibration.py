"""Post-hoc calibration of scores (temperature and bias) from labelled rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.engine.scoring import probabilities
from nbllm.errors import FrameError, LabelError, ProvenanceError
from nbllm.escaping import say
from nbllm.frame.columns import RowPositions, is_missing, read_rows
from nbllm.frame.new_columns import write_columns
from nbllm.frame.running.provenance import attach, find_record, find_report, only_run, remember
from nbllm.stats import calibration_error
from nbllm.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Scaling", "calibrate", "corrected", "fit"]

_MIN_ROWS = 10
_FOLDS = 5
_SEED = 0
# Standard deviation of a normal prior around the identity, against overfitting to few rows.
_PRIOR_STD = 1.0
_MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Temperature and bias scaling: probabilities to the power 1 / temperature, then reweighted."""

    temperature: float
    bias: tuple[float, ...]  # one per label, added to its log-probability

    def __call__(self, logp: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scaled probabilities of log-probabilities, shape (rows, labels)."""
        return probabilities(logp / self.temperature, -np.array(self.bias))


def fit(logp: NDArray[np.float64], truth: NDArray[np.intp]) -> Scaling:
    """Return the scaling with the least log loss on the rows, under a normal prior.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, with one temperature and one bias per label.

    Args:
        logp: The log-probability of each label, shape (rows, labels).
        truth: The index of each row's true label, shape (rows,).
    """
    from scipy.optimize import minimize

    rows, labels = logp.shape
    one_hot = np.eye(labels)[truth]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = np.exp(parameters[0]), parameters[1:]
        scores = scale * logp + bias
        scaled = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        error = np.exp(scaled) - one_hot
        gradient = np.concatenate([[scale * (error * logp).sum()], error.sum(axis=0)])
        gradient += parameters / _PRIOR_STD**2
        prior = float(parameters @ parameters) / (2 * _PRIOR_STD**2)
        return prior - float(scaled[np.arange(rows), truth].sum()), gradient

    found = minimize(loss, np.zeros(1 + labels), jac=True, method="L-BFGS-B").x
    return Scaling(float(np.exp(-found[0])), tuple(map(float, found[1:])))


def calibrate(frame: Any, corrections: Any, output: str) -> Any:
    """Return the frame with labels and scores calibrated to some true labels.

    Prints the calibration error before and after, the latter cross-validated.

    Args:
        frame: The frame that the verb returned.
        corrections: The true labels by index label (position in polars), as a mapping, a pandas
            Series, or a frame whose first two columns are those.
        output: The column of the answers.

    Raises:
        FrameError: The probability of each label is not known, or the rows come from several
            runs.
        LabelError: There are fewer than 10 corrections of answered rows, or one is not a label.
        ProvenanceError: The run that answered is not on record.
    """
    record, labels = _run_labels(frame, output)
    logp, columns = _log_probabilities(frame, output, labels)
    answered = np.asarray(np.isfinite(logp).all(axis=1))
    true_labels = _labels_by_position(frame, corrections, labels)
    rows = np.array([row for row in true_labels if answered[row]], dtype=np.intp)
    if len(rows) < _MIN_ROWS:
        raise LabelError(
            f"{len(rows)} of the corrections are of rows with an answer, and calibration takes "
            f"{_MIN_ROWS} or more; some 200 do well. Label more rows."
        )
    truth = np.array([labels.index(true_labels[int(row)]) for row in rows], dtype=np.intp)
    scaling = fit(logp[rows], truth)
    before, after = _calibration_errors(logp[rows], truth)
    say(
        f"nbllm: {output} calibrated on {counted(len(rows), 'row')}: temperature "
        f"{scaling.temperature:.2f}, calibration error {before:.3f} before and {after:.3f} after, "
        f"by {_FOLDS}-fold cross-validation"
    )
    scaled = np.full(logp.shape, np.nan)
    scaled[answered] = scaling(logp[answered])
    new_record = _store_record(record, scaling, before, after, len(rows))
    cells = _new_columns(frame, output, labels, columns, scaled, new_record["id"])
    written = write_columns(frame, cells)
    # write_columns moves replaced columns to the end; the original order is kept here.
    calibrated = nw.from_native(written, eager_only=True).select(*frame.columns).to_native()
    if hasattr(frame, "attrs"):
        calibrated.attrs = dict(frame.attrs)
    attach(calibrated, new_record)
    return calibrated


def corrected(frame: Any, corrections: Any, output: str) -> Any:
    """Return the texts and true labels of corrected rows, as examples or rows to train on.

    Args:
        frame: The frame that the verb returned.
        corrections: The true labels, as for `calibrate`.
        output: The column of the answers.

    Returns:
        The columns that the run read, and the true labels in the column `output`. The rows keep
        their order and index; rows without a text are left out.

    Raises:
        FrameError: The answers are not one label per row, come from several runs, or the frame
            no longer has their texts.
        LabelError: A correction is not a label.
        ProvenanceError: The run that answered is not on record.
    """
    record, labels = _run_labels(frame, output)
    true_labels = _labels_by_position(frame, corrections, labels)
    columns = list(record["columns"].values())
    texts = read_rows(frame, columns)
    rows = sorted(row for row in true_labels if texts.text_indices[row] is not None)
    data = nw.from_native(frame, eager_only=True).select(columns)[rows].to_native()
    return write_columns(data, {output: ([true_labels[row] for row in rows], nw.String)})


def _run_labels(frame: Any, output: str) -> tuple[dict[str, Any], list[str]]:
    """Return the record of the run that answered, and its labels."""
    record = find_record(only_run(frame, output), frame)
    parameters = record["parameters"]
    if "labels" not in parameters or "several" in parameters:
        raise FrameError(f"{output!r} does not hold one label a row, so nothing can be calibrated.")
    return record, list(parameters["labels"])


def _log_probabilities(
    frame: Any, output: str, labels: Sequence[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return log-probabilities, shape (rows, labels), NaN without answer, and their columns."""
    data = nw.from_native(frame, eager_only=True)
    columns = [f"{output}_{label}" for label in labels]
    if all(column in data.columns for column in columns):
        stacked = np.stack([_floats(data[column].to_list()) for column in columns], axis=1)
        return np.log(np.maximum(stacked, _MIN_PROBABILITY)), columns
    if len(labels) == 2 and f"{output}_score" in data.columns and output in data.columns:
        score = _floats(data[f"{output}_score"].to_list())
        is_first = np.array([value == labels[0] for value in data[output].to_list()])
        first = np.where(is_first, score, 1 - score)
        stacked = np.stack([first, 1 - first], axis=1)
        return np.log(np.maximum(stacked, _MIN_PROBABILITY)), []
    raise FrameError(
        f"the probability of each label is not in the frame. Ask again with probabilities=True: "
        f"the answers are in the ledger, unless it was off, and cost nothing. Missing: "
        f"{', '.join(column for column in columns if column not in data.columns)}."
    )


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if is_missing(value) else float(value) for value in values])


def _labels_by_position(frame: Any, corrections: Any, labels: Sequence[str]) -> dict[int, str]:
    """Return the true labels by position in the frame."""
    if nw.dependencies.is_into_dataframe(corrections):
        pairs = [row[:2] for row in nw.from_native(corrections, eager_only=True).rows()]
    elif isinstance(corrections, Mapping) or hasattr(corrections, "items"):
        pairs = list(corrections.items())
    else:
        raise FrameError(
            "corrections must be a mapping of index label to true label, a pandas Series, or a "
            "frame with those two columns."
        )
    unknown = [label for _, label in pairs if label not in labels]
    if unknown:
        raise LabelError(
            f"a correction says {unknown[0]!r}, which is none of {', '.join(labels)}. Correct it."
        )
    positions = RowPositions(frame)
    return {positions.of(row): label for row, label in pairs}


def _calibration_errors(logp: NDArray[np.float64], truth: NDArray[np.intp]) -> tuple[float, float]:
    """Return the calibration error before scaling, and the cross-validated one after it."""
    from sklearn.model_selection import KFold

    scaled = np.empty(logp.shape)
    for train, test in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(truth):
        scaled[test] = fit(logp[train], truth[train])(logp[test])
    before, after = (
        calibration_error(p.max(axis=1), p.argmax(axis=1) == truth) for p in (np.exp(logp), scaled)
    )
    return before, after


def _new_columns(
    frame: Any,
    output: str,
    labels: Sequence[str],
    probability_columns: Sequence[str],
    scaled: NDArray[np.float64],
    run: str,
) -> dict[str, tuple[list[Any], Any]]:
    """Return the new values and types of those columns of the answer that the frame has."""
    answered = ~np.asarray(np.isnan(scaled).any(axis=1))

    def where_answered(values: Any) -> list[Any]:
        return [value if has else None for value, has in zip(values, answered, strict=True)]

    best = np.where(answered, np.nan_to_num(scaled).argmax(axis=1), 0)
    score = scaled[np.arange(len(scaled)), best]
    old_runs = nw.from_native(frame, eager_only=True)[f"{output}_run"].to_list()
    columns: dict[str, tuple[list[Any], Any]] = {
        output: (where_answered([labels[n] for n in best]), nw.String),
        f"{output}_score": (where_answered(score.tolist()), nw.Float64),
        f"{output}_run": (
            [run if isinstance(old, str) else None for old in old_runs],
            nw.Categorical,
        ),
    }
    for n, column in enumerate(probability_columns):
        columns[column] = (where_answered(scaled[:, n].tolist()), nw.Float64)
    return {name: values for name, values in columns.items() if name in frame.columns}


def _store_record(
    record: Mapping[str, Any], scaling: Scaling, before: float, after: float, rows: int
) -> dict[str, Any]:
    """Return the run's record with the scaling, stored wherever the run's own record is.

    If the run is known only from the frame, the new record is not stored either.
    """
    details = {
        "temperature": scaling.temperature,
        "bias": list(scaling.bias),
        "rows": rows,
        "calibration_error_before": before,
        "calibration_error_after": after,
    }
    digest = hashlib.sha256(json.dumps([record["id"], details]).encode()).hexdigest()[:12]
    new = {**record, "id": f"{record['verb']}-{digest}", "scaling": details}
    try:
        report = replace(find_report(record["id"]), run=new["id"])
    except ProvenanceError:
        return new
    remember(new, report)
    if report.ledger is not None:
        with Ledger(ledger_path()) as ledger:
            ledger.open_run(new["id"], new)
            ledger.add_report(new["id"], report.to_dict())
    return new

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

_FEWEST = 10
_FOLDS = 5
_SEED = 0
# In standard deviations of a normal prior around "as it is": a few rows cannot prove much.
_PRIOR = 1.0
_TINY = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Temperature and bias scaling: probabilities to the power 1 / temperature, then reweighted."""

    temperature: float
    bias: tuple[float, ...]  # added to the log of each label's

    def __call__(self, log_chances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return new probabilities from the logarithms of the old, shape (rows, labels)."""
        return probabilities(log_chances / self.temperature, -np.array(self.bias))


def fit(log_chances: NDArray[np.float64], truth: NDArray[np.intp]) -> Scaling:
    """Return the scaling with the least log loss on some rows.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, with one temperature and a bias a label.

    Args:
        log_chances: shape (rows, labels).
        truth: the place of each row's true label, shape (rows,).
    """
    from scipy.optimize import minimize

    rows, labels = log_chances.shape
    wanted = np.eye(labels)[truth]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = np.exp(parameters[0]), parameters[1:]
        scores = scale * log_chances + bias
        logp = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        off = np.exp(logp) - wanted
        slope = np.concatenate([[scale * (off * log_chances).sum()], off.sum(axis=0)])
        prior = float(parameters @ parameters) / (2 * _PRIOR**2)
        return prior - float(logp[np.arange(rows), truth].sum()), slope + parameters / _PRIOR**2

    found = minimize(loss, np.zeros(1 + labels), jac=True, method="L-BFGS-B").x
    return Scaling(float(np.exp(-found[0])), tuple(map(float, found[1:])))


def calibrate(frame: Any, corrections: Any, output: str) -> Any:
    """Return the frame with labels and scores calibrated to some true labels.

    Prints the calibration error before and after, of rows that it was not fitted on.

    Args:
        frame: what the verb returned.
        corrections: index label (position in polars) to true label, as a mapping, a pandas
            Series, or a frame whose first two columns are those.
        output: the column of the answers.

    Raises:
        FrameError: the probability of each label is not known, or the rows come from several
            runs.
        LabelError: fewer than 10 corrections of answered rows, or one that is none of the labels.
        ProvenanceError: the run that answered is not on record.
    """
    record, labels = _answered_by(frame, output)
    log_chances, columns = _log_chances(frame, output, labels)
    answered = np.asarray(np.isfinite(log_chances).all(axis=1))
    known = _positions(frame, corrections, labels)
    rows = np.array([row for row in known if answered[row]], dtype=np.intp)
    if len(rows) < _FEWEST:
        raise LabelError(
            f"{len(rows)} of the corrections are of rows with an answer, and calibration takes "
            f"{_FEWEST} or more; some 200 do well. Label more rows."
        )
    truth = np.array([labels.index(known[int(row)]) for row in rows], dtype=np.intp)
    scaling = fit(log_chances[rows], truth)
    before, after = _errors(log_chances[rows], truth)
    say(
        f"nbllm: {output} calibrated on {counted(len(rows), 'row')}: temperature "
        f"{scaling.temperature:.2f}, calibration error {before:.3f} before and {after:.3f} after, "
        f"by {_FOLDS}-fold cross-validation"
    )
    new = np.full(log_chances.shape, np.nan)
    new[answered] = scaling(log_chances[answered])
    made = _new_record(record, scaling, before, after, len(rows))
    written = write_columns(frame, _columns(frame, output, labels, columns, new, made["id"]))
    # The columns that it replaces come last; here they are to stay where they were.
    calibrated = nw.from_native(written, eager_only=True).select(*frame.columns).to_native()
    if hasattr(frame, "attrs"):
        calibrated.attrs = dict(frame.attrs)
    attach(calibrated, made)
    return calibrated


def corrected(frame: Any, corrections: Any, output: str) -> Any:
    """Return the texts of corrected rows beside their true labels: examples, or rows to train on.

    Args:
        frame: as for `calibrate`.
        corrections: as for `calibrate`.
        output: as for `calibrate`.

    Returns:
        The columns that were read, and the true label under the name of the answer; rows in the
        order of the frame, under their own index, without those that have no text.

    Raises:
        FrameError: the answers are not one label a row, come from several runs, or the frame no
            longer has their texts.
        LabelError: a correction that is none of the labels.
        ProvenanceError: the run that answered is not on record.
    """
    record, labels = _answered_by(frame, output)
    known = _positions(frame, corrections, labels)
    columns = list(record["columns"].values())
    texts = read_rows(frame, columns)
    rows = sorted(row for row in known if texts.position[row] is not None)
    data = nw.from_native(frame, eager_only=True).select(columns)[rows].to_native()
    return write_columns(data, {output: ([known[row] for row in rows], nw.String)})


def _answered_by(frame: Any, output: str) -> tuple[dict[str, Any], list[str]]:
    record = find_record(only_run(frame, output), frame)
    parameters = record["parameters"]
    if "labels" not in parameters or "several" in parameters:
        raise FrameError(f"{output!r} does not hold one label a row, so nothing can be calibrated.")
    return record, list(parameters["labels"])


def _log_chances(
    frame: Any, output: str, labels: Sequence[str]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the log probability of each label, (rows, labels), and the columns read.

    Rows without an answer are NaN.
    """
    data = nw.from_native(frame, eager_only=True)
    columns = [f"{output}_{label}" for label in labels]
    if all(column in data.columns for column in columns):
        chances = np.stack([_floats(data[column].to_list()) for column in columns], axis=1)
        return np.log(np.maximum(chances, _TINY)), columns
    if len(labels) == 2 and f"{output}_score" in data.columns and output in data.columns:
        score = _floats(data[f"{output}_score"].to_list())
        is_first = np.array([value == labels[0] for value in data[output].to_list()])
        first = np.where(is_first, score, 1 - score)
        return np.log(np.maximum(np.stack([first, 1 - first], axis=1), _TINY)), []
    raise FrameError(
        f"the probability of each label is not in the frame. Ask again with probabilities=True: "
        f"the answers are in the ledger, unless it was off, and cost nothing. Missing: "
        f"{', '.join(column for column in columns if column not in data.columns)}."
    )


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if is_missing(value) else float(value) for value in values])


def _positions(frame: Any, corrections: Any, labels: Sequence[str]) -> dict[int, str]:
    """Position in the frame to true label."""
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


def _errors(log_chances: NDArray[np.float64], truth: NDArray[np.intp]) -> tuple[float, float]:
    """Return the calibration error before, and after by cross-validation."""
    from sklearn.model_selection import KFold

    after = np.empty(log_chances.shape)
    for seen, unseen in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(truth):
        after[unseen] = fit(log_chances[seen], truth[seen])(log_chances[unseen])
    before, left = (
        calibration_error(chances.max(axis=1), chances.argmax(axis=1) == truth)
        for chances in (np.exp(log_chances), after)
    )
    return before, left


def _columns(
    frame: Any,
    output: str,
    labels: Sequence[str],
    probability_columns: Sequence[str],
    chances: NDArray[np.float64],
    run: str,
) -> dict[str, tuple[list[Any], Any]]:
    """Return the columns of the answer that the frame has, with their new values."""
    known = ~np.asarray(np.isnan(chances).any(axis=1))

    def where_known(values: Any) -> list[Any]:
        return [value if has else None for value, has in zip(values, known, strict=True)]

    best = np.where(known, np.nan_to_num(chances).argmax(axis=1), 0)
    score = chances[np.arange(len(chances)), best]
    made: dict[str, tuple[list[Any], Any]] = {
        output: (where_known([labels[n] for n in best]), nw.String),
        f"{output}_score": (where_known(score.tolist()), nw.Float64),
        f"{output}_run": (
            [run if value is not None else None for value in _runs(frame, output)],
            nw.Categorical,
        ),
    }
    for n, column in enumerate(probability_columns):
        made[column] = (where_known(chances[:, n].tolist()), nw.Float64)
    return {name: values for name, values in made.items() if name in frame.columns}


def _runs(frame: Any, output: str) -> list[str | None]:
    values = nw.from_native(frame, eager_only=True)[f"{output}_run"].to_list()
    return [value if isinstance(value, str) else None for value in values]


def _new_record(
    record: Mapping[str, Any], scaling: Scaling, before: float, after: float, rows: int
) -> dict[str, Any]:
    """Return the run's record with the scaling in it, stored where the run's own is.

    A frame that came from elsewhere brought its record alone, so this one stays in the frame.
    """
    scaled = {
        "temperature": scaling.temperature,
        "bias": list(scaling.bias),
        "rows": rows,
        "calibration_error_before": before,
        "calibration_error_after": after,
    }
    digest = hashlib.sha256(json.dumps([record["id"], scaled]).encode()).hexdigest()[:12]
    made = {**record, "id": f"{record['verb']}-{digest}", "scaling": scaled}
    try:
        report = replace(find_report(record["id"]), run=made["id"])
    except ProvenanceError:
        return made
    remember(made, report)
    if report.ledger is not None:
        with Ledger(ledger_path()) as ledger:
            ledger.open_run(made["id"], made)
            ledger.add_report(made["id"], report.to_dict())
    return made

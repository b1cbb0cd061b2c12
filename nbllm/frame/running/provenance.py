"""The records of runs, kept in this process, in the ledger and in the metadata of frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import narwhals as nw

from nbllm.checks import shown
from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.engine.ledger_file import ledger_error
from nbllm.errors import LedgerError, ProvenanceError
from nbllm.frame.running.record_schema import RUN_ID, record_fault, report_fault
from nbllm.frame.running.report import RunReport
from nbllm.wording import counted

__all__ = [
    "attach",
    "earlier_columns",
    "find_record",
    "find_report",
    "has_answers",
    "is_own_run",
    "known_answers",
    "last_attached",
    "only_run",
    "remember",
    "remember_answers",
    "row_run",
    "run_ids",
]

_ATTRS_KEY = "nbllm_runs"

# Runs of this process, so that rows can be explained with the ledger switched off.
_records: dict[str, dict[str, Any]] = {}
_reports: dict[str, RunReport] = {}
# Generated texts of runs without a ledger, by question and row key; None for other answers.
_unfiled: dict[str, dict[str, str | None]] = {}


def remember(record: dict[str, Any], report: RunReport) -> None:
    """Keep the record and the report of a run in this process.

    Args:
        record: The record.
        report: The report.
    """
    _records[record["id"]] = record
    _reports[record["id"]] = report


def remember_answers(question: str, answers: Mapping[str, Any]) -> None:
    """Keep the generated texts of a run without a ledger, and the keys of its other answers.

    Args:
        question: The hash of the question.
        answers: The answers by `row_key`.
    """
    kept = {key: value if isinstance(value, str) else None for key, value in answers.items()}
    _unfiled.setdefault(question, {}).update(kept)


def known_answers(question: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return the answers to a question from the ledger or this process, by row key.

    Without a ledger, only generated texts are kept; other answers are None.

    Args:
        question: The hash of the question.
        keys: The keys of the rows, see `row_key`.
    """
    keys = list(keys)
    kept = _unfiled.get(question, {})
    found = {key: kept[key] for key in keys if key in kept}
    if ledger_path().exists():
        with Ledger(ledger_path()) as ledger:
            found |= ledger.known(question, keys)
    return found


def has_answers(question: str) -> bool:
    """Return whether the ledger or this process has answers to a question, by its hash."""
    if _unfiled.get(question):
        return True
    if not ledger_path().exists():
        return False
    with Ledger(ledger_path()) as ledger:
        return ledger.has_answers(question)


def find_report(run_id: str) -> RunReport:
    """Return the newest report of a run, from this process or the ledger.

    Args:
        run_id: The id of the run.

    Raises:
        LedgerError: The report in the ledger is invalid.
        ProvenanceError: It is in neither.
    """
    if run_id in _reports:
        return _reports[run_id]
    found = None
    if RUN_ID.fullmatch(run_id) and ledger_path().exists():
        with Ledger(ledger_path()) as ledger:
            found = ledger.last_report(run_id)
    if found is None:
        raise _not_on_record(run_id)
    if (fault := report_fault(found)) is not None:
        raise ledger_error(ledger_path(), f"the report of run {run_id}: {fault}")
    return RunReport(**found)


def attach(frame: Any, record: Mapping[str, Any]) -> None:
    """Write a record into a frame's metadata, which pandas stores in Parquet files.

    Args:
        frame: A pandas or polars frame; polars has no metadata.
        record: The record of a run.
    """
    if hasattr(frame, "attrs"):
        frame.attrs[_ATTRS_KEY] = {**_attached(frame), record["id"]: dict(record)}


def last_attached(frame: Any, output: str) -> dict[str, Any] | None:
    """Return the record of the last run of an output, if the frame's metadata names one.

    Args:
        frame: A pandas or polars frame.
        output: The column of the answers.

    Raises:
        ProvenanceError: The record is invalid.
    """
    runs = [
        run
        for run, record in _attached(frame).items()
        if isinstance(run, str) and isinstance(record, dict) and record.get("output") == output
    ]
    return find_record(runs[-1], frame) if runs else None


def _attached(frame: Any) -> dict[Any, Any]:
    """Return the unchecked records in a frame's metadata, by run id."""
    runs = getattr(frame, "attrs", {}).get(_ATTRS_KEY)
    return runs if isinstance(runs, dict) else {}


def _checked(run_id: Any, record: Any) -> dict[str, Any]:
    if fault := _fault(run_id, record):
        raise ProvenanceError(
            f"the record of run {shown(run_id)} in the frame's metadata is not one that nbllm "
            f"wrote ({fault}). Ask the rows again, or take a frame that was not changed."
        )
    return dict(record)


def _fault(run_id: Any, record: Any) -> str | None:
    """Return why a value is not the record of this run; None if it is."""
    fault = record_fault(record)
    if fault is None and record["id"] != run_id:
        return f"it is that of {record['id']}"
    return fault


def run_ids(frame: Any, column: str) -> list[str]:
    """Return the ids of the runs that answered a frame, in alphabetical order.

    Args:
        frame: A pandas or polars frame.
        column: The column of the run ids.
    """
    values = nw.from_native(frame, eager_only=True)[column].to_list()
    return sorted({value for value in values if isinstance(value, str)})


def only_run(frame: Any, output: str) -> str:
    """Return the id of the only run that answered a frame.

    Args:
        frame: A pandas or polars frame.
        output: The column of the answers.

    Raises:
        ProvenanceError: No row has an answer, or several runs answered the rows.
    """
    ids = run_ids(frame, f"{output}_run")
    if not ids:
        raise ProvenanceError(
            f"no row of {output!r} was answered, so there is no run to look at. Take a frame with "
            "answered rows."
        )
    if len(ids) > 1:
        raise ProvenanceError(
            f"the rows of {output!r} come from {counted(len(ids), 'run')} ({', '.join(ids)}), and "
            "this is about one. Filter the frame to one of them."
        )
    return ids[0]


def earlier_columns(frame: Any, output: str) -> set[str]:
    """Return the names of the columns that earlier runs may have written, by their records.

    Args:
        frame: A pandas or polars frame.
        output: The column of the answers.
    """
    if f"{output}_run" not in frame.columns:
        return set()
    suffixes = {"", "_error", "_run"}
    for run in run_ids(frame, f"{output}_run"):
        with suppress(ProvenanceError, LedgerError):
            suffixes |= set(find_record(run, frame).get("outputs", ()))
    return {output + suffix for suffix in suffixes}


def row_run(frame: Any, column: str, row: int) -> str:
    """Return the id of the run that answered one row.

    Args:
        frame: A pandas or polars frame.
        column: The column of the run ids.
        row: The position of the row.

    Raises:
        ProvenanceError: No run answered it.
    """
    data = nw.from_native(frame, eager_only=True)
    value = data[column][row]
    if isinstance(value, str):
        return value
    # The verb `reply` writes no reply without sources, and says why in a column.
    reasons = f"{column.removesuffix('_run')}_reason"
    reason = data[reasons][row] if reasons in data.columns else None
    if isinstance(reason, str):
        raise ProvenanceError(f"no reply was written to this row: {reason}. Choose another.")
    raise ProvenanceError(
        "this row was not asked: its text is missing, blank or no text, or the run was stopped "
        "before it. Choose another."
    )


def find_record(run_id: str, frame: Any) -> dict[str, Any]:
    """Return the record of a run, from this process, the ledger or the frame's metadata.

    Args:
        run_id: The id of the run.
        frame: A pandas or polars frame.

    Raises:
        LedgerError: The ledger is damaged, and the frame has no record.
        ProvenanceError: The record is in none of them, or is invalid.
    """
    if run_id in _records:
        return dict(_records[run_id])
    attached = _attached(frame)
    try:
        # The ledger comes first: a frame from elsewhere may claim the id of this user's run.
        record = _ledger_record(run_id)
    except LedgerError:
        if run_id not in attached:
            raise
        record = None
    if record is not None:
        return record
    if run_id not in attached:
        raise _not_on_record(run_id)
    return _checked(run_id, attached[run_id])


def is_own_run(run_id: str) -> bool:
    """Return whether this process made a run, or this user's ledger has it.

    The record of any other run is untrusted: the model that it names must not be loaded.

    Args:
        run_id: The id of the run.
    """
    if run_id in _records:
        return True
    path = ledger_path()
    try:
        user = getattr(os, "geteuid", None)
        if user is not None and path.stat().st_uid != user():
            return False
        return _ledger_record(run_id) is not None
    except (OSError, LedgerError):
        return False


def _ledger_record(run_id: str) -> dict[str, Any] | None:
    """Return the record of a run from the ledger; None if it has none.

    Raises:
        LedgerError: The record is invalid, or the ledger is damaged.
    """
    if not RUN_ID.fullmatch(run_id) or not ledger_path().exists():
        return None
    with Ledger(ledger_path()) as ledger:
        found = ledger.record(run_id)
    if found is None:
        return None
    if fault := _fault(run_id, found):
        raise ledger_error(ledger_path(), f"the record of run {run_id}: {fault}")
    return dict(found)


def _not_on_record(run_id: str) -> ProvenanceError:
    return ProvenanceError(
        f"what is asked of run {shown(run_id)} is not on record here, neither with the frame nor "
        f"in the ledger {ledger_path()}. Point NBLLM_LEDGER at the ledger that the run wrote, or "
        "ask the rows again."
    )

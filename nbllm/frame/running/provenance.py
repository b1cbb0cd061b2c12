"""Which run answered a row: its record, kept in the ledger and in the frame's metadata."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import narwhals as nw

from nbllm import __version__
from nbllm.checks import shown
from nbllm.engine.encoding import framed
from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt
from nbllm.errors import LedgerError, ProvenanceError, UnsupportedModelError
from nbllm.frame.running.record_schema import RUN_ID, record_fault, report_fault
from nbllm.frame.running.report import RunReport
from nbllm.frame.tasks.base import Task
from nbllm.models.model import Model
from nbllm.versions import versions
from nbllm.wording import counted

__all__ = [
    "ANSWER_FORMAT",
    "attach",
    "earlier_columns",
    "find_record",
    "find_report",
    "is_own_run",
    "keeps_answers",
    "known_answers",
    "last_attached",
    "only_run",
    "recorded_prompt",
    "remember",
    "remember_unfiled",
    "row_run",
    "run_ids",
    "run_record",
]

# Raised when the same question to the same model would be answered otherwise than before: answers
# on file of an earlier number are not served again. 2: rows of a batch do not touch each other.
# 3: labels of a model whose output matrix was offloaded are its own.
ANSWER_FORMAT = 3

# What in a model's provenance decides its answers; the rest says where it came from. Kernels of
# another device round otherwise, so what a GPU answered is not served as what a processor did.
_DECIDES = (
    "revision", "quantization", "dtype", "device", "device_map", "adapter_revision",
    "adapter_merged",
)  # fmt: skip
_ATTRS = "nbllm_runs"

# Runs of this process, so that a row can be explained with the ledger switched off.
_records: dict[str, dict[str, Any]] = {}
_reports: dict[str, RunReport] = {}
# Answers that are in no ledger, by question and row: the text that was written, else None.
_unfiled: dict[str, dict[str, str | None]] = {}


def run_record(
    task: Task,
    model: Model,
    columns: Mapping[str, str],
    output: str,
    *,
    limit: int,
    truncate: bool,
    verb_format: int = 0,
) -> dict[str, Any]:
    """What a run is: enough to ask any of its rows again.

    `question` is a hash of all that decides an answer, so that the same texts under another
    column's name are known already; `id` names the run with its columns too.

    Args:
        columns: field of the template to column of the frame.
        output: the column of the answers.
        limit: tokens that a prompt may have.
        truncate: whether longer texts are cut.
        verb_format: which way the verb asks the same question; 0 for the first.
    """
    provenance = model.provenance()
    decides = {
        "verb": task.verb,
        "model": {key: provenance[key] for key in _DECIDES if key in provenance},
        "template": [[part.kind, part.value] for part in task.template],
        "parameters": task.parameters(),
        "limit": limit,
        "truncate": truncate,
        "format": [ANSWER_FORMAT, verb_format] if verb_format else ANSWER_FORMAT,
    }
    question = _digest(decides)
    return {
        **decides,
        "question": question,
        "id": f"{task.verb}-{_digest([question, columns, output])[:12]}",
        "model": provenance,
        "columns": dict(columns),
        "output": output,
        "outputs": [column.suffix for column in task.outputs],
        "writes": task.decodes,
        "nbllm": __version__,
        "versions": versions(),
    }


def remember(record: dict[str, Any], report: RunReport) -> None:
    """Keep a run for this process."""
    _records[record["id"]] = record
    _reports[record["id"]] = report


def remember_unfiled(question: str, answers: Mapping[str, Any]) -> None:
    """Keep for this process which rows a run without a ledger answered, and what it wrote.

    Args:
        answers: by `row_key`.
    """
    kept = {key: value if isinstance(value, str) else None for key, value in answers.items()}
    _unfiled.setdefault(question, {}).update(kept)


def known_answers(question: str, keys: Iterable[str]) -> dict[str, Any]:
    """The answers to a question that are in the ledger or were given by this process, by key.

    Of those that are in no ledger, only a written text is kept; others are None.
    """
    keys = list(keys)
    kept = _unfiled.get(question, {})
    found = {key: kept[key] for key in keys if key in kept}
    if ledger_path().exists():
        with Ledger(ledger_path()) as ledger:
            found |= ledger.known(question, keys)
    return found


def keeps_answers(question: str) -> bool:
    """Whether answers to a question are in the ledger, or were given by this process."""
    if _unfiled.get(question):
        return True
    if not ledger_path().exists():
        return False
    with Ledger(ledger_path()) as ledger:
        return ledger.has_answers(question)


def find_report(run_id: str) -> RunReport:
    """The newest report of a run, from this process or the ledger.

    Raises:
        ProvenanceError: it is in neither.
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
    """Write a record into the frame's metadata, which pandas carries into Parquet."""
    if hasattr(frame, "attrs"):
        frame.attrs[_ATTRS] = {**_attached(frame), record["id"]: dict(record)}


def last_attached(frame: Any, output: str) -> dict[str, Any] | None:
    """The record in a frame's metadata of the last run that made these answers.

    Raises:
        ProvenanceError: it is not one that nbllm wrote.
    """
    runs = [
        run
        for run, record in _attached(frame).items()
        if isinstance(run, str) and isinstance(record, dict) and record.get("output") == output
    ]
    return find_record(runs[-1], frame) if runs else None


def _attached(frame: Any) -> dict[Any, Any]:
    """What a frame's metadata has of runs, by their ids; it may be anything."""
    runs = getattr(frame, "attrs", {}).get(_ATTRS)
    return runs if isinstance(runs, dict) else {}


def _checked(run_id: Any, record: Any) -> dict[str, Any]:
    if fault := _fault(run_id, record):
        raise ProvenanceError(
            f"the record of run {shown(run_id)} in the frame's metadata is not one that nbllm "
            f"wrote ({fault}). Ask the rows again, or take a frame that was not changed."
        )
    return dict(record)


def _fault(run_id: Any, record: Any) -> str | None:
    """Why that is not the record of a run."""
    fault = record_fault(record)
    if fault is None and record["id"] != run_id:
        return f"it is that of {record['id']}"
    return fault


def run_ids(frame: Any, column: str) -> list[str]:
    """The ids of the runs that answered a frame, in alphabetical order."""
    values = nw.from_native(frame, eager_only=True)[column].to_list()
    return sorted({value for value in values if isinstance(value, str)})


def only_run(frame: Any, output: str) -> str:
    """The id of the one run that answered a frame.

    Raises:
        ProvenanceError: no row was answered, or several runs answered them.
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
    """All that earlier runs may have written for these answers, as far as they are on record.

    Args:
        output: the column of the answers.
    """
    if f"{output}_run" not in frame.columns:
        return set()
    suffixes = {"", "_error", "_run"}
    for run in run_ids(frame, f"{output}_run"):
        with suppress(ProvenanceError, LedgerError):
            suffixes |= set(find_record(run, frame).get("outputs", ()))
    return {output + suffix for suffix in suffixes}


def row_run(frame: Any, column: str, row: int) -> str:
    """The id of the run that answered one row, by its position.

    Raises:
        ProvenanceError: no run answered it.
    """
    data = nw.from_native(frame, eager_only=True)
    value = data[column][row]
    if isinstance(value, str):
        return value
    # A reply is written from sources; where there is none, a column of its own says so.
    beside = f"{column.removesuffix('_run')}_reason"
    reason = data[beside][row] if beside in data.columns else None
    if isinstance(reason, str):
        raise ProvenanceError(f"no reply was written to this row: {reason}. Choose another.")
    raise ProvenanceError(
        "this row was not asked: its text is missing, blank or no text, or the run was stopped "
        "before it. Choose another."
    )


def recorded_prompt(record: Mapping[str, Any], texts: tuple[str, ...], model: Model) -> Prompt:
    """The prompt that a run gave the model for a row of these texts, rebuilt from its record.

    Args:
        texts: of the columns that the record names.

    Raises:
        TextError: they make no prompt: `TextTooLongError` where they do not fit.
        UnsupportedModelError: the model points at its answer, and has no prompt like others.
    """
    if model.kind == "extractive_qa":
        raise UnsupportedModelError(
            f"{model.name} points at its answer, which its columns _start and _end say, and reads "
            "a question and a text in a way that is not explained yet. To see what a model looks "
            "at while it answers, ask a causal one."
        )
    template = tuple(Part(kind, value) for kind, value in record["template"])
    ready = CompiledTemplate(template, model.tokenizer) if template else framed(model)
    # Another model than the run's may take less.
    limit = min(record["limit"], model.context_length)
    prompt = ready.encode([texts], limit=limit, truncate=record["truncate"])[0]
    if isinstance(prompt, Exception):
        raise prompt
    return prompt


def find_record(run_id: str, frame: Any) -> dict[str, Any]:
    """The record of a run, from this process, the ledger or the frame's metadata.

    Raises:
        LedgerError: the ledger is damaged, and the frame has none.
        ProvenanceError: it is in none of them, or not one that nbllm wrote.
    """
    if run_id in _records:
        return dict(_records[run_id])
    attached = _attached(frame)
    try:
        # Before the frame's, which may be anybody's and call itself as this user's run.
        filed = _filed_record(run_id)
    except LedgerError:
        if run_id not in attached:
            raise
        filed = None
    if filed is not None:
        return filed
    if run_id not in attached:
        raise _not_on_record(run_id)
    return _checked(run_id, attached[run_id])


def is_own_run(run_id: str) -> bool:
    """Whether this process made a run, or this user's ledger has it.

    The record of any other comes from elsewhere: what it names is not loaded unasked.
    """
    if run_id in _records:
        return True
    path = ledger_path()
    try:
        user = getattr(os, "geteuid", None)
        if user is not None and path.stat().st_uid != user():
            return False
        return _filed_record(run_id) is not None
    except (OSError, LedgerError):
        return False


def _filed_record(run_id: str) -> dict[str, Any] | None:
    """The record in the ledger.

    Raises:
        LedgerError: it is not one that nbllm wrote, or the ledger is damaged.
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


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

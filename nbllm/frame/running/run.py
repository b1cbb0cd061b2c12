"""Runs a question on the rows of a frame, and writes the answers into its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.errors import LabelError
from nbllm.frame import KEEP
from nbllm.frame.columns import Rows, index_labels, read_rows
from nbllm.frame.new_columns import refuse_taken, vector_column, write_columns
from nbllm.frame.running.execute import Answers, ExecutionOptions, Question, execute
from nbllm.frame.running.progress import RunMonitor, monitoring
from nbllm.frame.running.provenance import attach, earlier_columns
from nbllm.frame.tasks.base import VECTOR
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Output, Task

__all__ = [
    "added_columns",
    "answer_frame",
    "warn_if_stopped",
    "warn_of_failures",
    "warn_unanswered",
]


def answer_frame(
    frame: Any,
    question: Question,
    *,
    rows: Rows | None = None,
    any_type: bool = False,
    probabilities_too: bool = False,
    keep: Sequence[str] = KEEP,
    execution: ExecutionOptions | None = None,
    monitor: RunMonitor | None = None,
) -> Any:
    """Run a question on every row and return the frame with the answers.

    If the run is stopped, the frame has the answers so far, and a warning says so.

    Args:
        frame: A pandas or polars DataFrame, not modified.
        question: The question.
        rows: The texts to use instead of those in the columns of the question; None reads these.
        any_type: Whether to accept columns that are not text, see `read_rows`.
        probabilities_too: Whether to add one column of probabilities per label.
        keep: The members of `KEEP` to add.
        execution: The options of the run.
        monitor: The monitor of the verb's call; None creates one for this run.

    Raises:
        ColumnError: A column to read is missing or not text, or a new one already exists.
        LabelError: Two of the new columns would have the same name.
    """
    if rows is None:
        rows = read_rows(frame, list(question.columns.values()), any_type=any_type)
    task, output = question.task, question.output
    added = added_columns(task, output, keep, probabilities_too)
    refuse_taken(frame, list(added), marker=f"{output}_run")
    with monitoring(monitor, task.verb, output) as monitor:
        answers = execute(
            question, rows, lambda: index_labels(frame), execution or ExecutionOptions(), monitor
        )
    # Else the scores and probabilities of an earlier run would seem to belong to these answers.
    outdated = earlier_columns(frame, output) - {*question.columns.values()}
    answered = write_columns(frame, _columns(frame, added, task, rows, answers), outdated)
    attach(answered, answers.record)
    column = f"{output}_error" if "error" in keep else None
    warn_unanswered(rows, lambda: index_labels(frame), answers, monitor, column=column)
    return answered


def added_columns(
    task: Task, output: str, keep: Sequence[str], probabilities_too: bool
) -> dict[str, Output | str]:
    """Return the columns that a run adds, in order: the task's output, "error" or "run", by name.

    Args:
        task: The task.
        output: The column of the answers.
        keep: The members of `KEEP` to add.
        probabilities_too: Whether to add one column of probabilities per label.

    Raises:
        LabelError: Two columns would have the same name.
    """
    kinds = {*keep, "field", *(["probability"] if probabilities_too else [])}
    columns = [column for column in task.outputs if column.kind in kinds]
    common = [f"{output}_{kind}" for kind in ("error", "run") if kind in kinds]
    taken = set(common)
    for column in columns:
        name = output + column.suffix
        if name in taken:
            raise LabelError(
                f"{column.suffix[1:]!r} wants the column {name}, which is there for something "
                "else. Give it another name, or leave the other out by keep=."
            )
        taken.add(name)
    answers = [column for column in columns if column.kind != "probability"]
    probabilities = [column for column in columns if column.kind == "probability"]
    return {
        **{output + column.suffix: column for column in answers},
        **{name: name.removeprefix(f"{output}_") for name in common},
        **{output + column.suffix: column for column in probabilities},
    }


def _columns(
    frame: Any, added: Mapping[str, Output | str], task: Task, rows: Rows, answers: Answers
) -> dict[str, tuple[list[Any], Any]]:
    """Return the values of the added columns, one per row, with the narwhals dtype."""

    def per_row(by_text: Mapping[int, Any]) -> list[Any]:
        return [None if i is None else by_text.get(i) for i in rows.text_indices]

    outputs = dict(zip(task.outputs, answers.decoded(task), strict=True))
    errors = [rows.errors.get(row) or error for row, error in enumerate(per_row(answers.errors))]
    run_id = answers.record["id"]
    run_ids = {i: run_id for i in (*answers.values, *answers.errors)}
    columns: dict[str, tuple[list[Any], Any]] = {}
    for name, column in added.items():
        if column == "error":
            columns[name] = (errors, nw.String)
        elif column == "run":
            columns[name] = (per_row(run_ids), nw.Categorical)
        else:
            assert not isinstance(column, str)
            values = per_row(outputs[column])
            is_vector = column.dtype == VECTOR
            columns[name] = vector_column(frame, values) if is_vector else (values, column.dtype)
    return columns


def warn_unanswered(
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    answers: Answers,
    monitor: RunMonitor,
    *,
    column: str | None = None,
) -> None:
    """Warn of failed rows, and of a run that was stopped.

    Args:
        rows: The texts of the run.
        labels: Returns the index labels of the rows.
        answers: The results of the run.
        monitor: The monitor of the run.
        column: The column that has the errors; None if there is none.
    """
    if failed := answers.failed_rows(rows):
        error = next(iter(answers.report.errors))
        warn_of_failures(labels(), answers.report.verb, failed, error, column=column)
    warn_if_stopped(answers, monitor)


def warn_of_failures(
    labels: Sequence[Any], verb: str, failed: Sequence[int], error: str, *, column: str | None
) -> None:
    """Warn of rows that have no answer.

    Args:
        labels: The index labels of all rows.
        verb: The name of the verb.
        failed: The positions of the rows without an answer, one or more.
        error: The error to show.
        column: The column that has all errors; None if there is none.
    """
    some = ", ".join(repr(labels[row]) for row in failed[:5])
    more = ", ..." if len(failed) > 5 else ""
    where = "" if column is None else f" All are in {column}."
    warn_user(
        f"{verb}: {len(failed):,} of {counted(len(labels), 'row has', 'rows have')} no answer "
        f"(index {some}{more}): {error.rstrip('.')}.{where}",
    )


def warn_if_stopped(answers: Answers, monitor: RunMonitor) -> None:
    """Warn if a run in the foreground was stopped.

    Args:
        answers: The results of the run.
        monitor: The monitor of the run.
    """
    report = answers.report
    if not report.stopped or monitor.in_background:
        return
    kept = (
        "What was answered is in the ledger: ask again to go on from there."
        if report.ledger
        else "Nothing is on disk, since the ledger is off."
    )
    warn_user(
        f"{report.verb}: {answers.state} with {counted(report.left, 'text')} unanswered; their "
        f"rows are null. {kept}",
    )

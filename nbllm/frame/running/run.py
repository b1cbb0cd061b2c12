"""A question to each row of a frame: texts out of it, and answers back into its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from nbllm.frame.running.report import RunReport
    from nbllm.frame.tasks.base import Output, Task

__all__ = ["added_columns", "answer_frame", "answer_rows", "warn_of_a_stop", "warn_of_failures"]


def answer_frame(
    frame: Any,
    question: Question,
    *,
    any_type: bool = False,
    probabilities_too: bool = False,
    keep: Sequence[str] = KEEP,
    execution: ExecutionOptions | None = None,
    monitor: RunMonitor | None = None,
) -> Any:
    """Ask a question of every row and return the frame with its answers.

    Args:
        frame: a pandas or polars DataFrame, left as it is.
        any_type: take columns that are not text, and a blank value beside others as an empty text.
        probabilities_too: add one column a label.
        keep: which of `KEEP` to add.
        execution: whether the ledger is used, long texts are cut, and where the model runs.
        monitor: that of the verb's call, where it is more than this run.

    Stopped by an interrupt or a cancel, it returns what it has, with a warning.
    """
    rows = read_rows(frame, list(question.columns.values()), any_type=any_type)
    return answer_rows(
        frame,
        rows,
        question,
        probabilities_too=probabilities_too,
        keep=keep,
        execution=execution,
        monitor=monitor,
    )


def answer_rows(
    frame: Any,
    rows: Rows,
    question: Question,
    *,
    probabilities_too: bool = False,
    keep: Sequence[str] = KEEP,
    execution: ExecutionOptions | None = None,
    monitor: RunMonitor | None = None,
) -> Any:
    """As `answer_frame`, of texts that stand for those of the rows."""
    task, output = question.task, question.output
    added = added_columns(task, output, keep, probabilities_too)
    refuse_taken(frame, list(added), ours=f"{output}_run")
    with monitoring(monitor, task.verb, output) as monitor:
        answers = execute(
            question, rows, lambda: index_labels(frame), execution or ExecutionOptions(), monitor
        )
        in_background = monitor.in_background
    # Scores and probabilities of another model would be taken for those of these answers.
    outdated = earlier_columns(frame, output) - {*question.columns.values()}
    answered = write_columns(frame, _columns(frame, added, task, rows, answers), outdated)
    attach(answered, answers.record)
    if failed := answers.failed_rows(rows):
        error = next(iter(answers.report.errors))
        column = f"{output}_error" if "error" in keep else None
        warn_of_failures(index_labels(frame), task.verb, failed, error, column=column)
    if answers.report.stopped and not in_background:
        warn_of_a_stop(answers.report, answers.state)
    return answered


def added_columns(
    task: Task, output: str, keep: Sequence[str], probabilities_too: bool
) -> dict[str, Output | str]:
    """The columns that a run adds, in their order: name to one of the task's, "error" or "run".

    Raises:
        LabelError: two columns would have the same name.
    """
    wanted = {*keep, "field", *(["probability"] if probabilities_too else [])}
    columns = [column for column in task.outputs if column.part in wanted]
    ours = [f"{output}_{part}" for part in ("error", "run") if part in wanted]
    taken = set(ours)
    for column in columns:
        name = output + column.suffix
        if name in taken:
            raise LabelError(
                f"{column.suffix[1:]!r} wants the column {name}, which is there for something "
                "else. Give it another name, or leave the other out by keep=."
            )
        taken.add(name)
    answers = [column for column in columns if column.part != "probability"]
    chances = [column for column in columns if column.part == "probability"]
    return {
        **{output + column.suffix: column for column in answers},
        **{name: name.removeprefix(f"{output}_") for name in ours},
        **{output + column.suffix: column for column in chances},
    }


def _columns(
    frame: Any, added: Mapping[str, Output | str], task: Task, rows: Rows, answers: Answers
) -> dict[str, tuple[list[Any], Any]]:
    """What the added columns hold: values a row, with the narwhals dtype."""

    def spread(by_text: Mapping[int, Any]) -> list[Any]:
        return [None if i is None else by_text.get(i) for i in rows.position]

    made = dict(zip(task.outputs, answers.decoded(task), strict=True))
    errors = [rows.errors.get(row) or error for row, error in enumerate(spread(answers.errors))]
    run_id = answers.record["id"]
    asked = {i: run_id for i in (*answers.values, *answers.errors)}
    columns: dict[str, tuple[list[Any], Any]] = {}
    for name, what in added.items():
        if what == "error":
            columns[name] = (errors, nw.String)
        elif what == "run":
            columns[name] = (spread(asked), nw.Categorical)
        else:
            assert not isinstance(what, str)
            values = spread(made[what])
            is_vector = what.dtype == VECTOR
            columns[name] = vector_column(frame, values) if is_vector else (values, what.dtype)
    return columns


def warn_of_failures(
    labels: Sequence[Any], verb: str, failed: Sequence[int], error: str, *, column: str | None
) -> None:
    """Warn of rows that have no answer.

    Args:
        labels: of all rows.
        failed: the positions of those without, one or more.
        error: that of the first, or the most frequent.
        column: where all errors are; None where they are in none.
    """
    some = ", ".join(repr(labels[row]) for row in failed[:5])
    more = ", ..." if len(failed) > 5 else ""
    where = "" if column is None else f" All are in {column}."
    warn_user(
        f"{verb}: {len(failed):,} of {counted(len(labels), 'row has', 'rows have')} no answer "
        f"(index {some}{more}): {error.rstrip('.')}.{where}",
    )


def warn_of_a_stop(report: RunReport, how: str) -> None:
    """Warn that a run was stopped, and say what became of its answers."""
    kept = (
        "What was answered is in the ledger: ask again to go on from there."
        if report.ledger
        else "Nothing is on disk, since the ledger is off."
    )
    warn_user(
        f"{report.verb}: {how} with {counted(report.left, 'text')} unanswered; their rows are "
        f"null. {kept}",
    )

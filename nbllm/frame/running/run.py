"""One run: a task over the rows of a frame, through a model, to the answered frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.engine.ledger import OFFSET, Ledger, ledger_path
from nbllm.engine.locks import turn
from nbllm.engine.runner import Answered
from nbllm.engine.writing import following
from nbllm.errors import LabelError
from nbllm.frame import KEEP
from nbllm.frame.columns import (
    Rows,
    index_labels,
    read_rows,
    refuse_taken,
    row_key,
    write_columns,
)
from nbllm.frame.running.eta import Forecast
from nbllm.frame.running.local import answer_here
from nbllm.frame.running.progress import Step, Watch, watching
from nbllm.frame.running.provenance import (
    attach,
    earlier_columns,
    remember,
    remember_unfiled,
    run_record,
)
from nbllm.frame.running.ray import answer_on_workers
from nbllm.frame.running.report import RunReport
from nbllm.frame.running.row_events import Teller
from nbllm.frame.tasks.base import check_filed
from nbllm.models.flops import Read, matrix_rate, operation_counter
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import Asked, Output, Task
    from nbllm.models.model import Model

__all__ = ["added_columns", "answer_frame"]


# Answers texts with an offset and a task that is ready here: steps by index in those texts.
_Answer = Callable[[Sequence[tuple[str, ...]], list[float] | None, "Asked"], Iterator[Answered]]


# By question, so that a run without a ledger, or with another one, calibrates no second time.
_offsets: WeakKeyDictionary[Model, dict[str, list[float]]] = WeakKeyDictionary()


class _Stopped(Exception):
    """The run was asked to stop."""


@dataclass
class _Answers:
    """By distinct text: the engine's answers, the errors of those without, and the offset."""

    values: dict[int, Any]
    errors: dict[int, str] = field(default_factory=dict)
    offset: list[float] | None = None
    read: Read = field(default_factory=Read)


def answer_frame(
    frame: Any,
    task: Task,
    model: Model,
    columns: Mapping[str, str],
    *,
    output: str,
    any_type: bool = False,
    probabilities_too: bool = False,
    keep: Sequence[str] = KEEP,
    use_ledger: bool = True,
    truncate: bool = False,
    engine: str = "local",
    workers: int | None = None,
    watch: Watch | None = None,
) -> Any:
    """Ask a task of every row and return the frame with its answers.

    Args:
        frame: a pandas or polars DataFrame, left as it is.
        columns: field of the task's template to column of the frame.
        output: the column of the answers, and the beginning of the others' names.
        any_type: take columns that are not text, and a blank value beside others as an empty text.
        probabilities_too: add one column a label.
        keep: which of `KEEP` to add.
        use_ledger: look answers up in the ledger and file new ones there.
        truncate: cut texts that do not fit the context, instead of failing their rows.
        engine: "local" asks `model` itself, "ray" copies of it on workers.
        workers: how many copies.
        watch: that of the verb's call, where it is more than this run.

    Stopped by an interrupt or a cancel, it returns what it has, with a warning.
    """
    rows = read_rows(frame, list(columns.values()), any_type=any_type)
    added = added_columns(task, output, keep, probabilities_too)
    refuse_taken(frame, list(added), ours=f"{output}_run")
    limit = model.context_length - task.answer_tokens(model)
    record = run_record(task, model, columns, output, limit=limit, truncate=truncate)
    report = RunReport(record["id"], task.verb, output, record["model"])
    report.rows, report.texts = len(rows.position), len(rows.texts)
    started = time.perf_counter()
    answer = _engine(engine, workers, task, model, record)
    step = Step(report)
    if engine == "local" and not task.decodes:
        step.operations = operation_counter(model.network)
    teller = Teller(step, task, frame, rows)
    with (
        watching(watch, task.verb, output) as watch,
        Ledger(ledger_path() if use_ledger else None) as ledger,
    ):
        report.ledger = None if ledger.path is None else str(ledger.path)
        answers = _answer_texts(teller, model, record, ledger, answer, watch)
        record["offset"] = answers.offset
        # A record is filed once, and one that was stopped while it calibrated has no offset yet.
        if answers.values or not report.stopped:
            ledger.open_run(record["id"], record)
        report.seconds = time.perf_counter() - started
        _count(rows, answers, report)
        if report.computed and step.operations is not None:
            report.operations = step.operations(answers.read)
        if ledger.path is not None:
            report.ledger_bytes = ledger.size
        ledger.add_report(record["id"], report.to_dict())
    remember(record, report)
    if report.ledger is None:
        keys = [row_key(text) for text in rows.texts]
        remember_unfiled(record["question"], {keys[i]: v for i, v in answers.values.items()})
    # Scores and probabilities of another model would be taken for those of these answers.
    outdated = earlier_columns(frame, output) - {*columns.values()}
    answered = write_columns(frame, _columns(added, task, rows, answers, record["id"]), outdated)
    attach(answered, record)
    _warn_of_failures(frame, rows, answers, report, said="error" in keep)
    if report.stopped and not watch.beside:
        _warn_of_a_stop(report, step.state)
    return answered


def _engine(
    engine: str, workers: int | None, task: Task, model: Model, record: Mapping[str, Any]
) -> _Answer:
    """What answers texts: the model that is here, or workers that load it too."""
    if engine == "local":
        return lambda texts, offset, asked: answer_here(
            texts, task, model, asked, truncate=record["truncate"]
        )
    return lambda texts, offset, asked: answer_on_workers(
        texts, task, model, record, offset, workers=workers
    )


def _answer_texts(
    teller: Teller,
    model: Model,
    record: Mapping[str, Any],
    ledger: Ledger,
    answer: _Answer,
    watch: Watch,
) -> _Answers:
    texts, task, step = teller.rows.texts, teller.task, teller.step
    report, question = step.report, record["question"]
    started = time.perf_counter()
    keys = [row_key(text) for text in texts]
    known, offsets = ledger.known(question, [*keys, OFFSET]), _offsets.setdefault(model, {})
    check_filed(task, known, ledger.path)
    answers = _Answers(
        {i: known[key] for i, key in enumerate(keys) if key in known},
        offset=known.get(OFFSET, offsets.get(question)),
    )
    failed = ledger.failed(question, keys)
    answers.errors.update({i: failed[key] for i, key in enumerate(keys) if key in failed})
    report.known = len(answers.values)
    report.failed = len(answers.errors)
    unanswered = [
        i for i in range(len(texts)) if i not in answers.values and i not in answers.errors
    ]
    if not unanswered:
        return answers

    def pause() -> None:
        report.seconds = time.perf_counter() - started
        if watch.cancelled:
            raise _Stopped

    with watch.following(step), following(step.wrote):
        try:
            pause()
            with turn:
                asked = task.on(model, record["limit"])
            offset = asked.calibrate(answers.offset, pause)
            answers.read = step.read = asked.before
            if step.operations is not None:  # measured while nothing else computes
                report.matrix_rate = matrix_rate(model.device, model.dtype)
            report.prefix_tokens = asked.prefix_tokens
            if offset is not None and OFFSET not in known:
                answers.offset = offsets[question] = offset
                ledger.commit(question, {OFFSET: offset})
            teller.known(answers.values, answers.errors, offset)
            left = [texts[i] for i in unanswered]
            step.begin_answers(Forecast.of(left, asked, task, model))
            for done in answer(left, offset, asked):
                done = replace(
                    done,
                    answers={unanswered[i]: value for i, value in done.answers.items()},
                    errors={unanswered[i]: why for i, why in done.errors.items()},
                    lasting=[unanswered[i] for i in done.lasting],
                )
                # Before anything is shown of it; what failed for want of memory, or for a reason
                # that may pass, is asked again the next time.
                ledger.commit(question, {keys[i]: value for i, value in done.answers.items()})
                ledger.commit_failed(question, {keys[i]: done.errors[i] for i in done.lasting})
                answers.values.update(done.answers)
                answers.errors.update(done.errors)
                answers.read += done.read
                step.read = answers.read
                report.add(done)
                report.failed = len(answers.errors)
                teller.batch(done, offset)
                pause()
        except _Stopped:
            step.state = "cancelled"
        except KeyboardInterrupt:
            step.state = "interrupted"
        report.stopped = step.state in ("cancelled", "interrupted")
    return answers


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
    added: Mapping[str, Output | str], task: Task, rows: Rows, answers: _Answers, run_id: str
) -> dict[str, tuple[list[Any], Any]]:
    """What the added columns hold: values a row, with the narwhals dtype."""

    def spread(by_text: Mapping[int, Any]) -> list[Any]:
        return [None if i is None else by_text.get(i) for i in rows.position]

    texts = list(answers.values)
    read = task.values([answers.values[i] for i in texts], answers.offset)
    made = dict(zip(task.outputs, read, strict=True))
    errors = [rows.errors.get(row) or error for row, error in enumerate(spread(answers.errors))]
    asked = {i: run_id for i in (*answers.values, *answers.errors)}
    columns: dict[str, tuple[list[Any], Any]] = {}
    for name, what in added.items():
        if what == "error":
            columns[name] = (errors, nw.String)
        elif what == "run":
            columns[name] = (spread(asked), nw.Categorical)
        else:
            assert not isinstance(what, str)
            columns[name] = (spread(dict(zip(texts, made[what], strict=True))), what.dtype)
    return columns


def _count(rows: Rows, answers: _Answers, report: RunReport) -> None:
    asked = [i for i in rows.position if i is not None]
    report.merged = len(asked) - len(rows.texts)
    report.failed = len(answers.errors) + len(rows.errors)
    report.blank = len(rows.position) - len(asked) - len(rows.errors)
    report.left = len(rows.texts) - len(answers.values) - len(answers.errors)
    report.errors = dict(Counter([*answers.errors.values(), *rows.errors.values()]).most_common(5))


def _warn_of_failures(
    frame: Any, rows: Rows, answers: _Answers, report: RunReport, *, said: bool
) -> None:
    failed = [
        row
        for row, i in enumerate(rows.position)
        if row in rows.errors or (i is not None and i in answers.errors)
    ]
    if failed:
        labels = index_labels(frame)
        some = ", ".join(repr(labels[row]) for row in failed[:5])
        more = ", ..." if len(failed) > 5 else ""
        where = f" All are in {report.output}_error." if said else ""
        warn_user(
            f"{report.verb}: {len(failed):,} of {counted(report.rows, 'row has', 'rows have')} no "
            f"answer (index {some}{more}): {next(iter(report.errors)).rstrip('.')}.{where}",
        )


def _warn_of_a_stop(report: RunReport, how: str) -> None:
    kept = (
        "What was answered is in the ledger: ask again to go on from there."
        if report.ledger
        else "Nothing is on disk, since the ledger is off."
    )
    warn_user(
        f"{report.verb}: {how} with {counted(report.left, 'text')} unanswered; their rows are "
        f"null. {kept}",
    )

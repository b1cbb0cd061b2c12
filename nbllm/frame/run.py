"""One run: a task over the rows of a frame, through a model, to the answered frame."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import narwhals as nw
from tqdm.auto import tqdm

from nbllm.engine.ledger import OFFSET, Ledger, ledger_path
from nbllm.engine.runner import Answered
from nbllm.engine.turns import turn
from nbllm.errors import FrameError, LabelError
from nbllm.frame import KEEP
from nbllm.frame.columns import Rows, index_labels, read_rows, refuse_taken, row_key, write_columns
from nbllm.frame.provenance import attach, remember, run_record
from nbllm.frame.report import RunReport
from nbllm.frame.scale import answer_on_workers
from nbllm.frame.steps import answer_here
from nbllm.models.work import Read, matrix_rate, operations

if TYPE_CHECKING:
    from nbllm.frame.kinds.task import Asked, Output, Task
    from nbllm.models.model import Model

__all__ = ["answer_frame"]


# Answers texts with an offset and a task that is ready here: steps by index in those texts.
_Answer = Callable[[Sequence[tuple[str, ...]], list[float] | None, "Asked"], Iterator[Answered]]


class _Stopped(Exception):
    """`go_on` said no."""


@dataclass
class _Answers:
    """By distinct text: the engine's answers, the errors of those without, and the offset."""

    values: dict[int, Any]
    errors: dict[int, str] = field(default_factory=dict)
    offset: list[float] | None = None
    read: Read = field(default_factory=Read)
    interrupted: bool = False


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
    go_on: Callable[[RunReport], bool] = lambda report: True,
) -> Any:
    """Ask a task of every row and return the frame with its answers.

    Args:
        frame: a pandas or polars DataFrame, left as it is.
        columns: field of the task's template to column of the frame.
        output: the column of the answers, and the beginning of the others' names.
        any_type: take columns that are not text, as `str` writes their values.
        probabilities_too: add one column a label.
        keep: which of `KEEP` to add.
        use_ledger: look answers up in the ledger and file new ones there.
        truncate: cut texts that do not fit the context, instead of failing their rows.
        engine: "local" asks `model` itself, "ray" copies of it on workers.
        workers: how many copies.
        go_on: told of the report before the first batch and after every one, also of those that
            calibration reads, it says whether to ask the next.

    Stopped by an interrupt, with a warning, or by `go_on`, it returns what it has.
    """
    unknown = [name for name in keep if name not in KEEP]
    if unknown:
        raise FrameError(f"keep={unknown[0]!r} is none of {', '.join(KEEP)}. Choose among those.")
    rows = read_rows(frame, list(columns.values()), any_type=any_type)
    added = _added(task, output, keep, probabilities_too)
    refuse_taken(frame, list(added), ours=f"{output}_run")
    limit = model.context_length - task.answer_tokens(model)
    record = run_record(task, model, columns, output, limit=limit, truncate=truncate)
    report = RunReport(record["id"], task.verb, output, record["model"])
    report.rows, report.texts = len(rows.position), len(rows.texts)
    started = time.perf_counter()
    answer = _engine(engine, workers, task, model, record)
    with Ledger(ledger_path() if use_ledger else None) as ledger:
        answers = _answer_texts(rows.texts, task, model, record, ledger, report, answer, go_on)
        record["offset"] = answers.offset
        ledger.open_run(record["id"], record)
        report.seconds = time.perf_counter() - started
        _count(rows, answers, report)
        if report.computed and engine == "local" and not task.decodes:
            report.operations = operations(model.network, answers.read)
            report.matrix_rate = matrix_rate(model.device, model.dtype)
        if ledger.path is not None:
            report.ledger, report.ledger_bytes = str(ledger.path), ledger.size
        ledger.add_report(record["id"], report.to_dict())
    remember(record, report)
    answered = write_columns(frame, _columns(added, task, rows, answers, record["id"]))
    attach(answered, record)
    _warn_of_failures(frame, rows, answers, report, said="error" in keep)
    if answers.interrupted:
        _warn_of_a_stop(report)
    return answered


def _engine(
    engine: str, workers: int | None, task: Task, model: Model, record: Mapping[str, Any]
) -> _Answer:
    """What answers texts: the model that is here, or workers that load it too."""
    if engine == "local":
        return lambda texts, offset, asked: answer_here(
            texts, task, model, asked, truncate=record["truncate"]
        )
    if engine == "ray":
        return lambda texts, offset, asked: answer_on_workers(
            texts, task, model, record, offset, workers=workers
        )
    raise FrameError(f"engine={engine!r} is neither local nor ray. Choose one of them.")


def _answer_texts(
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    record: Mapping[str, Any],
    ledger: Ledger,
    report: RunReport,
    answer: _Answer,
    go_on: Callable[[RunReport], bool],
) -> _Answers:
    started = time.perf_counter()
    question = record["question"]
    keys = [row_key(text) for text in texts]
    known = ledger.known(question, [*keys, OFFSET])
    answers = _Answers(
        {i: known[key] for i, key in enumerate(keys) if key in known}, offset=known.get(OFFSET)
    )
    report.known = len(answers.values)
    unanswered = [i for i in range(len(texts)) if i not in answers.values]
    if not unanswered:
        return answers
    bar = tqdm(
        total=len(texts), initial=report.known, desc=task.verb, unit="row", dynamic_ncols=True
    )

    def step() -> None:
        report.seconds = time.perf_counter() - started
        if not go_on(report):
            raise _Stopped

    try:
        with bar:
            step()
            with turn:
                asked = task.on(model, record["limit"])
            bar.set_postfix_str("getting ready")
            offset = asked.calibrate(answers.offset, step)
            bar.set_postfix_str("")
            answers.read = asked.before
            report.prefix_tokens = asked.prefix_tokens
            if offset is not None and answers.offset is None:
                answers.offset = offset
                ledger.commit(question, {OFFSET: offset})
            for done in answer([texts[i] for i in unanswered], offset, asked):
                some = {unanswered[i]: value for i, value in done.answers.items()}
                # Before anything is shown of it; what failed is asked again the next time.
                ledger.commit(question, {keys[i]: value for i, value in some.items()})
                answers.values.update(some)
                answers.errors.update({unanswered[i]: why for i, why in done.errors.items()})
                answers.read += done.read
                report.add(done)
                report.failed = len(answers.errors)
                bar.update(len(done.answers) + len(done.errors))
                if answers.errors:
                    bar.set_postfix(failed=len(answers.errors))
                step()
    except _Stopped:
        report.stopped = True
    except KeyboardInterrupt:
        report.stopped = answers.interrupted = True
    return answers


def _added(
    task: Task, output: str, keep: Sequence[str], probabilities_too: bool
) -> dict[str, Output | str]:
    """The columns to be added, in their order: name to one of the task's, "error" or "run"."""
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
        warnings.warn(
            f"{report.verb}: {len(failed):,} of {report.rows:,} rows have no answer (index "
            f"{some}{more}): {next(iter(report.errors)).rstrip('.')}.{where}",
            stacklevel=5,
        )


def _warn_of_a_stop(report: RunReport) -> None:
    kept = (
        "What was answered is in the ledger: ask again to go on from there."
        if report.ledger
        else "Nothing is kept, since the ledger is off."
    )
    warnings.warn(
        f"{report.verb}: interrupted with {report.left:,} texts unanswered; their rows are null. "
        f"{kept}",
        stacklevel=5,
    )

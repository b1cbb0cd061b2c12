"""One question to a model about some texts, answered: the ledger first, then the model.

Texts are known by their number from beginning to end. Where they come from and where their
answers go, in a frame or in the next question of a verb that has several, is no matter here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nbllm.engine.ledger import OFFSET, Ledger, ledger_path
from nbllm.engine.locks import FORWARD_LOCK
from nbllm.engine.runner import BatchResult
from nbllm.engine.token_events import on_each_token
from nbllm.frame.columns import Rows, row_key
from nbllm.frame.running.eta import Forecast
from nbllm.frame.running.local import answer_locally
from nbllm.frame.running.progress import RunMonitor, Step
from nbllm.frame.running.provenance import remember, remember_unfiled, run_record
from nbllm.frame.running.ray import answer_on_workers
from nbllm.frame.running.report import RunReport
from nbllm.frame.running.row_events import RowEvents
from nbllm.frame.tasks.base import check_filed
from nbllm.models.flops import TokenCounts, matrix_rate, operation_counter

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import BoundTask, Task
    from nbllm.models.model import Model

__all__ = ["Answers", "ExecutionOptions", "Question", "execute"]

# Answers texts with an offset and a task that is ready here: steps by index in those texts.
_Answer = Callable[
    [Sequence[tuple[str, ...]], list[float] | None, "BoundTask"], Iterator[BatchResult]
]

# By question, so that a run without a ledger, or with another one, calibrates no second time.
_offsets: WeakKeyDictionary[Model, dict[str, list[float]]] = WeakKeyDictionary()


class _Stopped(Exception):
    """The run was asked to stop."""


@dataclass(frozen=True)
class ExecutionOptions:
    """How questions are run, whatever they ask.

    Args:
        use_ledger: look answers up in the ledger and file new ones there.
        truncate: cut texts that do not fit the context, instead of failing them.
        engine: "local" asks the model itself, "ray" copies of it on workers.
        workers: how many copies.
    """

    use_ledger: bool = True
    truncate: bool = False
    engine: str = "local"
    workers: int | None = None


@dataclass
class Question:
    """A task for a model, which is made ready once however often it is asked.

    Args:
        columns: field of the task's template to column of the frame, as the record names them.
        output: the column of the answers, as the record names it.
        verb_format: which way the verb asks the same question.
    """

    task: Task
    model: Model
    columns: Mapping[str, str]
    output: str
    verb_format: int = 0
    _ready: list[BoundTask] = field(default_factory=list, repr=False)

    @property
    def limit(self) -> int:
        """Tokens that a prompt may have."""
        return self.model.context_length - self.task.answer_tokens(self.model)

    def record(self, *, truncate: bool) -> dict[str, Any]:
        """What a run of it is, see `run_record`."""
        return run_record(
            self.task,
            self.model,
            self.columns,
            self.output,
            limit=self.limit,
            truncate=truncate,
            verb_format=self.verb_format,
        )

    def ready(self) -> BoundTask:
        """The task on the model, its shared prefix computed."""
        if not self._ready:
            with FORWARD_LOCK:
                self._ready.append(self.task.bind(self.model, self.limit))
        return self._ready[0]

    def filed_under(self, columns: Mapping[str, str], output: str) -> Question:
        """The same question, made ready together with this one, under other names."""
        return replace(self, columns=columns, output=output)


@dataclass
class Answers:
    """By number of the text: the engine's answers, and the errors of those without one."""

    record: dict[str, Any]
    report: RunReport
    state: str = "done"
    values: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    offset: list[float] | None = None
    read: TokenCounts = field(default_factory=TokenCounts)

    def decoded(self, task: Task) -> list[dict[int, Any]]:
        """What each of the task's outputs holds, by number of the text."""
        texts = list(self.values)
        columns = task.decode([self.values[i] for i in texts], self.offset)
        return [dict(zip(texts, column, strict=True)) for column in columns]

    def failed_rows(self, rows: Rows) -> list[int]:
        """The positions of rows that have an error."""
        return [
            row
            for row, i in enumerate(rows.position)
            if row in rows.errors or (i is not None and i in self.errors)
        ]


def execute(
    question: Question,
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    execution: ExecutionOptions,
    monitor: RunMonitor,
) -> Answers:
    """Answer texts.

    Args:
        rows: the texts, and which rows have them, by which progress and failures are counted.
        labels: the labels of the rows.

    Stopped by an interrupt or a cancel, it returns what it has, and `state` says so.
    """
    task, model = question.task, question.model
    record = question.record(truncate=execution.truncate)
    report = RunReport(record["id"], task.verb, question.output, record["model"])
    report.rows, report.texts = len(rows.position), len(rows.texts)
    started = time.perf_counter()
    step = Step(report)
    if execution.engine == "local" and not task.decodes:
        step.operations = operation_counter(model.network)
    events = RowEvents(step, task, labels, rows)
    with Ledger(ledger_path() if execution.use_ledger else None) as ledger:
        report.ledger = None if ledger.path is None else str(ledger.path)
        answers = Answers(record, report)
        _answer_texts(
            question, answers, events, ledger, _engine(question, record, execution), monitor
        )
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
    answers.state = step.state
    return answers


def _engine(question: Question, record: Mapping[str, Any], execution: ExecutionOptions) -> _Answer:
    """What answers texts: the model that is here, or workers that load it too."""
    task, model = question.task, question.model
    if execution.engine == "local":
        return lambda texts, offset, bound: answer_locally(
            texts, task, model, bound, truncate=execution.truncate
        )
    return lambda texts, offset, bound: answer_on_workers(
        texts, task, model, record, offset, workers=execution.workers
    )


def _answer_texts(
    question: Question,
    answers: Answers,
    events: RowEvents,
    ledger: Ledger,
    answer: _Answer,
    monitor: RunMonitor,
) -> None:
    texts, task, step = events.rows.texts, events.task, events.step
    report, filed_as = step.report, answers.record["question"]
    started = time.perf_counter()
    keys = [row_key(text) for text in texts]
    known = ledger.known(filed_as, [*keys, OFFSET])
    offsets = _offsets.setdefault(question.model, {})
    check_filed(task, known, ledger.path)
    answers.values = {i: known[key] for i, key in enumerate(keys) if key in known}
    answers.offset = known.get(OFFSET, offsets.get(filed_as))
    failed = ledger.failed(filed_as, keys)
    answers.errors = {i: failed[key] for i, key in enumerate(keys) if key in failed}
    report.known = len(answers.values)
    report.failed = len(answers.errors)
    unanswered = [
        i for i in range(len(texts)) if i not in answers.values and i not in answers.errors
    ]
    if not unanswered:
        return

    def pause() -> None:
        report.seconds = time.perf_counter() - started
        if monitor.cancelled:
            raise _Stopped

    with monitor.track(step), on_each_token(step.add_token):
        try:
            pause()
            bound = question.ready()
            offset = bound.calibrate(answers.offset, pause)
            answers.read = step.read = bound.setup_tokens
            if step.operations is not None:  # measured while nothing else computes
                report.matrix_rate = matrix_rate(question.model.device, question.model.dtype)
            report.prefix_tokens = bound.prefix_tokens
            if offset is not None and OFFSET not in known:
                answers.offset = offsets[filed_as] = offset
                ledger.commit(filed_as, {OFFSET: offset})
            events.report_known(answers.values, answers.errors, offset)
            left = [texts[i] for i in unanswered]
            step.begin_answers(Forecast.of(left, bound, task, question.model))
            for done in answer(left, offset, bound):
                done = replace(
                    done,
                    answers={unanswered[i]: value for i, value in done.answers.items()},
                    errors={unanswered[i]: why for i, why in done.errors.items()},
                    lasting=[unanswered[i] for i in done.lasting],
                )
                # Before anything is shown of it; what failed for want of memory, or for a reason
                # that may pass, is asked again the next time.
                ledger.commit(filed_as, {keys[i]: value for i, value in done.answers.items()})
                ledger.commit_failed(filed_as, {keys[i]: done.errors[i] for i in done.lasting})
                answers.values.update(done.answers)
                answers.errors.update(done.errors)
                answers.read += done.read
                step.read = answers.read
                report.add(done)
                report.failed = len(answers.errors)
                events.report_batch(done, offset)
                pause()
        except _Stopped:
            step.state = "cancelled"
        except KeyboardInterrupt:
            step.state = "interrupted"
        report.stopped = step.state in ("cancelled", "interrupted")


def _count(rows: Rows, answers: Answers, report: RunReport) -> None:
    asked = [i for i in rows.position if i is not None]
    report.merged = len(asked) - len(rows.texts)
    report.failed = len(answers.errors) + len(rows.errors)
    report.blank = len(rows.position) - len(asked) - len(rows.errors)
    report.left = len(rows.texts) - len(answers.values) - len(answers.errors)
    report.errors = dict(Counter([*answers.errors.values(), *rows.errors.values()]).most_common(5))

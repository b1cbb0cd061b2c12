"""Runs one question about texts: answers from the ledger first, then from the model.

Texts and answers are identified by the index of the text in `Rows.texts`. Reading texts from a
frame and writing answers into its columns is the callers' task.
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
from nbllm.frame.running.eta import EtaEstimator
from nbllm.frame.running.local import answer_locally, renumbered
from nbllm.frame.running.progress import RunMonitor, Step
from nbllm.frame.running.provenance import remember, remember_answers
from nbllm.frame.running.ray import answer_on_workers
from nbllm.frame.running.report import RunReport
from nbllm.frame.running.row_events import RowEvents
from nbllm.frame.running.run_record import run_record
from nbllm.frame.tasks.base import check_ledger_entries
from nbllm.models.flops import TokenCounts, matrix_rate, operation_counter

if TYPE_CHECKING:
    from nbllm.frame.tasks.base import BoundTask, Task
    from nbllm.models.model import Model

__all__ = ["Answers", "ExecutionOptions", "Question", "execute"]

# Answers texts, given the calibration offset and the bound task. Yields results by text index.
_Engine = Callable[
    [Sequence[tuple[str, ...]], list[float] | None, "BoundTask"], Iterator[BatchResult]
]

# By question, so that a run without a ledger, or with another one, does not calibrate again.
_offsets: WeakKeyDictionary[Model, dict[str, list[float]]] = WeakKeyDictionary()


class _Stopped(Exception):
    """The run was cancelled."""


@dataclass(frozen=True)
class ExecutionOptions:
    """Options of a run that are independent of its question.

    Args:
        use_ledger: Whether to look up answers in the ledger and store new ones there.
        truncate: Whether to cut texts that do not fit the context, instead of failing them.
        engine: "local" runs the model in this process, "ray" copies of it on workers.
        workers: The number of copies; None chooses it by the hardware.
    """

    use_ledger: bool = True
    truncate: bool = False
    engine: str = "local"
    workers: int | None = None


@dataclass
class Question:
    """A task for a model, bound to it once however often the question is run.

    Args:
        task: The task.
        model: The model.
        columns: The column of the frame for each field of the task's template.
        output: The column of the answers.
        verb_format: The version of the verb's prompts, see `run_record`.
    """

    task: Task
    model: Model
    columns: Mapping[str, str]
    output: str
    verb_format: int = 0
    _bound: list[BoundTask] = field(default_factory=list, repr=False)

    @property
    def limit(self) -> int:
        """The maximal number of tokens of a prompt."""
        return self.model.context_length - self.task.answer_tokens(self.model)

    def record(self, *, truncate: bool) -> dict[str, Any]:
        """Return the record of a run of this question, see `run_record`.

        Args:
            truncate: Whether the run cuts texts that do not fit.
        """
        return run_record(
            self.task,
            self.model,
            self.columns,
            self.output,
            limit=self.limit,
            truncate=truncate,
            verb_format=self.verb_format,
        )

    def bind(self) -> BoundTask:
        """Return the task bound to the model, its shared prefix computed."""
        if not self._bound:
            with FORWARD_LOCK:
                self._bound.append(self.task.bind(self.model, self.limit))
        return self._bound[0]

    def with_names(self, columns: Mapping[str, str], output: str) -> Question:
        """Return the question under other column names, sharing the bound task.

        Args:
            columns: The column for each field of the task's template.
            output: The column of the answers.
        """
        return replace(self, columns=columns, output=output)


@dataclass
class Answers:
    """The results of a run by text index: the model's answers, and errors where there is none."""

    record: dict[str, Any]
    report: RunReport
    state: str = "done"
    values: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    offset: list[float] | None = None
    tokens_read: TokenCounts = field(default_factory=TokenCounts)

    def decoded(self, task: Task) -> list[dict[int, Any]]:
        """Return the values of each of the task's outputs, by text index."""
        texts = list(self.values)
        columns = task.decode([self.values[i] for i in texts], self.offset)
        return [dict(zip(texts, column, strict=True)) for column in columns]

    def failed_rows(self, rows: Rows) -> list[int]:
        """Return the positions of rows that have an error."""
        return [
            row
            for row, i in enumerate(rows.text_indices)
            if row in rows.errors or (i is not None and i in self.errors)
        ]


def execute(
    question: Question,
    rows: Rows,
    labels: Callable[[], Sequence[Any]],
    execution: ExecutionOptions,
    monitor: RunMonitor,
) -> Answers:
    """Answer texts and return the answers; the answers so far if the run is stopped.

    Args:
        question: The question to run.
        rows: The texts, and the rows that have them.
        labels: Returns the index labels of the rows.
        execution: The options of the run.
        monitor: The monitor that displays and cancels the run.
    """
    task, model = question.task, question.model
    record = question.record(truncate=execution.truncate)
    report = RunReport(record["id"], task.verb, question.output, record["model"])
    report.rows, report.texts = len(rows.text_indices), len(rows.texts)
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
        # A record is stored only once, so not before the calibration offset is known.
        if answers.values or not report.stopped:
            ledger.open_run(record["id"], record)
        report.seconds = time.perf_counter() - started
        _count(rows, answers, report)
        if report.computed and step.operations is not None:
            report.operations = step.operations(answers.tokens_read)
        if ledger.path is not None:
            report.ledger_bytes = ledger.size
        ledger.add_report(record["id"], report.to_dict())
    remember(record, report)
    if report.ledger is None:
        keys = [row_key(text) for text in rows.texts]
        remember_answers(record["question"], {keys[i]: v for i, v in answers.values.items()})
    answers.state = step.state
    return answers


def _engine(question: Question, record: Mapping[str, Any], execution: ExecutionOptions) -> _Engine:
    """Return the function that answers texts, in this process or on Ray workers."""
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
    answer: _Engine,
    monitor: RunMonitor,
) -> None:
    texts, task, step = events.rows.texts, events.task, events.step
    report, question_key = step.report, answers.record["question"]
    started = time.perf_counter()
    keys = [row_key(text) for text in texts]
    known = ledger.known(question_key, [*keys, OFFSET])
    offsets = _offsets.setdefault(question.model, {})
    check_ledger_entries(task, known, ledger.path)
    answers.values = {i: known[key] for i, key in enumerate(keys) if key in known}
    answers.offset = known.get(OFFSET, offsets.get(question_key))
    failed = ledger.failed(question_key, keys)
    answers.errors = {i: failed[key] for i, key in enumerate(keys) if key in failed}
    report.known = len(answers.values)
    report.failed = len(answers.errors)
    unanswered = [
        i for i in range(len(texts)) if i not in answers.values and i not in answers.errors
    ]
    if not unanswered:
        return

    def check_cancelled() -> None:
        report.seconds = time.perf_counter() - started
        if monitor.cancelled:
            raise _Stopped

    with monitor.track(step), on_each_token(step.add_token):
        try:
            check_cancelled()
            bound = question.bind()
            offset = bound.calibrate(answers.offset, check_cancelled)
            answers.tokens_read = step.tokens_read = bound.setup_tokens
            if step.operations is not None:  # measured while nothing else computes
                report.matrix_rate = matrix_rate(question.model.device, question.model.dtype)
            report.prefix_tokens = bound.prefix_tokens
            if offset is not None and OFFSET not in known:
                answers.offset = offsets[question_key] = offset
                ledger.commit(question_key, {OFFSET: offset})
            events.report_known(answers.values, answers.errors, offset)
            left = [texts[i] for i in unanswered]
            step.begin_answers(EtaEstimator.for_run(left, bound, task, question.model))
            for done in answer(left, offset, bound):
                done = renumbered(done, unanswered)
                # Before any of it is shown. Transient errors, such as a lack of memory, are not
                # stored, so that the next run retries those texts.
                ledger.commit(question_key, {keys[i]: value for i, value in done.answers.items()})
                ledger.commit_failed(question_key, {keys[i]: done.errors[i] for i in done.lasting})
                answers.values.update(done.answers)
                answers.errors.update(done.errors)
                answers.tokens_read += done.read
                step.tokens_read = answers.tokens_read
                report.add(done)
                report.failed = len(answers.errors)
                events.report_batch(done, offset)
                check_cancelled()
        except _Stopped:
            step.state = "cancelled"
        except KeyboardInterrupt:
            step.state = "interrupted"
        report.stopped = step.state in ("cancelled", "interrupted")


def _count(rows: Rows, answers: Answers, report: RunReport) -> None:
    with_text = [i for i in rows.text_indices if i is not None]
    report.merged = len(with_text) - len(rows.texts)
    report.failed = len(answers.errors) + len(rows.errors)
    report.blank = len(rows.text_indices) - len(with_text) - len(rows.errors)
    report.left = len(rows.texts) - len(answers.values) - len(answers.errors)
    report.errors = dict(Counter([*answers.errors.values(), *rows.errors.values()]).most_common(5))

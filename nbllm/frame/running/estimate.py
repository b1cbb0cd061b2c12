"""Estimates the tokens, time and memory of a run beforehand, by trials on some of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbllm.display.card import card, terms, terms_text
from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.generation import TextGenerator
from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.engine.locks import FORWARD_LOCK
from nbllm.engine.prompt import Prompt
from nbllm.frame.columns import Rows, read_rows, row_key
from nbllm.frame.tasks.bound_prompt import BoundPromptTask
from nbllm.models.memory.budget import held_bytes, kv_bytes
from nbllm.wording import byte_size, counted, rough_duration

if TYPE_CHECKING:
    from nbllm.frame.running.execute import Question
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = [
    "RunEstimate",
    "StepsEstimate",
    "estimate_rows",
    "estimate_run",
    "estimate_without_model",
]

_TRIAL_TEXTS = 64  # for a verb without a model
_TRIAL_ROWS = 16  # for a verb with a model
_TRIAL_STEPS = (
    2,
    10,
)  # tokens to generate in two trials, whose difference gives the time per token


@dataclass(frozen=True)
class RunEstimate:
    """The estimated tokens, time and memory of a run.

    The time is extrapolated from trials on some of the rows. For generated answers it is an upper
    bound: every answer is assumed to have the maximal length.
    """

    verb: str
    rows: int
    blank: int
    texts: int  # distinct
    known: int  # distinct texts with an answer in the ledger
    failing: int  # distinct texts that make no prompt, such as too long ones
    batches: int
    tokens: int  # in all prompts, without the shared prefix
    padding: int  # tokens
    answer_tokens: int  # to generate at most
    seconds: float  # of wall clock
    weights: int  # bytes; 0 for a verb without a model
    cache: int  # bytes of the keys and values of the largest batch

    def lines(self) -> dict[str, str]:
        """Return the estimate as text by label, in display order."""
        if not self.weights:
            return {
                "rows": f"{self.rows:,} ({counted(self.texts, 'text')} to read, {self.blank:,} "
                "blank)",
                "tokens": "none: no model is asked",
                "time": rough_duration(self.seconds),
                "memory": "no weights",
            }
        unanswered = self.texts - self.known - self.failing
        written = f", up to {self.answer_tokens:,} written" if self.answer_tokens else ""
        return {
            "rows": f"{self.rows:,} ({counted(unanswered, 'text')} to ask, {self.known:,} in the "
            f"ledger, {self.blank:,} blank, {self.failing:,} that cannot be asked)",
            "tokens": f"{self.tokens:,} read in {counted(self.batches, 'batch', 'batches')} "
            f"(and {self.padding:,} of padding){written}",
            "time": rough_duration(self.seconds) + (" at most" if self.answer_tokens else ""),
            "memory": f"{byte_size(self.weights)} of weights, {byte_size(self.cache)} of keys and "
            "values in the largest batch",
        }

    def __str__(self) -> str:
        return terms_text(f"{self.verb}, estimated", self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card(f"{self.verb}, estimated", terms(self.lines()))


@dataclass(frozen=True)
class StepsEstimate:
    """The estimates of a verb that runs several questions per row."""

    verb: str
    steps: Mapping[str, RunEstimate]  # by the name of the step

    @property
    def rows(self) -> int:
        """The number of rows of the frame."""
        return list(self.steps.values())[-1].rows

    @property
    def tokens(self) -> int:
        """The number of tokens in all prompts, without the shared prefixes."""
        return sum(step.tokens for step in self.steps.values())

    @property
    def seconds(self) -> float:
        """The seconds of wall clock of all steps."""
        return sum(step.seconds for step in self.steps.values())

    @property
    def memory(self) -> int:
        """The bytes of the weights and of the largest batch's keys and values."""
        return max(step.weights + step.cache for step in self.steps.values())

    def lines(self) -> dict[str, str]:
        """Return the estimate as text by label, in display order."""
        found = {"rows": f"{self.rows:,}"}
        for name, step in self.steps.items():
            lines = step.lines()
            found[name] = f"{lines['time']}; tokens: {lines['tokens']}"
        return found | {
            "all": f"{rough_duration(self.seconds)}, at most; tokens: {self.tokens:,} read",
            "memory": f"{byte_size(self.memory)} of weights, keys and values at most",
        }

    def __str__(self) -> str:
        return terms_text(f"{self.verb}, estimated", self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card(f"{self.verb}, estimated", terms(self.lines()))


def estimate_run(
    frame: Any,
    question: Question,
    *,
    any_type: bool = False,
    truncate: bool = False,
) -> RunEstimate:
    """Return the estimate of `answer_frame` with the same arguments, by trials on some rows.

    Args:
        frame: A pandas or polars DataFrame.
        question: The question to run.
        any_type: Whether to accept columns that are not text.
        truncate: Whether to cut texts that do not fit, instead of failing their rows.
    """
    rows = read_rows(frame, list(question.columns.values()), any_type=any_type)
    return estimate_rows(rows, question, truncate=truncate)


def estimate_rows(rows: Rows, question: Question, *, truncate: bool) -> RunEstimate:
    """Return the estimate of a question about texts, see `estimate_run`.

    Args:
        rows: The texts.
        question: The question to run.
        truncate: Whether to cut texts that do not fit, instead of failing their rows.
    """
    task, model, limit = question.task, question.model, question.limit
    room = task.answer_tokens(model)
    record = question.record(truncate=truncate)
    keys = [row_key(text) for text in rows.texts]
    known: Mapping[str, Any] = {}
    if ledger_path().exists():
        with Ledger(ledger_path()) as ledger:
            known = ledger.known(record["question"], keys)
    unanswered = [text for text, key in zip(rows.texts, keys, strict=True) if key not in known]
    bound = question.bind()
    prompts = [p for p in bound.encode(unanswered, truncate=truncate) if isinstance(p, Prompt)]
    lengths = [len(prompt.ids) - prompt.prefix_length for prompt in prompts]
    with_answers = [length + room for length in lengths]
    budget = TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens)
    planned = list(batches(with_answers, budget, bound.prefix_tokens))
    padded = [max(lengths[i] for i in batch) * len(batch) for batch in planned]
    cached = [
        (bound.prefix_tokens + max(with_answers[i] for i in batch)) * len(batch)
        for batch in planned
    ]
    return RunEstimate(
        verb=task.verb,
        rows=len(rows.text_indices),
        blank=sum(i is None for i in rows.text_indices),
        texts=len(rows.texts),
        known=len(known),
        failing=len(unanswered) - len(prompts),
        batches=len(planned),
        tokens=sum(lengths),
        padding=sum(padded) - sum(lengths),
        answer_tokens=room * len(prompts) if task.decodes else 0,
        seconds=_seconds(task, model, limit, prompts, planned) if prompts else 0.0,
        weights=held_bytes(model.network),
        cache=kv_bytes(model.network.config, model.dtype, 1) * max(cached, default=0),
    )


def _seconds(
    task: Task, model: Model, limit: int, prompts: Sequence[Prompt], planned: list[list[int]]
) -> float:
    """Return the estimated seconds of all planned batches, by trials on rows of the middle one."""
    middle = planned[len(planned) // 2][:_TRIAL_ROWS]
    if not task.decodes:
        seconds = _time(task, model, limit, [prompts[i] for i in middle])
        size = max(len(prompts[i].ids) for i in middle) * len(middle)
        total = sum(max(len(prompts[i].ids) for i in batch) * len(batch) for batch in planned)
        return seconds * total / size
    # A decoding step loads the weights once for all rows, and then takes some time per row.
    one, several = [prompts[middle[0]]], [prompts[i] for i in middle]
    (start, step), (starts, steps) = (
        _prefill_and_step(task, model, limit, rows) for rows in (one, several)
    )
    per_row = max(0.0, steps - step) / max(1, len(several) - 1)
    shared = max(0.0, step - per_row)
    prefill = (starts if len(several) > 1 else start) / len(several) * len(prompts)
    decoding = sum(shared + per_row * len(batch) for batch in planned)
    return prefill + task.answer_tokens(model) * decoding


def _prefill_and_step(
    task: Task, model: Model, limit: int, prompts: Sequence[Prompt]
) -> tuple[float, float]:
    """Return the seconds until the first generated token, and per later token."""
    few, more = _TRIAL_STEPS
    short, long = (_time(task, model, limit, prompts, new_tokens=count) for count in _TRIAL_STEPS)
    step = max(0.0, long - short) / (more - few)
    return max(0.0, short - few * step), step


def _time(
    task: Task,
    model: Model,
    limit: int,
    prompts: Sequence[Prompt],
    *,
    new_tokens: int | None = None,
) -> float:
    """Return the seconds of one batch; with `new_tokens`, of generating so many tokens per row."""
    with FORWARD_LOCK:
        bound = task.bind(model, limit)
        if new_tokens is not None:
            assert isinstance(bound, BoundPromptTask) and isinstance(bound.engine, TextGenerator)
            # Set on the engine: a task with a schema refuses so few tokens.
            bound.engine.config.max_new_tokens = new_tokens
        started = time.perf_counter()
        bound(prompts)
        return time.perf_counter() - started


def estimate_without_model(
    verb: str, frame: Any, column: str, work: Callable[[Sequence[str]], None]
) -> RunEstimate:
    """Return the estimate of a verb without a model, scaled by characters from some texts.

    Args:
        verb: The name of the verb.
        frame: A pandas or polars DataFrame.
        column: The column of texts.
        work: The work to time on some of the texts.
    """
    rows = read_rows(frame, [column])
    texts = [text for (text,) in rows.texts]
    step = max(1, len(texts) // _TRIAL_TEXTS)
    some = texts[::step][:_TRIAL_TEXTS]
    started = time.perf_counter()
    work(some)
    seconds = time.perf_counter() - started
    return RunEstimate(
        verb=verb,
        rows=len(rows.text_indices),
        blank=sum(i is None for i in rows.text_indices),
        texts=len(texts),
        known=0,
        failing=0,
        batches=0,
        tokens=0,
        padding=0,
        answer_tokens=0,
        seconds=seconds * sum(map(len, texts)) / max(1, sum(map(len, some))),
        weights=0,
        cache=0,
    )

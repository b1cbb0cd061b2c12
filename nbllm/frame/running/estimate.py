"""What a run will take, before it is run: rows, tokens, time and memory."""

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

_TRIED = 64  # texts that are tried where no model is asked
_TRIAL_ROWS = 16
_TRIAL_STEPS = (2, 10)  # tokens written; the difference is what one takes


@dataclass(frozen=True)
class RunEstimate:
    """What is known of a run beforehand.

    The time is that of trials on some of the rows, scaled up; where a model writes, as if
    every answer were as long as it may be.
    """

    verb: str
    rows: int
    blank: int
    texts: int  # distinct ones
    known: int  # of them, from the ledger
    failing: int  # of them, that cannot be a prompt, such as too long ones
    batches: int
    tokens: int  # of the prompts, without the shared prefix
    padding: int
    answer_tokens: int  # that are written, at most
    seconds: float  # of wall clock
    weights: int  # bytes; 0 where no model is asked
    cache: int  # bytes of the keys and values of the largest batch

    def lines(self) -> dict[str, str]:
        """The estimate as label and text, in reading order."""
        if not self.weights:
            return {
                "rows": f"{self.rows:,} ({counted(self.texts, 'text')} to read, {self.blank:,} "
                "blank)",
                "tokens": "none: no model is asked",
                "time": rough_duration(self.seconds),
                "memory": "no weights",
            }
        to_ask = self.texts - self.known - self.failing
        written = f", up to {self.answer_tokens:,} written" if self.answer_tokens else ""
        return {
            "rows": f"{self.rows:,} ({counted(to_ask, 'text')} to ask, {self.known:,} in the "
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
    """What is known beforehand of a verb that asks several things of each row."""

    verb: str
    steps: Mapping[str, RunEstimate]  # by what each finds out

    @property
    def rows(self) -> int:
        """Of the frame."""
        return list(self.steps.values())[-1].rows

    @property
    def tokens(self) -> int:
        """Of all prompts, without the shared prefixes."""
        return sum(step.tokens for step in self.steps.values())

    @property
    def seconds(self) -> float:
        """Of wall clock, of all steps."""
        return sum(step.seconds for step in self.steps.values())

    @property
    def memory(self) -> int:
        """Bytes of weights, and of keys and values of the largest batch."""
        return max(step.weights + step.cache for step in self.steps.values())

    def lines(self) -> dict[str, str]:
        """The estimate as label and text, in reading order."""
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
    """Plan a run as `answer_frame` would, and try some of its rows.

    Args:
        frame, any_type: as for `answer_frame`.
        truncate: cut what does not fit, instead of failing its row.
    """
    rows = read_rows(frame, list(question.columns.values()), any_type=any_type)
    return estimate_rows(rows, question, truncate=truncate)


def estimate_rows(rows: Rows, question: Question, *, truncate: bool) -> RunEstimate:
    """As `estimate_run`, of texts."""
    task, model, limit = question.task, question.model, question.limit
    room = task.answer_tokens(model)
    record = question.record(truncate=truncate)
    keys = [row_key(text) for text in rows.texts]
    known: Mapping[str, Any] = {}
    if ledger_path().exists():
        with Ledger(ledger_path()) as ledger:
            known = ledger.known(record["question"], keys)
    left = [text for text, key in zip(rows.texts, keys, strict=True) if key not in known]
    bound = question.ready()
    prompts = [p for p in bound.encode(left, truncate=truncate) if isinstance(p, Prompt)]
    read = [len(prompt.ids) - prompt.prefix_length for prompt in prompts]
    taken = [length + room for length in read]
    budget = TokenBudget.of(model, decodes=task.decodes, label_tokens=bound.label_tokens)
    planned = list(batches(taken, budget, bound.prefix_tokens))
    widest = [max(read[i] for i in batch) * len(batch) for batch in planned]
    cached = [
        (bound.prefix_tokens + max(taken[i] for i in batch)) * len(batch) for batch in planned
    ]
    return RunEstimate(
        verb=task.verb,
        rows=len(rows.position),
        blank=sum(i is None for i in rows.position),
        texts=len(rows.texts),
        known=len(known),
        failing=len(left) - len(prompts),
        batches=len(planned),
        tokens=sum(read),
        padding=sum(widest) - sum(read),
        answer_tokens=room * len(prompts) if task.decodes else 0,
        seconds=_seconds(task, model, limit, prompts, planned) if prompts else 0.0,
        weights=held_bytes(model.network),
        cache=kv_bytes(model.network.config, model.dtype, 1) * max(cached, default=0),
    )


def _seconds(
    task: Task, model: Model, limit: int, prompts: Sequence[Prompt], planned: list[list[int]]
) -> float:
    middle = planned[len(planned) // 2][:_TRIAL_ROWS]
    if not task.decodes:
        spent = _time(task, model, limit, [prompts[i] for i in middle])
        size = max(len(prompts[i].ids) for i in middle) * len(middle)
        whole = sum(max(len(prompts[i].ids) for i in batch) * len(batch) for batch in planned)
        return spent * whole / size
    # A step has a part that all rows share, the weights read once, and a part for each row.
    few, some = [prompts[middle[0]]], [prompts[i] for i in middle]
    (start, step), (starts, steps) = (_start_and_step(task, model, limit, p) for p in (few, some))
    per_row = max(0.0, steps - step) / max(1, len(some) - 1)
    shared = max(0.0, step - per_row)
    written = task.answer_tokens(model)
    reading = (starts if len(some) > 1 else start) / len(some) * len(prompts)
    return reading + written * sum(shared + per_row * len(batch) for batch in planned)


def _start_and_step(
    task: Task, model: Model, limit: int, prompts: Sequence[Prompt]
) -> tuple[float, float]:
    """Seconds until the first token is written, and for each one after it."""
    few, more = _TRIAL_STEPS
    short, long = (_time(task, model, limit, prompts, written=count) for count in _TRIAL_STEPS)
    step = max(0.0, long - short) / (more - few)
    return max(0.0, short - few * step), step


def _time(
    task: Task, model: Model, limit: int, prompts: Sequence[Prompt], *, written: int | None = None
) -> float:
    with FORWARD_LOCK:
        bound = task.bind(model, limit)
        if written is not None:
            assert isinstance(bound, BoundPromptTask) and isinstance(bound.engine, TextGenerator)
            # Not by the task: no answer of a schema is that short.
            bound.engine.config.max_new_tokens = written
        started = time.perf_counter()
        bound(prompts)
        return time.perf_counter() - started


def estimate_without_model(
    verb: str, frame: Any, column: str, work: Callable[[Sequence[str]], None]
) -> RunEstimate:
    """What a verb takes that asks no model: the time of some texts, for all of their characters."""
    rows = read_rows(frame, [column])
    texts = [text for (text,) in rows.texts]
    step = max(1, len(texts) // _TRIED)
    tried = texts[::step][:_TRIED]
    started = time.perf_counter()
    work(tried)
    spent = time.perf_counter() - started
    return RunEstimate(
        verb=verb,
        rows=len(rows.position),
        blank=sum(i is None for i in rows.position),
        texts=len(texts),
        known=0,
        failing=0,
        batches=0,
        tokens=0,
        padding=0,
        answer_tokens=0,
        seconds=spent * sum(map(len, texts)) / max(1, sum(map(len, tried))),
        weights=0,
        cache=0,
    )

"""One run: a task over the rows of a frame, through a model, to the answered frame."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
from tqdm.auto import tqdm

from nbllm.engine.batching import TokenBudget, batches
from nbllm.engine.generation import TextGenerator
from nbllm.engine.ledger import Ledger, ledger_path
from nbllm.engine.prompt import CompiledTemplate, Prompt
from nbllm.engine.runner import run
from nbllm.engine.scoring import LabelScorer, calibration_offset, probabilities
from nbllm.errors import FrameError, LabelError, TextTooLongError
from nbllm.frame import KEEP
from nbllm.frame.columns import Rows, index_labels, read_rows, refuse_taken, row_key, write_columns
from nbllm.frame.provenance import attach, remember, run_record
from nbllm.frame.report import RunReport
from nbllm.frame.tasks.kinds import LabelTask, Task
from nbllm.models.model import Model

__all__ = ["answer_frame", "answer_tokens"]


# Under which a run's calibration offset is filed, beside the answers of its rows.
_OFFSET = "offset"


@dataclass
class _Answers:
    """By distinct text: the engine's answers, the errors of those without, and the offset."""

    values: dict[int, Any]
    errors: dict[int, str] = field(default_factory=dict)
    offset: list[float] | None = None


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
    """
    unknown = [name for name in keep if name not in KEEP]
    if unknown:
        raise FrameError(f"keep={unknown[0]!r} is none of {', '.join(KEEP)}. Choose among those.")
    rows = read_rows(frame, list(columns.values()), any_type=any_type)
    names = _column_names(task, output, keep, probabilities_too)
    refuse_taken(frame, list(names.values()), ours=f"{output}_run")
    limit = model.context_length - answer_tokens(task, model)
    record = run_record(task, model, columns, output, limit=limit, truncate=truncate)
    report = RunReport(record["id"], task.verb, output, record["model"], rows=len(rows.position))
    started = time.perf_counter()
    with Ledger(ledger_path() if use_ledger else None) as ledger:
        answers = _answer_texts(rows.texts, task, model, record, ledger, report)
        record["offset"] = answers.offset
        ledger.open_run(record["id"], record)
        report.seconds = time.perf_counter() - started
        _count(rows, answers, report)
        if ledger.path is not None:
            report.ledger, report.ledger_bytes = str(ledger.path), ledger.path.stat().st_size
        ledger.add_report(record["id"], report.to_dict())
    remember(record, report)
    values = _column_values(task, rows, answers, record["id"])
    answered = write_columns(frame, {name: values[part] for part, name in names.items()})
    attach(answered, record)
    _warn_of_failures(frame, rows, answers, report)
    return answered


def _answer_texts(
    texts: Sequence[tuple[str, ...]],
    task: Task,
    model: Model,
    record: Mapping[str, Any],
    ledger: Ledger,
    report: RunReport,
) -> _Answers:
    question = record["question"]
    keys = [row_key(text) for text in texts]
    known = ledger.known(question, [*keys, _OFFSET])
    answers = _Answers(
        {i: known[key] for i, key in enumerate(keys) if key in known}, offset=known.get(_OFFSET)
    )
    report.known = len(answers.values)
    asked = [i for i in range(len(texts)) if i not in answers.values]
    if not asked:
        return answers
    bar = tqdm(
        total=len(texts), initial=report.known, desc=task.verb, unit="row", dynamic_ncols=True
    )
    with bar:
        template = CompiledTemplate(task.template, model.tokenizer)
        if template.own_length >= record["limit"]:
            raise TextTooLongError(
                f"the instruction and examples alone have {template.own_length:,} tokens, "
                f"and {model.name} takes {record['limit']:,} here. Shorten them."
            )
        engine = _engine(task, model, template.prefix_ids)
        report.prefix_tokens = engine.prefix.length
        if isinstance(engine, LabelScorer) and isinstance(task, LabelTask) and not answers.offset:
            answers.offset = _fit_offset(engine, task, template, record["limit"])
            ledger.commit(question, {_OFFSET: answers.offset})
        encoded = template.encode(
            [texts[i] for i in asked], limit=record["limit"], truncate=record["truncate"]
        )
        answers.errors = {
            i: str(prompt)
            for i, prompt in zip(asked, encoded, strict=True)
            if not isinstance(prompt, Prompt)
        }
        bar.update(len(answers.errors))
        prompts = {
            i: prompt
            for i, prompt in zip(asked, encoded, strict=True)
            if isinstance(prompt, Prompt)
        }
        order = list(prompts)
        for done in run(
            list(prompts.values()),
            [keys[i] for i in order],
            engine,
            ledger=ledger,
            question=question,
            budget=TokenBudget.for_device(
                model.device.type, decodes=not isinstance(task, LabelTask)
            ),
            answer_tokens=answer_tokens(task, model),
        ):
            answers.values.update({order[i]: value for i, value in done.answers.items()})
            answers.errors.update({order[i]: error for i, error in done.errors.items()})
            report.computed += len(done.answers)
            report.tokens += done.tokens
            report.padding += done.padding
            report.forwards += done.forwards
            bar.update(len(done.answers) + len(done.errors))
            if answers.errors:
                bar.set_postfix(failed=len(answers.errors))
    return answers


def _engine(task: Task, model: Model, prefix: tuple[int, ...]) -> LabelScorer | TextGenerator:
    if isinstance(task, LabelTask):
        return LabelScorer(model, prefix, _label_tokens(task, model))
    return TextGenerator(
        model,
        prefix,
        max_new_tokens=task.max_new_tokens,
        stop=task.stop,
        whole_sentences=task.whole_sentences,
    )


def _label_tokens(task: LabelTask, model: Model) -> list[list[int]]:
    def tokens(end: str) -> list[list[int]]:
        answers = [answer + end for answer in task.answers]
        ids: list[list[int]] = model.tokenizer(answers, add_special_tokens=False)["input_ids"]
        return ids

    # "card" is the beginning of "card arrival": only its end tells it from the longer one.
    for labels in (tokens(""), tokens("\n")):
        if not any(a is not b and b[: len(a)] == a for a in labels for b in labels):
            return labels
    raise LabelError(
        f"{model.name} reads some of the labels {', '.join(task.labels)} as the same tokens. "
        "Give them names that differ in more than case or accents."
    )


def answer_tokens(task: Task, model: Model) -> int:
    """Room in the context that an answer may take."""
    if isinstance(task, LabelTask):
        return max(map(len, _label_tokens(task, model)))
    return task.max_new_tokens


def _fit_offset(
    scorer: LabelScorer, task: LabelTask, template: CompiledTemplate, limit: int
) -> list[float]:
    encoded = template.encode([(text,) for text in task.calibration], limit=limit, truncate=True)
    prompts = [prompt for prompt in encoded if isinstance(prompt, Prompt)]
    lengths = [len(prompt.ids) - prompt.prefix_length for prompt in prompts]
    budget = TokenBudget.for_device(scorer.model.device.type, decodes=False)
    scores = np.concatenate(
        [scorer.score([prompts[i] for i in batch]) for batch in batches(lengths, budget)]
    )
    return [float(x) for x in calibration_offset(scores)]


def _column_names(
    task: Task, output: str, keep: Sequence[str], probabilities_too: bool
) -> dict[str, str]:
    """What the answer's columns are called, by what they hold, in their order."""
    names = {"value": output, "score": f"{output}_score"}
    names |= {"error": f"{output}_error", "run": f"{output}_run"}
    parts = {part for part in keep if part != "score" or isinstance(task, LabelTask)}
    chosen = {part: name for part, name in names.items() if part in parts}
    if probabilities_too and isinstance(task, LabelTask):
        for label in task.labels:
            if f"{output}_{label}" in chosen.values():
                raise LabelError(
                    f"with probabilities=True the label {label!r} wants the column "
                    f"{output}_{label}, which is there for something else. Give the label another "
                    "name, or leave that column out by keep=."
                )
            chosen[_chance_of(label)] = f"{output}_{label}"
    return chosen


def _chance_of(label: str) -> str:
    return f"probability of {label}"


def _column_values(
    task: Task, rows: Rows, answers: _Answers, run_id: str
) -> dict[str, tuple[list[Any], Any]]:
    """All that the answer's columns can hold: values a row, with the narwhals dtype."""

    def spread(by_text: Mapping[int, Any]) -> list[Any]:
        return [None if i is None else by_text.get(i) for i in rows.position]

    errors = [rows.errors.get(row) or error for row, error in enumerate(spread(answers.errors))]
    columns: dict[str, tuple[list[Any], Any]] = {
        "error": (errors, nw.String),
        "run": ([None if i is None else run_id for i in rows.position], nw.Categorical),
    }
    if not isinstance(task, LabelTask):
        return {"value": (spread(answers.values), nw.String), **columns}
    indices = list(answers.values)
    scores = np.array([answers.values[i] for i in indices]).reshape(-1, len(task.labels))
    chance = probabilities(scores, np.array(answers.offset or [0.0]))
    best = [task.labels[n] for n in chance.argmax(axis=1)]
    columns["value"] = (spread(dict(zip(indices, best, strict=True))), nw.String)
    columns["score"] = (
        spread(dict(zip(indices, chance.max(axis=1).tolist(), strict=True))),
        nw.Float64,
    )
    for n, label in enumerate(task.labels):
        by_text = dict(zip(indices, chance[:, n].tolist(), strict=True))
        columns[_chance_of(label)] = (spread(by_text), nw.Float64)
    return columns


def _count(rows: Rows, answers: _Answers, report: RunReport) -> None:
    asked = [i for i in rows.position if i is not None]
    report.merged = len(asked) - len(rows.texts)
    report.failed = len(answers.errors) + len(rows.errors)
    report.blank = len(rows.position) - len(asked) - len(rows.errors)
    report.errors = dict(Counter([*answers.errors.values(), *rows.errors.values()]).most_common(5))


def _warn_of_failures(frame: Any, rows: Rows, answers: _Answers, report: RunReport) -> None:
    failed = [
        row
        for row, i in enumerate(rows.position)
        if row in rows.errors or (i is not None and i in answers.errors)
    ]
    if failed:
        labels = index_labels(frame)
        some = ", ".join(repr(labels[row]) for row in failed[:5])
        more = ", ..." if len(failed) > 5 else ""
        warnings.warn(
            f"{report.verb}: {len(failed):,} of {report.rows:,} rows have no answer (index "
            f"{some}{more}): {next(iter(report.errors))} All are in {report.output}_error.",
            stacklevel=5,
        )

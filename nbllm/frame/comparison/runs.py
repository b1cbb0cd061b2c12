"""Runs two models on the same rows and compares quality and cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals as nw
import torch

from nbllm._warnings import warn_user
from nbllm.engine.perplexity import perplexity as measure_perplexity
from nbllm.errors import ColumnError, FrameError, LabelError, ModelError
from nbllm.frame.calls.registry import find_row_verb
from nbllm.frame.checks import reads_arguments
from nbllm.frame.columns import is_missing, read_rows
from nbllm.frame.comparison.result import ComparedModel, Comparison
from nbllm.frame.evaluation.truth import refuse_unknown, right_answers
from nbllm.frame.new_columns import write_columns
from nbllm.frame.running.execute import Question
from nbllm.frame.running.provenance import find_report, run_ids
from nbllm.frame.running.run import answer_frame
from nbllm.frame.tasks.base import Task
from nbllm.frame.tasks.label import Choice
from nbllm.models.devices.device import choose_device
from nbllm.models.fetch.sources import fetch_configuration
from nbllm.models.loader import check_named, load
from nbllm.models.memory.budget import held_bytes
from nbllm.models.model import Model
from nbllm.models.quantization import schemes as quantization
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.calls.verb import Call

__all__ = ["compare"]

# Suffixes of the columns of an answer. With probabilities, a label must not be one of them.
_SUFFIXES = ("score", "margin", "error", "run")
# Fields of the provenance that differ if the same model was loaded by another name.
_NAME_FIELDS = ("name", "source")


@reads_arguments
def compare(
    a: Model | str | Path,
    b: Model | str | Path,
    frame: Any,
    verb: str,
    subject: str,
    *,
    truth: str | None = None,
    quantize: str | tuple[str, str] = "auto",
    perplexity: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
    ledger: bool = False,
    truncate: bool = False,
    **options: Any,
) -> Comparison:
    """Compare two models, or two quantizations of one, on the same rows.

    A row counts where both answered. Missing and blank texts are left out, and so is a row
    that failed with either; both are counted.

    Args:
        a: a Model, or a name or path for `load`. Models given by name are loaded one after the
            other and unloaded, so that there is never more than one in memory.
        b: the other model, in the same way.
        frame: of pandas or polars.
        verb: The name of a verb of `df.llm` that asks one question per row.
        subject: The first argument of the verb: a column, or a prompt.
        truth: a column with the right answers, where there is one.
        quantize: for models given by name: one quantization, or one for each.
        perplexity: read the texts for their perplexity too; for verbs over one column.
        confidence: of the intervals.
        seed: of the rows drawn for intervals without a formula.
        ledger: whether to look answers up on disk; those cost no time, so speed is then
            measured on the rest only.
        truncate: cut texts that do not fit the context, instead of failing their rows.
        options: other arguments of the verb that shape its prompt, such as `labels`.

    Raises:
        ColumnError: a column is missing, not text, or in the way.
        FrameError: fewer than two rows that both answered, a verb that there is not, or it was
            stopped, by an interrupt or a cancel.
        LabelError: `truth` has labels that the verb does not give.
        UnsupportedModelError: a model cannot do what the verb asks.

    Example:
        >>> pair = ("none", "nf4")
        >>> compare("smollm2", "smollm2", df, "sentiment", "text", quantize=pair)  # doctest: +SKIP
    """
    call = find_row_verb(verb).call(subject, options, {"ledger": ledger, "truncate": truncate})
    columns = call.columns
    for name, given in (("a", a), ("b", b)):
        check_named(name, given)
    choices = _choices(a, b, quantize)
    if perplexity and len(columns) > 1:
        raise FrameError(
            f"perplexity=True reads one column, and the prompt names {len(columns)}. Leave it out, "
            "or call nbllm.perplexity on one of them."
        )
    texts = read_rows(frame, list(columns.values()), any_type=call.any_type)
    right = None if truth is None else right_answers(frame, truth)
    _refuse_taken_names(frame)
    if sum(position is not None for position in texts.text_indices) < 2:
        raise FrameError(
            f"fewer than two rows have a text in {', '.join(map(repr, columns.values()))}. "
            "Pass a frame with more."
        )
    if (task_of_verb := call.verb.task_without_model(call)) is not None:
        _check(task_of_verb, truth, right)
    for given, choice in zip((a, b), choices, strict=True):
        # Fail before the first model spends any time, wherever possible.
        if isinstance(given, Model):
            _check(call.task(given), truth, right)
            continue
        fetch_configuration(given)
        if choice != "auto":
            quantization.check(choice, choose_device("auto"))

    # Only the columns that are read, so that no other column clashes with those of the answers.
    answered = nw.from_native(frame, eager_only=True).select(list(columns.values())).to_native()
    answers: dict[str, tuple[list[Any], Any]] = {}
    models, tasks = [], []
    for name, given, choice in zip("ab", (a, b), choices, strict=True):
        with _loaded(given, choice) as model:
            task = call.task(model)
            _check(task, truth, right)
            answered, compared = _run(answered, Question(task, model, columns, name), call)
            if perplexity:
                measured = measure_perplexity(model, [text for (text,) in texts.texts])
                compared = replace(compared, perplexity=measured)
        models.append(compared)
        tasks.append(task)
        answers |= _columns_of(answered, task, name)
    _warn_if_same(*models)
    if not isinstance(tasks[-1], Choice):
        pairs = zip(answers["a"][0], answers["b"][0], strict=True)
        answers["similarity"] = (_similarities(pairs), nw.Float64)
    rows = write_columns(frame, answers)
    if hasattr(rows, "attrs"):
        rows.attrs |= answered.attrs
    comparison = Comparison(
        rows=rows,
        a=models[0],
        b=models[1],
        verb=verb,
        columns=tuple(columns.values()),
        truth=truth,
        confidence=confidence,
        seed=seed,
    )
    if comparison.count < 2:
        errors = [error for compared in models for error in compared.report.errors]
        raise FrameError(
            f"both models answered {comparison.count} of "
            f"{counted(len(texts.text_indices), 'row')}, and a comparison needs two. "
            f"The first error: {errors[0] if errors else 'none'}"
        )
    return comparison


def _choices(
    a: Model | str | Path, b: Model | str | Path, quantize: str | tuple[str, str]
) -> tuple[str, str]:
    """Return the quantization of each model."""
    choices = (quantize, quantize) if isinstance(quantize, str) else quantize
    if not isinstance(choices, (tuple, list)) or [type(c) for c in choices] != [str, str]:
        raise ModelError(f"quantize={quantize!r} has to name one quantization, or one for each.")
    for given, choice in zip((a, b), choices, strict=True):
        if isinstance(given, Model) and choice not in ("auto", given.quantization):
            raise ModelError(
                f"{given.name} is loaded already, as {given.quantization}, so quantize={choice!r} "
                "cannot be. Pass its name, or the model loaded so."
            )
    return choices[0], choices[1]


def _refuse_taken_names(frame: Any) -> None:
    names = [*"ab", *(f"{name}_{suffix}" for name in "ab" for suffix in _SUFFIXES), "similarity"]
    taken = [name for name in names if name in frame.columns]
    if taken:
        raise ColumnError(
            f"the frame has a column {taken[0]!r}, which is what the comparison calls one of its "
            "own. Rename it."
        )


def _check(task: Task, truth: str | None, right: Sequence[str | None] | None) -> None:
    """Raise for labels and true values that would otherwise fail after the run."""
    if not isinstance(task, Choice):
        return
    reserved = [label for label in task.labels if label in _SUFFIXES]
    if reserved:
        raise LabelError(
            f"a label {reserved[0]!r} cannot be told from the column of that name. Call it "
            f"otherwise, such as {reserved[0].upper()!r}."
        )
    refuse_unknown(right or (), task.labels, f"column {truth!r}", task.verb)


@contextmanager
def _loaded(given: Model | str | Path, quantize: str) -> Iterator[Model]:
    """Yield the model, loading and afterwards unloading it if only its name was passed."""
    if isinstance(given, Model):
        yield given
        return
    with load(given, quantize=quantize) as model:
        yield model


def _run(frame: Any, question: Question, call: Call[Any]) -> tuple[Any, ComparedModel]:
    """Return the frame with one model's answers, and the cost of the run."""
    model, output = question.model, question.output
    _warm_up(model)
    wall, cpu = time.perf_counter(), time.process_time()
    answered = answer_frame(
        frame, question, any_type=call.any_type, probabilities_too=True, execution=call.execution
    )
    runs = run_ids(answered, f"{output}_run")
    report = find_report(runs[0]) if runs else None  # no run if stopped before the first answer
    if report is None or report.stopped:
        raise FrameError(
            f"the comparison was stopped while {model.name} was asked, and rows that were answered "
            "till then are not like the rest: the longest come first. Start it again; with "
            "ledger=True it goes on from what was answered."
        )
    return answered, ComparedModel(
        model=model.provenance(),
        weights=held_bytes(model.network),
        report=report,
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
    )


def _warm_up(model: Model) -> None:
    """Run one untimed forward pass, so that start-up costs are not measured."""
    ids = torch.zeros((1, 8), dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model.network(input_ids=ids, use_cache=False)


def _warn_if_same(a: ComparedModel, b: ComparedModel) -> None:
    fields = {*a.model, *b.model}.difference(_NAME_FIELDS)
    if all(a.model.get(field) == b.model.get(field) for field in fields):
        warn_user(
            f"a and b are the same model ({a.name}), so all that this shows is that it agrees "
            "with itself. Pass another, or two quantizations: quantize=('none', 'nf4').",
        )


def _columns_of(answered: Any, task: Task, name: str) -> dict[str, tuple[list[Any], Any]]:
    """Return one model's columns by name, as values and narwhals dtype."""
    data = nw.from_native(answered, eager_only=True)

    def values(column: str) -> list[Any]:
        return [None if is_missing(value) else value for value in data[column].to_list()]

    columns: dict[str, tuple[list[Any], Any]] = {name: (values(name), nw.String)}
    if isinstance(task, Choice):
        rows = zip(*(values(f"{name}_{label}") for label in task.labels), strict=True)
        columns[f"{name}_score"] = (values(f"{name}_score"), nw.Float64)
        columns[f"{name}_margin"] = ([_margin(row) for row in rows], nw.Float64)
    columns[f"{name}_error"] = (values(f"{name}_error"), nw.String)
    columns[f"{name}_run"] = (values(f"{name}_run"), nw.Categorical)
    return columns


def _margin(probabilities: Sequence[float | None]) -> float | None:
    """Return the difference of the two highest probabilities; None without an answer."""
    known = sorted(p for p in probabilities if p is not None)
    return known[-1] - known[-2] if known else None


def _similarities(pairs: Iterable[tuple[str | None, str | None]]) -> list[float | None]:
    return [None if a is None or b is None else _similarity(a, b) for a, b in pairs]


def _similarity(a: str, b: str) -> float:
    """Return the share of words that two texts have in common in the same order, 0 to 1."""
    return SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio()

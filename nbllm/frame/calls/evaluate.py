"""Evaluates a frame's answers with the verb that gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.errors import FrameError, ProvenanceError
from nbllm.frame.calls.registry import find_verb, is_verb, verb_names, verb_of
from nbllm.frame.evaluation.base import Evaluation
from nbllm.frame.evaluation.request import (
    ONLY_TEXTS_HAVE_METRICS,
    EvaluationRequest,
    evaluate_answers,
)
from nbllm.frame.running.provenance import find_record, last_attached, run_ids

__all__ = ["choose_output", "choose_run_output", "evaluate", "outputs_of"]


def outputs_of(frame: Any) -> dict[str, str | None]:
    """Return the columns of answers in a frame, each with its verb if no run records it.

    polars and Parquet frames may hold answers without a record, such as ranks. Their verb is
    recognized by the names of the columns.
    """
    columns = [str(name) for name in frame.columns]
    unrecorded = [
        verb for name in verb_names() if not (verb := find_verb(name)).one_question_per_row
    ]
    found: dict[str, str | None] = {}
    for name in columns:
        made = next((verb.name for verb in unrecorded if verb.recognizes(frame, name)), None)
        if made is not None or f"{name}_run" in columns:
            found[name] = made
    return found


def choose_output(frame: Any, output: str | None) -> tuple[str, str | None]:
    """Return a column of answers, and its verb if no run records it.

    Args:
        frame: A frame that a verb returned.
        output: The column that the user named; None for the only one.

    Raises:
        ProvenanceError: The frame has no answers, several and none named, or not the one named.
    """
    found = outputs_of(frame)
    chosen = _choose(list(found), output, ", and no ranks or masked texts")
    return chosen, found[chosen]


def choose_run_output(frame: Any, output: str | None) -> str:
    """Return a column of answers that has a `_run` column.

    Args:
        frame: A frame that a verb returned.
        output: The column that the user named; None for the only one.

    Raises:
        ProvenanceError: The frame has no answers, several and none named, or not the one named.
    """
    columns = [str(name) for name in frame.columns]
    return _choose([name for name in columns if f"{name}_run" in columns], output)


def _choose(found: Sequence[str], output: str | None, nor: str = "") -> str:
    if not found:
        raise ProvenanceError(
            f"the frame has no column that ends in '_run', by which an answer is traced{nor}. "
            "Use the frame that a verb such as .llm.classify returned."
        )
    if output is None and len(found) == 1:
        return found[0]
    if output is None or output not in found:
        said = "Say which answers are meant" if output is None else f"{output!r} has no answers"
        raise ProvenanceError(f"{said}: output= one of {', '.join(found)}.")
    return output


def evaluate(
    frame: Any,
    truth: Any,
    output: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    corpus: Any = None,
    history: Any = None,
    key: str | None = None,
    k: int | None = None,
) -> Evaluation:
    """Return the evaluation of a frame's answers, as documented at `df.llm.evaluate`.

    Args:
        frame: A frame that a verb returned.
        truth: The column of the true values; for rankings, the relevant rows.
        output: The column of the answers; None for the only one.
        metrics: For texts, of "rouge1", "rouge2", "rougeL", "exact", "token_f1", "bleu" and
            "chrf".
        corpus: The original frame, for verbs that return some of its rows.
        history: What users liked, as it was passed to the verb.
        key: The column of row labels, instead of the index.
        k: The number of results to count per ranking.

    Raises:
        ColumnError: There is no such column.
        FrameError: No row has both answer and truth, a metric is unknown, an argument does not
            apply to the verb, or `truth` has another form.
        LabelError: `truth` has labels that the verb does not give.
        ProvenanceError: The frame has no answers, or no record of their run exists.
    """
    output, name = choose_output(frame, output)
    if metrics is not None and name is not None:
        raise FrameError(ONLY_TEXTS_HAVE_METRICS)
    records: list[dict[str, Any]] = []
    if name is None:
        records = [find_record(run, frame) for run in run_ids(frame, f"{output}_run")]
        if not records:  # a filter may have kept no row that names its run
            last = last_attached(frame, output)
            if last is not None and "corpus" in _evaluation_arguments(last["verb"]):
                records = [last]
        if not records:
            raise FrameError(f"no row of {output!r} was answered, so there is nothing to evaluate.")
        name = records[0]["verb"]
    arguments = {"corpus": corpus, "history": history, "key": key, "k": k}
    for argument, value in arguments.items():
        if value is not None and argument not in _evaluation_arguments(name):
            verbs = [each for each in verb_names() if argument in _evaluation_arguments(each)]
            raise FrameError(f"{argument}= is for {' and '.join(verbs)}. Leave it out.")
    request = EvaluationRequest(frame, truth, output, name, records, metrics, **arguments)
    verb = verb_of(records[0]) if records else find_verb(name)
    return evaluate_answers(request) if verb is None else verb.evaluate(request)


def _evaluation_arguments(name: str) -> tuple[str, ...]:
    return find_verb(name).evaluation_arguments if is_verb(name) else ()

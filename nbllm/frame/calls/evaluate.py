"""The evaluation of a frame's answers, by the verb that gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbllm.errors import FrameError, ProvenanceError
from nbllm.frame.calls.registry import find_verb, is_verb, verb_names
from nbllm.frame.evaluation.base import METRICS_ARE_OF_TEXTS, Evaluation
from nbllm.frame.evaluation.request import EvaluationRequest, evaluate_answers
from nbllm.frame.running.provenance import find_record, last_attached, run_ids

__all__ = ["choose_output", "choose_run_output", "evaluate", "outputs_of"]


def outputs_of(frame: Any) -> dict[str, str | None]:
    """Return the columns of answers in a frame, and the verb of those that no run names.

    What polars and Parquet hold without a record, such as ranks, is seen by its columns alone.
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
    """Return the column of answers meant, by name or because it is the only one, and its verb.

    Raises:
        ProvenanceError: the frame has no answers, several and none named, or not the one named.
    """
    found = outputs_of(frame)
    if not found:
        raise ProvenanceError(
            "the frame has no column that ends in '_run', by which an answer is traced, and no "
            "ranks or masked texts. Use the frame that a verb such as .llm.sentiment returned."
        )
    if output is None and len(found) == 1:
        output = next(iter(found))
    if output not in found:
        said = "Say which answers are meant" if output is None else f"{output!r} has no answers"
        raise ProvenanceError(f"{said}: output= one of {', '.join(found)}.")
    return output, found[output]


def choose_run_output(frame: Any, output: str | None) -> str:
    """Return the column of answers meant, of those that a run made.

    Raises:
        ProvenanceError: the frame has no answers, or several and none named.
    """
    columns = [str(name) for name in frame.columns]
    ends = [name.removesuffix("_run") for name in columns if name.endswith("_run")]
    found = [name for name in ends if name in columns]
    if output is None and len(found) == 1:
        return found[0]
    if output in found:
        return str(output)
    if not found:
        raise ProvenanceError(
            "the frame has no column that ends in '_run', by which an answer is traced. "
            "Use the frame that a verb such as .llm.sentiment returned."
        )
    raise ProvenanceError(f"Say which answers are meant: output= one of {', '.join(found)}.")


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
    """Return the answers of a frame beside the right ones, with what was measured.

    Args:
        truth: the column that has them; of rankings, what is relevant.
        output: the column of the answers, where there are several.
        metrics: for answers that are texts, of "rouge1", "rouge2", "rougeL", "exact",
            "token_f1", "bleu" and "chrf".
        corpus: the frame that rows were taken from, for verbs that take some.
        history: what users liked, as it was passed to the verb.
        key: the column that names the rows, instead of the index.
        k: how many of each ranking count.

    Raises:
        ColumnError: no such column.
        FrameError: no row has both, there is no such metric, or a truth is of another form.
        LabelError: `truth` has labels that the verb does not give.
        ProvenanceError: the run that answered is not on record.
    """
    output, name = choose_output(frame, output)
    if metrics is not None and name is not None:
        raise FrameError(METRICS_ARE_OF_TEXTS)
    records: list[dict[str, Any]] = []
    if name is None:
        records = [find_record(run, frame) for run in run_ids(frame, f"{output}_run")]
        if not records:  # no row is left where none was taken
            last = last_attached(frame, output)
            if last is not None and "corpus" in _judged_by(last["verb"]):
                records = [last]
        if not records:
            raise FrameError(f"no row of {output!r} was answered, so there is nothing to evaluate.")
        name = records[0]["verb"]
    beside = {"corpus": corpus, "history": history, "key": key, "k": k}
    for argument, value in beside.items():
        if value is not None and argument not in _judged_by(name):
            takers = [each for each in verb_names() if argument in _judged_by(each)]
            raise FrameError(f"{argument}= is for {' and '.join(takers)}. Leave it out.")
    judged = EvaluationRequest(frame, truth, output, name, records, metrics, **beside)
    # A verb of the user's own may not be registered any more.
    return find_verb(name).evaluate(judged) if is_verb(name) else evaluate_answers(judged)


def _judged_by(name: str) -> tuple[str, ...]:
    return find_verb(name).evaluation_arguments if is_verb(name) else ()

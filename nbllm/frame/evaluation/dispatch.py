"""The evaluation of a frame's answers, by the verb that gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from nbllm.checks import shown
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation.base import METRICS_ARE_OF_TEXTS, Evaluation
from nbllm.frame.evaluation.fields import field_names, of_fields
from nbllm.frame.evaluation.labels import of_labels
from nbllm.frame.evaluation.masks import of_spans
from nbllm.frame.evaluation.predicates import of_filter
from nbllm.frame.evaluation.rankings import of_ranks
from nbllm.frame.evaluation.similarities import of_scores
from nbllm.frame.evaluation.texts import of_texts
from nbllm.frame.evaluation.truth import right_answers
from nbllm.frame.evaluation.vectors import of_vectors
from nbllm.frame.outputs import choose_output
from nbllm.frame.running.provenance import find_record, last_attached, run_ids

__all__ = ["evaluate"]


def evaluate(
    frame: Any,
    truth: Any,
    output: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    among: Any = None,
    history: Any = None,
    key: str | None = None,
    k: int | None = None,
) -> Evaluation:
    """Return the answers of a frame beside the right ones, with what was measured.

    Args:
        frame: what a verb returned.
        truth: the column that has them; for search and recommend, what is relevant.
        output: the column of the answers, where there are several.
        metrics: for answers that are texts, of "rouge1", "rouge2", "rougeL", "exact",
            "token_f1", "bleu" and "chrf".
        among: the frame that rows were taken from, for search, recommend and filter.
        history: what users liked, as recommend was given it.
        key: the column that names the rows, instead of the index.
        k: how many of each ranking count.

    Raises:
        ColumnError: no such column.
        FrameError: no row has both, there is no such metric, or a truth is of another form.
        LabelError: `truth` has labels that the verb does not give.
        ProvenanceError: the run that answered is not on record.
    """
    output, made = choose_output(frame, output)
    if metrics is not None and made != "run":
        raise FrameError(METRICS_ARE_OF_TEXTS)
    if made in ("search", "recommend"):
        return of_ranks(frame, truth, output, made, among=among, history=history, key=key, k=k)
    for name, value in {"history": history, "key": key, "k": k}.items():
        if value is not None:
            raise FrameError(f"{name}= is for search and recommend. Leave it out.")
    if made == "mask":
        return of_spans(frame, truth, output)
    records = [find_record(run, frame) for run in run_ids(frame, f"{output}_run")]
    if not records:  # no row is left of a filter that took none
        last = last_attached(frame, output)
        records = [last] if last is not None and last["verb"] == "filter" else []
    if not records:
        raise FrameError(f"no row of {output!r} was answered, so there is nothing to evaluate.")
    verb = records[0]["verb"]
    if verb == "filter":
        return of_filter(frame, truth, output, records, among)
    if among is not None:
        raise FrameError("among= is for search, recommend and filter. Leave it out.")
    if not isinstance(truth, str):
        raise ColumnError(
            f"truth={shown(truth)} is no column. Put the right answers in one, for instance with "
            "frame.assign(truth=...) in pandas, and pass its name."
        )
    right = right_answers(frame, truth)
    data = nw.from_native(frame, eager_only=True)
    given = [None if is_missing(value) else value for value in data[output].to_list()]
    judged = [n for n, value in enumerate(right) if value is not None]
    kept = [n for n in judged if given[n] is not None]
    if not kept:
        raise FrameError(f"no row has both an answer in {output!r} and a truth in {truth!r}.")
    common = {
        "frame": frame,
        "output": output,
        "truth": truth,
        "verb": verb,
        "answers": [given[n] for n in kept],
        "right": [right[n] for n in kept],
        "positions": kept,
        "unanswered": len(judged) - len(kept),
    }
    if metrics is not None and verb in ("similarity", "embed"):
        raise FrameError(METRICS_ARE_OF_TEXTS)
    if verb == "similarity":
        return of_scores(data, records[0], common)
    if verb == "embed":
        return of_vectors(common)
    if any(not isinstance(value, str) for value in common["answers"]):
        raise FrameError(
            f"the answers in {output!r} are no texts, though {verb} gives such: they were changed "
            "since. Evaluate the frame that the verb returned."
        )
    if field_names(records[0]):
        return of_fields(data, records[0], metrics, common)
    if "labels" in records[0]["parameters"]:
        return of_labels(data, records, metrics, common)
    return of_texts(data, records, metrics, common)

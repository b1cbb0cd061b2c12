"""Answers that are to be judged, and how those are that no verb judges otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw

from nbllm.checks import shown
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation.base import METRICS_ARE_OF_TEXTS
from nbllm.frame.evaluation.fields import field_names, of_fields
from nbllm.frame.evaluation.labels import of_labels
from nbllm.frame.evaluation.text_metrics import first_sentences
from nbllm.frame.evaluation.texts import of_texts
from nbllm.frame.evaluation.truth import right_answers

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation

__all__ = ["Baseline", "EvaluationRequest", "evaluate_answers"]


class Baseline(NamedTuple):
    """What texts are put beside."""

    name: str
    make: Callable[[str, str], str]  # from the text that was read and the answer


_FIRST_SENTENCES = Baseline(
    "its first sentences, about as long",
    lambda source, answer: first_sentences(source, like=answer),
)
_ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class EvaluationRequest:
    """The answers of a frame, the right ones, and what else was passed to judge them by."""

    frame: Any
    truth: Any
    output: str  # the column of the answers
    verb: str
    records: list[dict[str, Any]]  # of the runs that answered, one or more; of some verbs none
    metrics: Sequence[str] | None = None
    corpus: Any = None
    history: Any = None
    key: str | None = None
    k: int | None = None

    @property
    def data(self) -> nw.DataFrame[Any]:
        """The frame, by narwhals."""
        return nw.from_native(self.frame, eager_only=True)

    def refuse_metrics(self) -> None:
        """Refuse metrics of texts where answers are none.

        Raises:
            FrameError: some were asked for.
        """
        if self.metrics is not None:
            raise FrameError(METRICS_ARE_OF_TEXTS)

    def common(self) -> dict[str, Any]:
        """Return what all evaluations of rows have: answers and truths of the rows with both.

        Raises:
            ColumnError: no such column.
            FrameError: no row has both.
        """
        if not isinstance(self.truth, str):
            raise ColumnError(
                f"truth={shown(self.truth)} is no column. Put the right answers in one, for "
                "instance with frame.assign(truth=...) in pandas, and pass its name."
            )
        right = right_answers(self.frame, self.truth)
        values = self.data[self.output].to_list()
        given = [None if is_missing(value) else value for value in values]
        judged = [n for n, value in enumerate(right) if value is not None]
        kept = [n for n in judged if given[n] is not None]
        if not kept:
            raise FrameError(
                f"no row has both an answer in {self.output!r} and a truth in {self.truth!r}."
            )
        return {
            "frame": self.frame,
            "output": self.output,
            "truth": self.truth,
            "verb": self.verb,
            "answers": [given[n] for n in kept],
            "right": [right[n] for n in kept],
            "positions": kept,
            "unanswered": len(judged) - len(kept),
        }


def evaluate_answers(
    judged: EvaluationRequest,
    *,
    metrics: Sequence[str] = _ROUGE,
    baseline: Baseline = _FIRST_SENTENCES,
) -> Evaluation:
    """Measure labels, fields or texts, by what the record says that the answers are.

    Args:
        judged: the answers, the right ones, and the records of the runs.
        metrics: of texts, where none are asked for.
        baseline: of texts.

    Raises:
        ColumnError: no such column.
        FrameError: no row has both, there is no such metric, or the answers were changed.
        LabelError: `truth` has labels that the verb does not give.
    """
    common, record = judged.common(), judged.records[0]
    if any(not isinstance(value, str) for value in common["answers"]):
        raise FrameError(
            f"the answers in {judged.output!r} are no texts, though {judged.verb} gives such: they "
            "were changed since. Evaluate the frame that the verb returned."
        )
    if field_names(record):
        return of_fields(judged.data, record, judged.metrics, common)
    if "labels" in record["parameters"]:
        return of_labels(judged.data, judged.records, judged.metrics, common)
    chosen = metrics if judged.metrics is None else judged.metrics
    plain = _plain(judged.data, record, common, baseline)
    return of_texts(common, chosen, plain, "none" if plain is None else baseline.name)


def _plain(
    data: nw.DataFrame[Any],
    record: Mapping[str, Any],
    common: Mapping[str, Any],
    baseline: Baseline,
) -> list[str] | None:
    """The baseline's text for each row; None where the frame no longer has what was read."""
    columns = record["columns"]
    # What a question is answered from, or a reply made of, where there is one beside it.
    alone = next(iter(columns.values())) if len(columns) == 1 else None
    column = columns.get("context", columns.get("sources", alone))
    if column not in data.columns:
        return None
    texts = data[column].to_list()
    sources = [str(texts[n]) for n in common["positions"]]
    return [baseline.make(s, a) for s, a in zip(sources, common["answers"], strict=True)]

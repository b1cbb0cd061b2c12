"""The request for an evaluation, and the default evaluation of labels, fields and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw

from nbllm.blank import is_blank
from nbllm.checks import shown
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation.fields import evaluate_fields, field_names
from nbllm.frame.evaluation.labels import evaluate_labels
from nbllm.frame.evaluation.text_metrics import first_sentences
from nbllm.frame.evaluation.texts import evaluate_texts
from nbllm.frame.evaluation.truth import right_answers

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation

__all__ = ["ONLY_TEXTS_HAVE_METRICS", "Baseline", "EvaluationRequest", "evaluate_answers"]

ONLY_TEXTS_HAVE_METRICS = "metrics= is for answers that are texts. Leave it out."


class Baseline(NamedTuple):
    """Texts to compare the answers with."""

    name: str
    make: Callable[[str, str], str]  # from the source text and the answer


_FIRST_SENTENCES = Baseline(
    "its first sentences, about as long",
    lambda source, answer: first_sentences(source, like=answer),
)
_ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class EvaluationRequest:
    """The arguments of `df.llm.evaluate`, with the records of the runs that answered."""

    frame: Any
    truth: Any
    output: str  # column of the answers
    verb: str
    records: list[dict[str, Any]]  # empty for verbs that record no run
    metrics: Sequence[str] | None = None
    corpus: Any = None
    history: Any = None
    key: str | None = None
    k: int | None = None

    @property
    def data(self) -> nw.DataFrame[Any]:
        """The frame as a narwhals frame."""
        return nw.from_native(self.frame, eager_only=True)

    def refuse_metrics(self) -> None:
        """Raise if metrics were passed, for answers that are not texts.

        Raises:
            FrameError: Metrics were passed.
        """
        if self.metrics is not None:
            raise FrameError(ONLY_TEXTS_HAVE_METRICS)

    def common(self, *, refusals: bool = False) -> dict[str, Any]:
        """Return `pair` of the columns `output` and `truth`.

        Args:
            refusals: Whether a null is an answer too: that of a row that was answered and has no
                error is the empty text, which is right where the truth is one.

        Raises:
            ColumnError: There is no such column.
            FrameError: No row has both.
        """
        if not isinstance(self.truth, str):
            raise ColumnError(
                f"truth={shown(self.truth)} is no column. Put the right answers in one, for "
                "instance with frame.assign(truth=...) in pandas, and pass its name."
            )
        values = self.data[self.output].to_list()
        answers = [None if is_missing(value) else value for value in values]
        right = right_answers(self.frame, self.truth)
        if refusals:
            refused = self._refused()
            answers = ["" if null else a for a, null in zip(answers, refused, strict=True)]
            truth = self.data[self.truth].to_list()
            right = [
                "" if isinstance(value, str) and is_blank(value) else text
                for value, text in zip(truth, right, strict=True)
            ]
        return self.pair(answers, right)

    def _refused(self) -> list[bool]:
        """Return which rows were answered, and have neither an answer nor an error."""
        names = [self.output, f"{self.output}_error", f"{self.output}_run"]
        if not set(names) <= set(self.data.columns):
            return [False] * len(self.data)
        columns = [self.data[name].to_list() for name in names]
        return [
            is_missing(answer) and is_missing(error) and not is_missing(run)
            for answer, error, run in zip(*columns, strict=True)
        ]

    def pair(self, answers: Sequence[Any], right: Sequence[Any]) -> dict[str, Any]:
        """Return the attributes of `Evaluation`, for the rows with both answer and truth.

        Args:
            answers: The answer of each row; None if it is missing.
            right: The true value of each row; None if it is missing.

        Raises:
            FrameError: No row has both.
        """
        with_truth = [n for n, value in enumerate(right) if value is not None]
        kept = [n for n in with_truth if answers[n] is not None]
        if not kept:
            raise FrameError(
                f"no row has both an answer in {self.output!r} and a truth in {self.truth!r}."
            )
        return {
            "frame": self.frame,
            "output": self.output,
            "truth": self.truth,
            "verb": self.verb,
            "answers": [answers[n] for n in kept],
            "right": [right[n] for n in kept],
            "positions": kept,
            "unanswered": len(with_truth) - len(kept),
        }


def evaluate_answers(
    request: EvaluationRequest,
    *,
    metrics: Sequence[str] = _ROUGE,
    baseline: Baseline = _FIRST_SENTENCES,
    refusals: bool = False,
) -> Evaluation:
    """Return the evaluation of labels, fields or texts, whichever the run's record states.

    Args:
        request: The answers, the true values and the records of the runs.
        metrics: The default metrics for texts.
        baseline: The baseline for texts.
        refusals: As in `EvaluationRequest.common`.

    Raises:
        ColumnError: There is no such column.
        FrameError: No row has both answer and truth, a metric is unknown or does not apply, or
            the answers were changed.
        LabelError: `truth` has labels that the verb does not give.
    """
    common, record = request.common(refusals=refusals), request.records[0]
    if any(not isinstance(value, str) for value in common["answers"]):
        raise FrameError(
            f"the answers in {request.output!r} are no texts, though {request.verb} gives such: "
            "they were changed since. Evaluate the frame that the verb returned."
        )
    if field_names(record):
        request.refuse_metrics()
        return evaluate_fields(request.data, record, common)
    if "labels" in record["parameters"]:
        request.refuse_metrics()
        return evaluate_labels(request.data, request.records, common)
    chosen = metrics if request.metrics is None else request.metrics
    texts = _baseline_texts(request.data, record, common, baseline)
    return evaluate_texts(common, chosen, texts, "none" if texts is None else baseline.name)


def _baseline_texts(
    data: nw.DataFrame[Any],
    record: Mapping[str, Any],
    common: Mapping[str, Any],
    baseline: Baseline,
) -> list[str] | None:
    """Return the baseline's text for each row; None if the frame lacks the source texts."""
    columns = record["columns"]
    single = next(iter(columns.values())) if len(columns) == 1 else None
    column = columns.get("context", columns.get("sources", single))
    if column not in data.columns:
        return None
    texts = data[column].to_list()
    sources = [str(texts[n]) for n in common["positions"]]
    return [baseline.make(s, a) for s, a in zip(sources, common["answers"], strict=True)]

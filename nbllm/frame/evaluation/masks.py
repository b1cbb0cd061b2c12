"""Evaluation of masked spans against the spans that should have been masked."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw
import numpy as np

from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import is_missing
from nbllm.frame.evaluation.base import CONFIDENCE, SEED, Evaluation
from nbllm.frame.evaluation.summary import Measure
from nbllm.frame.masking.masker import EntityMatch, mask_text
from nbllm.stats import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.frame.evaluation.request import EvaluationRequest

__all__ = ["Span", "SpanEvaluation", "baseline_spans", "evaluate_spans"]

# Something with an @ in it, or digits with separators. The lengths are bounded, as those of
# addresses are, so that matching takes linear time.
_BASELINE = re.compile(r"[^\s@]{1,64}@[^\s@]{1,255}\.\w+|\+?\(?\d[\d .()/-]{4,}\d")


class Span(NamedTuple):
    """Personal data of one kind: `text[start:end]`."""

    entity: str
    start: int
    end: int


@dataclass(frozen=True, eq=False, repr=False)
class SpanEvaluation(Evaluation):
    """Evaluation of masked spans, as `df.llm.evaluate` returns it.

    A true span is recalled if every character of it is masked, as any entity, since any other
    character is still visible. A masked span is precise if it overlaps a true span. The intervals
    are those of 2,000 seeded bootstrap resamples of texts. The baseline masks words with an @ and
    numbers of six characters or more.
    """

    baseline_spans: list[list[Span]] | None  # for each text; None if the texts are not known

    @property
    def unit(self) -> str:
        """The unit of evaluation, in the plural."""
        return "texts"

    @property
    def remark(self) -> str:
        """The true entities as which nothing was masked, as a footnote, or an empty string."""
        masked_as = {span.entity for spans in self.answers for span in spans}
        never = sorted({span.entity for spans in self.right for span in spans} - masked_as)
        if not never:
            return ""
        return (
            f"Nothing was masked as {', '.join(never)}: mask looks for what its entities= name, "
            "and says on each call what else it knows."
        )

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Recall, precision and F1 over all spans, then the recall of each entity."""
        entities = sorted({span.entity for spans in self.right for span in spans})
        found = [self._measure(name, self.right) for name in ("recall", "precision", "F1")]
        for entity in entities:
            right = [[span for span in spans if span.entity == entity] for spans in self.right]
            found.append(self._measure("recall", right, entity))
        return tuple(found)

    def _measure(
        self, name: str, right: Sequence[Sequence[Span]], entity: str | None = None
    ) -> Measure:
        counts = _counts(self.answers, right)
        value = bootstrap(lambda rows: _score(counts[rows], name), len(counts), CONFIDENCE, SEED)
        spans = self.baseline_spans
        baseline = None if spans is None else _score(_counts(spans, right), name)
        return Measure(name, value, baseline, entity)

    def rows(self, entity: str | None = None) -> Any:
        """Return the rows of the frame with a true span that was not masked completely.

        Args:
            entity: The entity of the span; None for any.

        Example:
            >>> found.rows("PHONE_NUMBER")  # doctest: +SKIP
        """
        triples = zip(self.positions, self.answers, self.right, strict=True)
        return self._rows_at(
            [
                row
                for row, masks, right in triples
                if any(s.entity == (entity or s.entity) and not _covered(s, masks) for s in right)
            ]
        )


def evaluate_spans(request: EvaluationRequest) -> SpanEvaluation:
    """Return the evaluation of masked texts against a column of true spans.

    Args:
        request: The masked texts and the column of true spans: a list per row, as JSON or as a
            list, of objects with entity, start and end, or of (entity, start, end); empty for a
            text without spans.

    Raises:
        ColumnError: There is no such column.
        FrameError: A true value has another form, or no row has both masked text and truth.
    """
    data, truth, output = request.data, request.truth, request.output
    if truth not in data.columns:
        raise ColumnError(f"the frame has no column {truth!r}, in which the true spans would be.")
    entities = data[f"{output}_entities"].to_list()
    common = request.pair(
        [cell if isinstance(cell, str) else None for cell in entities],
        [None if is_missing(cell) else cell for cell in data[truth].to_list()],
    )
    common["answers"] = [_parse(cell, output) for cell in common["answers"]]
    texts = _source_texts(data, output, common["answers"], common["positions"])
    common["right"] = [_parse(cell, truth) for cell in common["right"]]
    return SpanEvaluation(
        **common,
        baseline="none" if texts is None else "masking what has an @, and longer numbers",
        baseline_spans=None if texts is None else [baseline_spans(text) for text in texts],
    )


def baseline_spans(text: str) -> list[Span]:
    """Return the spans that a simple regular expression finds: e-mail addresses, long numbers.

    Example:
        >>> baseline_spans("ann@example.org, 020 7946")
        [Span(entity='', start=0, end=15), Span(entity='', start=17, end=25)]
    """
    return [Span("", *match.span()) for match in _BASELINE.finditer(text)]


def _parse(cell: Any, column: str) -> list[Span]:
    try:
        found = json.loads(cell) if isinstance(cell, str) else list(cell)
        spans = []
        for item in found:
            parts = (item["entity"], item["start"], item["end"]) if isinstance(item, dict) else item
            entity, start, end = parts
            spans.append(Span(str(entity), int(start), int(end)))
    except (ValueError, TypeError, KeyError) as error:
        raise FrameError(
            f"column {column!r} should hold a list of spans a row, as JSON or as such, each with "
            f"entity, start and end; {cell!r:.80} is not one. Correct it."
        ) from error
    return spans


def _source_texts(
    data: nw.DataFrame[Any], output: str, answers: Sequence[Sequence[Span]], rows: Sequence[int]
) -> list[str] | None:
    """Return the texts before masking; None if no column has them.

    The right column is the one whose texts, with the spans masked, give the column `output`.
    """
    outputs = data[output].to_list()
    for name in data.columns:
        texts = data[name].to_list()
        if name != output and all(
            isinstance(texts[n], str)
            and mask_text(texts[n], [EntityMatch(*span, 1.0) for span in spans]) == outputs[n]
            for n, spans in zip(rows, answers, strict=True)
        ):
            return [texts[n] for n in rows]
    return None


def _covered(span: Span, masks: Sequence[Span]) -> bool:
    """Return whether every character of a span is masked."""
    covered_to = span.start
    for mask in sorted(masks, key=lambda mask: mask.start):
        if mask.start > covered_to:
            break
        covered_to = max(covered_to, mask.end)
    return covered_to >= span.end


def _overlaps(mask: Span, spans: Sequence[Span]) -> bool:
    return any(mask.start < span.end and span.start < mask.end for span in spans)


def _counts(masks: Sequence[Sequence[Span]], right: Sequence[Sequence[Span]]) -> NDArray[np.int64]:
    """Return the numbers of covered true spans, true spans, overlapping masks and masks.

    The shape is (texts, 4).
    """
    return np.array(
        [
            (
                sum(_covered(span, found) for span in spans),
                len(spans),
                sum(_overlaps(mask, spans) for mask in found),
                len(found),
            )
            for found, spans in zip(masks, right, strict=True)
        ],
        dtype=np.int64,
    )


def _score(counts: NDArray[np.int64], measure: str) -> float:
    """Return recall, precision or F1 of `_counts`; 0 without any spans."""
    covered, true, overlapping, masks = (int(total) for total in counts.sum(axis=0))
    recall, precision = covered / max(true, 1), overlapping / max(masks, 1)
    total = recall + precision
    f1 = 2 * recall * precision / total if total else 0.0
    return {"recall": recall, "precision": precision, "F1": f1}[measure]

"""Masked spans against the spans that should have been masked."""

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
from nbllm.frame.masking.masker import Found, masked
from nbllm.stats import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Span", "SpanEvaluation", "of_spans", "plain_spans"]

# What anybody would try first: something with an @ in it, and digits with what parts them.
# Not longer than addresses are, so that a text without one takes no longer either.
_PLAIN = re.compile(r"[^\s@]{1,64}@[^\s@]{1,255}\.\w+|\+?\(?\d[\d .()/-]{4,}\d")


class Span(NamedTuple):
    """Personal data of one kind: `text[start:end]`."""

    entity: str
    start: int
    end: int


@dataclass(frozen=True, eq=False, repr=False)
class SpanEvaluation(Evaluation):
    """Masked spans against the true ones. Made by `df.llm.evaluate`.

    A span is recalled where every character of it is masked, as whatever entity: what a reader
    could still see decides. What was masked is precise where it touches a true span. The
    interval is that of 2,000 bootstrap resamples of texts, seeded. The baseline masks what has an @
    and numbers of six characters or more.
    """

    plain: list[list[Span]] | None  # the baseline's spans for each text

    @property
    def unit(self) -> str:
        """The unit that is judged, in the plural."""
        return "texts"

    @property
    def remark(self) -> str:
        """The entities of the truth as which nothing was masked, or an empty string."""
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
        """Recall, precision and F1 of all, then the recall of each entity."""
        entities = sorted({span.entity for spans in self.right for span in spans})
        counts = _counts(self.answers, self.right)
        base = None if self.plain is None else _counts(self.plain, self.right)
        found = [_measure(name, counts, base) for name in ("recall", "precision", "F1")]
        for entity in entities:
            right = [[span for span in spans if span.entity == entity] for spans in self.right]
            of = None if self.plain is None else _counts(self.plain, right)
            found.append(_measure("recall", _counts(self.answers, right), of, entity))
        return tuple(found)

    def rows(self, entity: str | None = None) -> Any:
        """Return the rows of the frame with a true span that was not masked completely.

        Args:
            entity: of the span; None for any.

        Example:
            >>> found.rows("PHONE_NUMBER")  # doctest: +SKIP
        """
        triples = zip(self.positions, self.answers, self.right, strict=True)
        return self._taken(
            [
                row
                for row, given, right in triples
                if any(s.entity == (entity or s.entity) and not _covered(s, given) for s in right)
            ]
        )


def of_spans(frame: Any, truth: str, output: str, verb: str) -> SpanEvaluation:
    """Return what was masked beside a column of true spans.

    Args:
        frame: what the verb returned.
        output: the column of masked texts.
        truth: the column of spans: a list a row, as JSON or as such, of objects with entity,
            start and end, or of (entity, start, end); empty where a text has none.
        verb: its name.

    Raises:
        ColumnError: no such column.
        FrameError: a truth of another form, or no row has both.
    """
    data = nw.from_native(frame, eager_only=True)
    if truth not in data.columns:
        raise ColumnError(f"the frame has no column {truth!r}, in which the true spans would be.")
    cells = data[truth].to_list()
    given = data[f"{output}_entities"].to_list()
    judged = [n for n, cell in enumerate(cells) if not is_missing(cell)]
    kept = [n for n in judged if isinstance(given[n], str)]
    if not kept:
        raise FrameError(f"no row has both a masked text in {output!r} and a truth in {truth!r}.")
    answers = [_read(given[n], output) for n in kept]
    texts = _sources(data, output, answers, kept)
    return SpanEvaluation(
        frame=frame,
        output=output,
        truth=truth,
        verb=verb,
        answers=answers,
        right=[_read(cells[n], truth) for n in kept],
        positions=kept,
        unanswered=len(judged) - len(kept),
        baseline="none" if texts is None else "masking what has an @, and longer numbers",
        plain=None if texts is None else [plain_spans(text) for text in texts],
    )


def plain_spans(text: str) -> list[Span]:
    """Return the spans that a simple regular expression finds: e-mail addresses, long numbers.

    Example:
        >>> plain_spans("ann@example.org, 020 7946")
        [Span(entity='', start=0, end=15), Span(entity='', start=17, end=25)]
    """
    return [Span("", *match.span()) for match in _PLAIN.finditer(text)]


def _read(cell: Any, column: str) -> list[Span]:
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


def _sources(
    data: nw.DataFrame[Any], output: str, answers: Sequence[Sequence[Span]], rows: Sequence[int]
) -> list[str] | None:
    """Return the texts that were masked, from the column that gives the answers when masked."""
    wanted = data[output].to_list()
    for name in data.columns:
        texts = data[name].to_list()
        if name != output and all(
            isinstance(texts[n], str)
            and masked(texts[n], [Found(*span, 1.0) for span in spans]) == wanted[n]
            for n, spans in zip(rows, answers, strict=True)
        ):
            return [texts[n] for n in rows]
    return None


def _covered(span: Span, masks: Sequence[Span]) -> bool:
    """Return whether every character of a span is masked."""
    seen = span.start
    for mask in sorted(masks, key=lambda mask: mask.start):
        if mask.start > seen:
            break
        seen = max(seen, mask.end)
    return seen >= span.end


def _touches(mask: Span, spans: Sequence[Span]) -> bool:
    return any(mask.start < span.end and span.start < mask.end for span in spans)


def _counts(given: Sequence[Sequence[Span]], right: Sequence[Sequence[Span]]) -> NDArray[np.int64]:
    """Count true spans covered, true spans, masks that touch one, masks; shape (texts, 4)."""
    return np.array(
        [
            (
                sum(_covered(span, masks) for span in spans),
                len(spans),
                sum(_touches(mask, spans) for mask in masks),
                len(masks),
            )
            for masks, spans in zip(given, right, strict=True)
        ],
        dtype=np.int64,
    )


def _share(counts: NDArray[np.int64], measure: str) -> float:
    """Return recall, precision or F1 of `_counts`; 0 if nothing was counted."""
    covered, true, touching, masks = (int(total) for total in counts.sum(axis=0))
    recall, precision = covered / max(true, 1), touching / max(masks, 1)
    both = recall + precision
    f1 = 2 * recall * precision / both if both else 0.0
    return {"recall": recall, "precision": precision, "F1": f1}[measure]


def _measure(
    name: str,
    counts: NDArray[np.int64],
    base: NDArray[np.int64] | None,
    entity: str | None = None,
) -> Measure:
    value = bootstrap(lambda rows: _share(counts[rows], name), len(counts), CONFIDENCE, SEED)
    return Measure(name, value, None if base is None else _share(base, name), entity)

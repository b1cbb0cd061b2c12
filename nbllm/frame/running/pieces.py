"""Summarizes texts that do not fit the context piece by piece, recursively.

A long text is cut at the ends of paragraphs or sentences. The pieces are the texts of a separate
run, with answers in the ledger as in any other. Their summaries, joined by line breaks, replace
the text, and are cut and summarized again until they fit.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from nbllm._warnings import warn_user
from nbllm.blank import is_blank
from nbllm.engine.ledger import ledger_path
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt
from nbllm.errors import ProvenanceError
from nbllm.frame.columns import Rows, distinct_rows, row_key
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.execute import ExecutionOptions, Question, execute
from nbllm.frame.running.provenance import known_answers
from nbllm.frame.tasks.bound_prompt import compile_template
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.model import Model

__all__ = ["condense", "condensed_text"]

# Where to cut, in order of preference: after a paragraph, a line, a sentence, a word.
_BOUNDARIES = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"'”’)]*\s+|[。！？][”’」』）]*"),
    re.compile(r"\s+"),
)

# A piece may have a few tokens more than its part of the text, where a cut splits a token.
_SLACK = 4

# Returns the summary or the error of each piece, given the pieces and the indices of their texts.
_Summarize = Callable[[Sequence[str], Sequence[int]], list[tuple[str | None, str | None]]]


def condense(
    rows: Rows,
    question: Question,
    labels: Callable[[], Sequence[Any]],
    execution: ExecutionOptions,
    monitor: RunMonitor,
) -> Rows:
    """Return rows whose long texts are replaced by the joined summaries of their pieces.

    The error of a piece becomes the error of its text. If the run is stopped, it warns and no row
    keeps a text; the next run continues from the ledger.

    Args:
        rows: The texts of one column.
        question: The question to run on texts and pieces.
        labels: Returns the index labels of the rows.
        execution: The options of the run.
        monitor: The monitor that displays and cancels the run.
    """
    cutter = _Cutter(
        compile_template(question.task.template, question.model, question.limit), question.limit
    )
    long = _LongTexts({i: text for i, (text,) in enumerate(rows.texts) if not cutter.fits(text)})
    if not long.texts:
        return rows
    first_rows = rows.first_rows()
    of_pieces = question.with_names({TEXT: TEXT}, "summary")

    def summarize(pieces: Sequence[str], of: Sequence[int]) -> list[tuple[str | None, str | None]]:
        piece_rows = distinct_rows([(piece,) for piece in pieces])
        row_labels = labels()
        answers = execute(
            of_pieces,
            piece_rows,
            lambda: [row_labels[first_rows[i]] for i in of],
            replace(execution, truncate=False),
            monitor,
        )
        [values] = answers.decoded(of_pieces.task)
        return [
            (None, None) if n is None else (values.get(n), answers.errors.get(n))
            for n in piece_rows.text_indices
        ]

    long.condense(cutter, summarize)
    if long.stopped:
        warn_user(
            f"{question.task.verb}: stopped while long texts were read in pieces; no row is "
            "answered. What is in the ledger is not asked again.",
        )
        return Rows([], [None] * len(rows.text_indices), rows.errors)
    kept: list[tuple[str, ...] | None] = []
    errors = dict(rows.errors)
    for row, i in enumerate(rows.text_indices):
        if i in long.errors:
            errors[row] = long.errors[i]
        kept.append(
            None if i is None or i in long.errors else (long.texts.get(i, rows.texts[i][0]),)
        )
    return replace(distinct_rows(kept), errors=errors)


def condensed_text(record: Mapping[str, Any], text: str, model: Model) -> str:
    """Return the text that a run gave the model: the text itself, or the summaries of its pieces.

    Args:
        record: The record of the run.
        text: The text of the row.
        model: A model with the tokenizer of the run's model.

    Raises:
        ProvenanceError: The summary of a piece is neither in the ledger nor in this process.
    """
    template = tuple(Part(kind, value) for kind, value in record["template"])
    cutter = _Cutter(CompiledTemplate(template, model.tokenizer), record["limit"])
    if record["truncate"] or cutter.fits(text):
        return text

    def recorded(pieces: Sequence[str], _: Sequence[int]) -> list[tuple[str | None, str | None]]:
        keys = [row_key((piece,)) for piece in pieces]
        known = known_answers(record["question"], keys)
        if not all(key in known for key in keys):
            raise ProvenanceError(
                "the text of this row was summarized in pieces, whose summaries are neither in "
                f"the ledger {ledger_path()} nor of this process; or it was changed since. Ask it "
                "again, or point NBLLM_LEDGER at the ledger that the run wrote."
            )
        if not all(isinstance(known[key], str) for key in keys):
            raise ledger_error(ledger_path(), "a summary on file is no text")
        return [(known[key], None) for key in keys]

    long = _LongTexts({0: text})
    long.condense(cutter, recorded)
    if long.errors:
        raise ProvenanceError(f"this row has no summary: {long.errors[0]}.")
    return long.texts[0]


@dataclass
class _LongTexts:
    """Texts that do not fit, by text index; `condense` replaces them by their summaries."""

    texts: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False

    def condense(self, cutter: _Cutter, summarize: _Summarize) -> None:
        """Replace each text by the summaries of its pieces, until it fits."""
        waiting = list(self.texts)
        while waiting and not self.stopped:
            pieces = [(i, piece) for i in waiting for piece in cutter.cut(self.texts[i])]
            results = summarize([piece for _, piece in pieces], [i for i, _ in pieces])
            summaries: dict[int, list[str]] = {i: [] for i in waiting}
            for (i, _), (summary, error) in zip(pieces, results, strict=True):
                if summary is not None:
                    summaries[i].append(summary)
                elif error is not None:
                    self.errors.setdefault(i, error)
                else:
                    self.stopped = True
            for i in waiting:
                joined = "\n".join(summaries[i])
                if cutter.tokens(joined) >= cutter.tokens(self.texts[i]):
                    self.errors.setdefault(i, cutter.no_shorter)
                self.texts[i] = joined
            waiting = [
                i for i in waiting if i not in self.errors and not cutter.fits(self.texts[i])
            ]


class _Cutter:
    """Cuts texts into pieces that fit the prompt of a task.

    Args:
        template: The prompt.
        limit: The maximal number of tokens of a prompt.
    """

    def __init__(self, template: CompiledTemplate, limit: int) -> None:
        self._template = template
        self.room = limit - self._template.own_length

    @property
    def no_shorter(self) -> str:
        return (
            "the summaries of its pieces are no shorter than the text itself, of which "
            f"{counted(self.room, 'token fits', 'tokens fit')} the context; pass a smaller "
            "max_words"
        )

    def tokens(self, text: str) -> int:
        return len(self._spans(text))

    def fits(self, text: str) -> bool:
        # A character is at most four tokens, one per byte, so short texts need no tokenizer.
        return 4 * len(text) < self.room or self.tokens(text) <= self.room

    def cut(self, text: str) -> list[str]:
        """Return pieces of about equal length, each of `room` tokens or fewer."""
        room = max(1, self.room - _SLACK)
        while True:
            pieces = _pieces(text, self._spans(text), room)
            if room == 1 or all(self.fits(piece) for piece in pieces):
                return pieces
            room = max(1, room * 9 // 10)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character span of each token of a text."""
        prompt = self._template.encode([(text,)], limit=sys.maxsize)[0]
        if not isinstance(prompt, Prompt):
            return []  # the tokenizer cannot encode it, which the run reports as an error
        mark, start = prompt.field_spans[0], prompt.text.rfind(text)
        return [(max(0, a - start), b - start) for a, b in prompt.spans[mark.start : mark.stop]]


def _pieces(text: str, spans: Sequence[tuple[int, int]], room: int) -> list[str]:
    """Return pieces of at most `room` tokens, each cut at the best boundary in its second half.

    Args:
        text: The text.
        spans: The character span of each token.
        room: The maximal number of tokens per piece.
    """
    starts = [start for start, _ in spans]
    pieces, first, begin = [], 0, 0
    while len(spans) - first > room:
        # Equal pieces: the summary of a short last piece would weigh as much as the others.
        size = ceil((len(spans) - first) / ceil((len(spans) - first) / room))
        least, most = starts[first + size // 2], spans[first + size - 1][1]
        end = next(
            (
                found[-1].end()
                for boundary in _BOUNDARIES
                if (found := list(boundary.finditer(text, least, most)))
            ),
            most,
        )
        pieces.append(text[begin:end].strip())
        begin, first = end, max(first + 1, bisect_left(starts, end))
    pieces.append(text[begin:].strip())
    return [piece for piece in pieces if not is_blank(piece)]

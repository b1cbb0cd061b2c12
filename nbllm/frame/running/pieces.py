"""Texts that do not fit the context, read in pieces: summaries of summaries.

A text that is too long is cut where paragraphs or sentences end. Each piece is a row of a run
of its own, filed in the ledger like any other; the summaries of the pieces, one below the
other, then stand for the text, and are cut again for as long as they do not fit.
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
from nbllm.frame.tasks.bound_prompt import compiled
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.models.model import Model

__all__ = ["condense", "condensed"]

# Where to cut, best first: after a paragraph, a line, a sentence, a word.
_BORDERS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"'”’)]*\s+|[。！？][”’」』）]*"),
    re.compile(r"\s+"),
)

# A piece alone may have a few tokens more than within its text, where a cut parts a token.
_SLACK = 4

# Asks about pieces, each with the number of its text: the answer or the error of each.
_Ask = Callable[[Sequence[str], Sequence[int]], list[tuple[str | None, str | None]]]


def condense(
    rows: Rows,
    question: Question,
    labels: Callable[[], Sequence[Any]],
    execution: ExecutionOptions,
    monitor: RunMonitor,
) -> Rows:
    """Put the answers about its pieces in the place of each text that does not fit.

    The error of a piece is that of its text. Stopped meanwhile, no row has a text left, and a
    warning says so: asked again, it goes on from the ledger.

    Args:
        rows: texts of one column.
        question: which also the pieces are asked.
        labels: those of the rows.
    """
    cutter = _Cutter(
        compiled(question.task.template, question.model, question.limit), question.limit
    )
    long = _Long({i: text for i, (text,) in enumerate(rows.texts) if not cutter.fits(text)})
    if not long.texts:
        return rows
    first = {i: row for row, i in reversed(list(enumerate(rows.position))) if i is not None}
    asked = question.filed_under({TEXT: TEXT}, "summary")

    def ask(pieces: Sequence[str], of: Sequence[int]) -> list[tuple[str | None, str | None]]:
        several = distinct_rows([(piece,) for piece in pieces])
        known = labels()
        answers = execute(
            asked,
            several,
            lambda: [known[first[i]] for i in of],
            replace(execution, truncate=False),
            monitor,
        )
        [values] = answers.decoded(asked.task)
        return [
            (None, None) if n is None else (values.get(n), answers.errors.get(n))
            for n in several.position
        ]

    long.condense(cutter, ask)
    if long.stopped:
        warn_user(
            f"{question.task.verb}: stopped while long texts were read in pieces; no row is "
            "answered. What is in the ledger is not asked again.",
        )
        return Rows([], [None] * len(rows.position), rows.errors)
    kept: list[tuple[str, ...] | None] = []
    errors = dict(rows.errors)
    for row, i in enumerate(rows.position):
        if i in long.errors:
            errors[row] = long.errors[i]
        kept.append(
            None if i is None or i in long.errors else (long.texts.get(i, rows.texts[i][0]),)
        )
    return replace(distinct_rows(kept), errors=errors)


def condensed(record: Mapping[str, Any], text: str, model: Model) -> str:
    """What a run read in the place of a text: itself, or the answers about its pieces.

    Args:
        record: of the run.

    Raises:
        ProvenanceError: a summary of a piece is neither in the ledger nor of this process.
    """
    template = tuple(Part(kind, value) for kind, value in record["template"])
    cutter = _Cutter(CompiledTemplate(template, model.tokenizer), record["limit"])
    if record["truncate"] or cutter.fits(text):
        return text

    def filed(pieces: Sequence[str], _: Sequence[int]) -> list[tuple[str | None, str | None]]:
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

    long = _Long({0: text})
    long.condense(cutter, filed)
    if long.errors:
        raise ProvenanceError(f"this row has no summary: {long.errors[0]}.")
    return long.texts[0]


@dataclass
class _Long:
    """Texts that do not fit, by number; as `condense` leaves them, what stands for each."""

    texts: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False

    def condense(self, cutter: _Cutter, ask: _Ask) -> None:
        """Put the summaries of its pieces in the place of each text, until it fits."""
        waiting = list(self.texts)
        while waiting and not self.stopped:
            pieces = [(row, piece) for row in waiting for piece in cutter.cut(self.texts[row])]
            asked = ask([piece for _, piece in pieces], [i for i, _ in pieces])
            summaries: dict[int, list[str]] = {row: [] for row in waiting}
            for (row, _), (summary, error) in zip(pieces, asked, strict=True):
                if summary is not None:
                    summaries[row].append(summary)
                elif error is not None:
                    self.errors.setdefault(row, error)
                else:
                    self.stopped = True
            for row in waiting:
                joined = "\n".join(summaries[row])
                if cutter.tokens(joined) >= cutter.tokens(self.texts[row]):
                    self.errors.setdefault(row, cutter.no_shorter)
                self.texts[row] = joined
            waiting = [
                row
                for row in waiting
                if row not in self.errors and not cutter.fits(self.texts[row])
            ]


class _Cutter:
    """Counts tokens, and cuts texts into pieces that fit the prompt of a task."""

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
        # A character is at most four tokens, one a byte: most texts need no count.
        return 4 * len(text) < self.room or self.tokens(text) <= self.room

    def cut(self, text: str) -> list[str]:
        """Pieces of about equal length, none of more than `room` tokens."""
        room = max(1, self.room - _SLACK)
        while True:
            pieces = _pieces(text, self._spans(text), room)
            if room == 1 or all(self.fits(piece) for piece in pieces):
                return pieces
            room = max(1, room * 9 // 10)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text lies in it."""
        prompt = self._template.encode([(text,)], limit=sys.maxsize)[0]
        if not isinstance(prompt, Prompt):
            return []  # a text that the tokenizer cannot read; the run says so
        mark, start = prompt.field_spans[0], prompt.text.rfind(text)
        return [(max(0, a - start), b - start) for a, b in prompt.spans[mark.start : mark.stop]]


def _pieces(text: str, spans: Sequence[tuple[int, int]], room: int) -> list[str]:
    """A text cut into pieces of at most `room` of its tokens, each at the best border near its end.

    Args:
        spans: where each token lies in the text.
    """
    starts = [start for start, _ in spans]
    pieces, first, begin = [], 0, 0
    while len(spans) - first > room:
        # Equal pieces: a short last one would count for as much as the others.
        size = ceil((len(spans) - first) / ceil((len(spans) - first) / room))
        least, most = starts[first + size // 2], spans[first + size - 1][1]
        end = next(
            (
                found[-1].end()
                for border in _BORDERS
                if (found := list(border.finditer(text, least, most)))
            ),
            most,
        )
        pieces.append(text[begin:end].strip())
        begin, first = end, max(first + 1, bisect_left(starts, end))
    pieces.append(text[begin:].strip())
    return [piece for piece in pieces if not is_blank(piece)]

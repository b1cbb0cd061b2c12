"""Summaries of texts that do not fit the context, and of groups: summaries of summaries.

A text that is too long is cut where paragraphs or sentences end. Each piece is a row of a run
of its own, filed in the ledger like any other; the summaries of the pieces, one below the
other, then stand for the text, and are cut again for as long as they do not fit.
"""

from __future__ import annotations

import re
import sys
import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.blank import is_blank
from nbllm.engine.ledger import ledger_path
from nbllm.engine.ledger_file import ledger_error
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt
from nbllm.errors import ColumnError, ProvenanceError
from nbllm.frame import KEEP
from nbllm.frame.columns import (
    index_labels,
    is_missing,
    new_series,
    read_rows,
    refuse_taken,
    row_key,
)
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.running.provenance import known_answers
from nbllm.frame.running.run import answer_frame
from nbllm.frame.tasks.prompted import compiled
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.running.progress import Watch
    from nbllm.frame.tasks.base import Task
    from nbllm.models.model import Model

__all__ = ["condensed", "group_texts", "summarize_frame"]

# Where to cut, best first: after a paragraph, a line, a sentence, a word.
_BORDERS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?…][\"'”’)]*\s+|[。！？][”’」』）]*"),
    re.compile(r"\s+"),
)

# A piece alone may have a few tokens more than within its text, where a cut parts a token.
_SLACK = 4

# Summarizes pieces: a text and a label for each, to the summary or the error of each.
_Ask = Callable[[Sequence[str], Sequence[Any]], list[tuple[str | None, str | None]]]


def summarize_frame(
    frame: Any,
    task: Task,
    model: Model,
    column: str,
    *,
    output: str,
    keep: Sequence[str] = KEEP,
    use_ledger: bool = True,
    truncate: bool = False,
    engine: str = "local",
    workers: int | None = None,
    watch: Watch | None = None,
) -> Any:
    """As `answer_frame`, but texts that do not fit the context are summarized in pieces.

    The error of a piece is that of its text. Stopped while pieces are asked, it answers no row:
    asked again, it goes on from the ledger.

    Args:
        column: the texts.
        truncate: cut texts to the context instead.
    """
    refuse_taken(frame, [output], ours=f"{output}_run")
    rows = read_rows(frame, [column])
    limit = model.context_length - task.answer_tokens(model)
    cutter = _Cutter(compiled(task.template, model, limit), limit)
    long = _Long()
    if not truncate:
        texts = [None if i is None else rows.texts[i][0] for i in rows.position]
        long.texts = {n: text for n, text in enumerate(texts) if text and not cutter.fits(text)}

    def ask(pieces: Sequence[str], labels: Sequence[Any]) -> list[tuple[str | None, str | None]]:
        import pandas

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said below, of the texts and not of their pieces
            answered = answer_frame(
                pandas.DataFrame({TEXT: pieces}, index=labels, dtype=object),
                task,
                model,
                {TEXT: TEXT},
                output="summary",
                keep=("value", "error"),
                use_ledger=use_ledger,
                engine=engine,
                workers=workers,
                watch=watch,
            )
        return [
            (None if is_missing(summary) else summary, None if is_missing(error) else error)
            for summary, error in zip(answered["summary"], answered["summary_error"], strict=True)
        ]

    if long.texts:
        labels = index_labels(frame)
        long.condense(cutter, ask, labels)
        _warn(long, [labels[row] for row in long.errors])
    answered = answer_frame(
        long.put_into(frame, column),
        task,
        model,
        {TEXT: column},
        output=output,
        keep=keep,
        use_ledger=use_ledger,
        truncate=truncate,
        engine=engine,
        workers=workers,
        watch=watch,
    )
    if not long.texts:
        return answered
    whole = nw.from_native(frame, eager_only=True)[column]
    return _replaced(answered, whole, f"{output}_error", long.errors)


def condensed(record: Mapping[str, Any], text: str, model: Model) -> str:
    """What a run of `summarize` read in the place of a text: itself, or summaries of its pieces.

    Args:
        record: of the run.

    Raises:
        ProvenanceError: a summary of a piece is neither in the ledger nor of this process.
    """
    template = tuple(Part(kind, value) for kind, value in record["template"])
    cutter = _Cutter(CompiledTemplate(template, model.tokenizer), record["limit"])
    if record["truncate"] or cutter.fits(text):
        return text

    def filed(pieces: Sequence[str], _: Sequence[Any]) -> list[tuple[str | None, str | None]]:
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
    long.condense(cutter, filed, [0])
    if long.errors:
        raise ProvenanceError(f"this row has no summary: {long.errors[0]}.")
    return long.texts[0]


def group_texts(frame: Any, by: Sequence[str], column: str) -> Any:
    """One row a group, in order of appearance: its keys, and its texts as the paragraphs of one.

    Rows without a key belong to no group; a group without a text has a null.

    Args:
        by: the columns that name a group.
        column: the texts.

    Raises:
        ColumnError: a column is missing, or a value of `column` is not text.
    """
    keys = list(by)
    if column in keys:
        raise ColumnError(
            f"by= names {column!r}, whose texts are to be summarized. Group by another column."
        )
    rows = read_rows(frame, [column])
    if rows.errors:
        raise ColumnError(
            f"row {index_labels(frame)[min(rows.errors)]!r} of {column!r} is "
            f"{rows.errors[min(rows.errors)]}. Make it a text first."
        )
    read_rows(frame, keys, any_type=True)  # says which column is missing
    data = nw.from_native(frame, eager_only=True)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(data.select(keys).rows()):
        if not any(is_missing(part) for part in key):
            groups.setdefault(key, []).append(row)
    texts = [
        "\n\n".join(
            rows.texts[i][0].strip() for row in members if (i := rows.position[row]) is not None
        )
        for members in groups.values()
    ]
    first = nw.maybe_reset_index(data.select(keys)[[members[0] for members in groups.values()]])
    series = new_series(column, [text or None for text in texts], nw.String, data.implementation)
    return first.with_columns(series).to_native()


@dataclass
class _Long:
    """Texts that do not fit, by row; as `condense` leaves them, what stands for each."""

    texts: dict[int, str] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    stopped: bool = False

    def condense(self, cutter: _Cutter, ask: _Ask, labels: Sequence[Any]) -> None:
        """Put the summaries of its pieces in the place of each text, until it fits."""
        waiting = list(self.texts)
        while waiting and not self.stopped:
            pieces = [(row, piece) for row in waiting for piece in cutter.cut(self.texts[row])]
            asked = ask([piece for _, piece in pieces], [labels[row] for row, _ in pieces])
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

    def put_into(self, frame: Any, column: str) -> Any:
        """The frame with these texts in the place of its own, and null where there is an error."""
        if not self.texts:
            return frame
        values = nw.from_native(frame, eager_only=True)[column].to_list()
        for row, text in self.texts.items():
            values[row] = None if row in self.errors else text
        return _with_values(frame, column, [None] * len(values) if self.stopped else values)


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
        mark, start = prompt.marks[0], prompt.text.rfind(text)
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


def _warn(long: _Long, failed: Sequence[Any]) -> None:
    if long.stopped:
        warn_user(
            "summarize: stopped while long texts were summarized in pieces; no row is answered. "
            "What is in the ledger is not asked again.",
        )
    elif failed:
        warn_user(
            f"summarize: {counted(len(failed), 'long text has', 'long texts have')} no answer "
            f"(index {failed[0]!r}): {next(iter(long.errors.values()))}",
        )


def _with_values(frame: Any, name: str, values: Sequence[Any]) -> Any:
    """The frame with other texts in one of its columns."""
    data = nw.from_native(frame, eager_only=True)
    series = new_series(name, values, nw.String, data.implementation)
    return data.with_columns(series).to_native()


def _replaced(answered: Any, whole: Any, error: str, errors: Mapping[int, str]) -> Any:
    """An answered frame with its own texts again, and with the errors of long ones."""
    restored = nw.from_native(answered, eager_only=True).with_columns(whole).to_native()
    if error in restored.columns:
        said = nw.from_native(restored, eager_only=True)[error].to_list()
        said = [None if is_missing(value) else value for value in said]
        restored = _with_values(restored, error, [errors.get(n, e) for n, e in enumerate(said)])
    if hasattr(answered, "attrs"):
        restored.attrs = dict(answered.attrs)
    return restored

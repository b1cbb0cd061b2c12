"""Rows to learn from: which rows of a frame are used, set aside, or held out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np

from nbllm.checks import shown
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import read_rows
from nbllm.frame.evaluation.truth import right_answers
from nbllm.wording import counted, with_article

__all__ = ["Counts", "LearnedRow", "digest", "hold_out", "learned_rows"]

_FEW = 10  # labels below which the number of rows alone says why none can be held out


@dataclass(frozen=True)
class LearnedRow:
    """The texts of a row, and its answer."""

    texts: tuple[str, ...]  # one a column that is read
    answer: str = ""  # a label, or a text; nothing where the text itself is learned


@dataclass(frozen=True)
class Counts:
    """How many of a frame's rows are used: `rows = used + blank + unanswered + not_text`."""

    rows: int
    used: int
    blank: int  # a text that is missing or blank
    unanswered: int  # no label, or no answer
    not_text: int  # a value of another type

    def __str__(self) -> str:
        aside = {
            "without a text": self.blank,
            "without an answer": self.unanswered,
            "with a value that is no text": self.not_text,
        }
        said = ", ".join(f"{count:,} {what}" for what, count in aside.items() if count)
        return f"{self.used:,} of {counted(self.rows, 'row')}" + (
            f" (set aside: {said})" if said else ""
        )


def learned_rows(
    frame: Any, read: Sequence[str], answer: str | None, *, any_type: bool = False
) -> tuple[list[LearnedRow], Counts]:
    """Return the rows of a frame that have a text and an answer, in their order, and the counts.

    Args:
        frame: A pandas or polars DataFrame.
        read: The columns of text.
        answer: The column of labels or answers, of any type; None where there is none.
        any_type: Read columns that are not text too, and a blank one beside others as an empty
            text, as `df.llm.prompt` does.

    Raises:
        ColumnError: A column is not there, is not text, or has several answers per row.
        FrameError: No row is left.
    """
    texts = read_rows(frame, list(read), any_type=any_type)
    answers = None if answer is None else _answers(frame, answer)
    found: list[LearnedRow] = []
    aside: Counter[str] = Counter()
    for row, place in enumerate(texts.text_indices):
        if row in texts.errors or (place is not None and not _is_unicode(texts.texts[place])):
            aside["not_text"] += 1
        elif place is None:
            aside["blank"] += 1
        elif answers is None:
            found.append(LearnedRow(texts.texts[place]))
        elif (given := answers[row]) is None or not _is_unicode([given]):
            aside["unanswered"] += 1
        else:
            found.append(LearnedRow(texts.texts[place], given))
    counts = Counts(
        len(texts.text_indices), len(found), aside["blank"], aside["unanswered"], aside["not_text"]
    )
    if not found:
        raise FrameError(
            f"no row can be learned from: {counts}. Pass a frame with rows that have "
            f"{' and '.join([*read, *([] if answer is None else [answer])])}."
        )
    return found, counts


def _answers(frame: Any, column: str) -> list[str | None]:
    """Return labels or answers as `evaluate` reads them; raise ColumnError for lists of them."""
    right = right_answers(frame, column)
    for value in nw.from_native(frame, eager_only=True)[column].to_list():
        if not isinstance(value, str) and hasattr(value, "__iter__"):
            raise ColumnError(
                f"column {column!r} holds {value!r:.80}, {with_article(type(value).__name__)}, "
                "and a row has one label or answer. Take one of each, or make a row of each with "
                f"frame.explode({column!r})."
            )
    return right


def _is_unicode(texts: Sequence[str]) -> bool:
    """Whether a tokenizer can read them: half a surrogate pair has no UTF-8."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def hold_out(
    rows: Sequence[LearnedRow], share: float, seed: int, *, by_answer: bool
) -> tuple[list[LearnedRow], list[LearnedRow]]:
    """Split rows into those to train on and those held out; a text is on one side alone.

    Args:
        rows: The rows.
        share: The share of distinct texts to hold out, above 0 and below 1.
        seed: The seed of the draw.
        by_answer: Hold out the same share of each label. A label's only text is trained on.

    Returns:
        Rows to train on, and rows held out.

    Raises:
        FrameError: The share is out of range, or there are too few rows to hold one out.
    """
    if not isinstance(share, Real) or isinstance(share, bool) or not 0 < float(share) < 1:
        raise FrameError(
            f"validation={shown(share)} is no share of the rows. Pass a number above 0 and below "
            "1, such as 0.1, or a frame of rows to hold out."
        )
    # Rows of one text are held out together or not at all.
    strata: dict[str, dict[tuple[str, ...], None]] = defaultdict(dict)
    for row in rows:
        strata[row.answer if by_answer else ""][row.texts] = None
    random = np.random.default_rng(seed)
    texts_out: set[tuple[str, ...]] = set()
    for _, texts_in in sorted(strata.items()):
        texts = list(texts_in)
        wanted = min(max(1, round(share * len(texts))), len(texts) - 1)
        chosen = random.permutation(len(texts))[:wanted]
        texts_out.update(texts[n] for n in chosen)
    # A text with two different labels is in two strata, and goes where either puts it.
    train = [row for row in rows if row.texts not in texts_out]
    held = [row for row in rows if row.texts in texts_out]
    if not held or not train:
        raise FrameError(f"{_why_undivided(rows, strata)} Or pass a frame as validation=.")
    return train, held


def _why_undivided(
    rows: Sequence[LearnedRow], strata: Mapping[str, Mapping[tuple[str, ...], None]]
) -> str:
    """Why no row can be held out while others are trained on."""
    texts = len({row.texts for row in rows})
    if texts == 1 and len(rows) > 1:
        return (
            f"all {counted(len(rows), 'row has', 'rows have')} the same text, so that none can be "
            "held out. Pass rows of different texts."
        )
    if len(strata) >= _FEW and all(len(texts_in) == 1 for texts_in in strata.values()):
        return (
            f"each of {counted(len(strata), 'label')} has one text alone, so that none can be held "
            "out. Pass several rows a label; where labels are numbers on a scale, cut them into a "
            "few ranges first, for instance with pandas.cut."
        )
    return (
        f"{counted(len(rows), 'row')} with {counted(texts, 'different text')}: too few to train on "
        "some and hold out others. Pass more rows."
    )


def digest(rows: Sequence[LearnedRow]) -> str:
    """Return the sha256 of rows, by which a run is recognized."""
    found = hashlib.sha256()
    for row in rows:
        found.update(json.dumps([*row.texts, row.answer]).encode() + b"\n")
    return found.hexdigest()


def label_counts(rows: Sequence[LearnedRow]) -> Mapping[str, int]:
    """Return the number of rows of each label, the most frequent first."""
    return dict(Counter(row.answer for row in rows).most_common())

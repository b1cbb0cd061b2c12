"""The right answers that a user gives: aligned with the rows, and checked against the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw

from nbllm.blank import is_blank
from nbllm.checks import shown
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import cell_text, index_labels, is_missing, read_rows
from nbllm.wording import counted

__all__ = ["given_answers", "label_text", "refuse_unknown", "right_answers"]


def right_answers(frame: Any, column: str) -> list[str | None]:
    """Return the right answer of each row as text, None where it is missing or blank.

    Args:
        frame: of pandas or polars.
        column: the one that has them, of any type.

    Raises:
        ColumnError: the column is not there.
    """
    read_rows(frame, [column], any_type=True)  # says which columns there are
    return [label_text(value) for value in nw.from_native(frame, eager_only=True)[column].to_list()]


def given_answers(frame: Any, truth: Any) -> list[str | None]:
    """Return the right answer of each row, from a column or from values beside the frame.

    Args:
        frame: of pandas or polars.
        truth: the name of a column; a Series, whose values belong to the rows of the same index
            labels in pandas; or one value a row, in the order of the frame.

    Raises:
        ColumnError: the column is not there.
        FrameError: a Series of other rows, or not one value a row.
    """
    if isinstance(truth, str):
        return right_answers(frame, truth)
    return [label_text(value) for value in _aligned(frame, truth)]


def label_text(value: Any) -> str | None:
    """Return a label of any type as stripped text; None if it is missing or blank.

    Example:
        >>> label_text("pos "), label_text(5.0), label_text(float("nan"))
        ('pos', '5', None)
    """
    text = "" if is_missing(value) else cell_text(value)
    return None if is_blank(text) else text.strip()


def refuse_unknown(
    right: Iterable[str | None], labels: Sequence[str], name: str, verb: str
) -> None:
    """Refuse right answers that a verb does not give, since every such row would count as wrong.

    Args:
        right: as `right_answers` gives them.
        labels: that the verb answers with.
        name: what holds the right answers, for the message.
        verb: the name of the verb, for the message.

    Raises:
        LabelError: there is one.
    """
    unknown = sorted({value for value in right if value is not None} - set(labels))
    if unknown:
        some = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise LabelError(
            f"{name} holds {some}, and {verb} answers with {', '.join(map(repr, labels))}. Map it "
            f"first, for instance with .map({{{unknown[0]!r}: {labels[0]!r}, ...}}) in pandas."
        )


def _aligned(frame: Any, truth: Any) -> list[Any]:
    """Return the values of a truth that is no column, in the order of the frame's rows."""
    index = index_labels(frame)
    if nw.dependencies.is_pandas_series(truth) and hasattr(frame, "index"):
        if truth.index.equals(frame.index):
            return list(truth)
        if truth.index.is_unique and set(index) <= set(truth.index):
            return list(truth.reindex(frame.index))
        raise FrameError(
            "truth= is a Series with another index than the frame has, so it does not say which "
            "row each value is of. Make it of the frame: truth.reindex(frame.index), or pass "
            "truth.tolist() if its values are in the order of the rows."
        )
    if not isinstance(truth, Iterable) or isinstance(truth, dict | set | frozenset | bytes):
        raise FrameError(
            f"truth={shown(truth)} is no list of right answers. Pass the name of a column, or one "
            "value a row."
        )
    values = list(truth)
    if len(values) != len(index):
        raise FrameError(
            f"truth has {counted(len(values), 'value')} and the frame "
            f"{counted(len(index), 'row')}. Give one a row, in the order of the frame, or the name "
            "of a column."
        )
    return values

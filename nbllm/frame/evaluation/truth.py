"""The right answers that a user passes, aligned with the rows and checked against the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw

from nbllm.blank import is_blank
from nbllm.checks import shown
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import cell_text, index_labels, is_missing, read_rows
from nbllm.wording import counted

__all__ = ["aligned_answers", "label_text", "refuse_unknown", "right_answers"]


def right_answers(frame: Any, column: str) -> list[str | None]:
    """Return the right answer of each row as text; None if it is missing or blank.

    Args:
        frame: A frame of pandas or polars.
        column: The column of the right answers, of any type.

    Raises:
        ColumnError: There is no such column.
    """
    read_rows(frame, [column], any_type=True)  # its error names the columns
    return [label_text(value) for value in nw.from_native(frame, eager_only=True)[column].to_list()]


def aligned_answers(frame: Any, truth: Any) -> list[str | None]:
    """Return the right answer of each row, from a column of the frame or from separate values.

    Args:
        frame: A frame of pandas or polars.
        truth: The name of a column; a Series, aligned by the index in pandas; or one value per
            row, in the order of the frame.

    Raises:
        ColumnError: There is no such column.
        FrameError: The Series has other rows, or there is not one value per row.
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
    """Raise if a right answer is not a label of the verb, since it could never be matched.

    Args:
        right: The right answers, as `right_answers` returns them.
        labels: The labels that the verb answers with.
        name: The source of the right answers, for the message.
        verb: The name of the verb, for the message.

    Raises:
        LabelError: A right answer is not a label.
    """
    unknown = sorted({value for value in right if value is not None} - set(labels))
    if unknown:
        some = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise LabelError(
            f"{name} holds {some}, and {verb} answers with {', '.join(map(repr, labels))}. Map it "
            f"first, for instance with .map({{{unknown[0]!r}: {labels[0]!r}, ...}}) in pandas."
        )


def _aligned(frame: Any, truth: Any) -> list[Any]:
    """Return values that are not a column, in the order of the frame's rows."""
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

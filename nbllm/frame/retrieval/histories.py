"""What users liked: labels of rows, marks in a column, or a frame of users and labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw

from nbllm.checks import shown
from nbllm.errors import FrameError
from nbllm.frame.columns import index_labels, is_missing
from nbllm.wording import counted

__all__ = ["are_marks", "listed", "read_histories"]


def read_histories(frame: Any, history: Any) -> dict[Any, list[int]]:
    """User to the rows liked; one user, None, where the history names none.

    Args:
        frame, history: the items and what was liked of them.

    Raises:
        FrameError: an item of the history is not in the frame or twice there, or none is liked.
    """
    if isinstance(history, str):
        return {None: _true_rows(_liked_column(frame, history), f"the column {history!r}")}
    labels = index_labels(frame)
    several = nw.dependencies.is_into_dataframe(history)
    given = [] if several else listed(history)
    if are_marks(given):
        if len(given) != len(labels):
            raise FrameError(
                f"history= has {counted(len(given), 'value')} that are true or false, and the "
                f"frame has {counted(len(labels), 'item')}. Pass one for each, or the labels of "
                "those liked."
            )
        if nw.dependencies.is_pandas_series(history) and list(history.index) != list(labels):
            raise FrameError(
                "history= is a Series with another index than the frame has, so it does not say "
                "which item each value is of. Make it of the frame: history.reindex(frame.index)."
            )
        return {None: _true_rows(given, "history=")}
    place: dict[Any, int] = {}
    repeated = set()
    for row, label in enumerate(labels):
        if label in place:
            repeated.add(label)
        place[label] = row

    def row_of(label: Any) -> int:
        if not isinstance(label, Hashable) or label not in place:
            raise FrameError(
                f"no item is labelled {shown(label)}, which the history names. Labels are those of "
                f"the frame's index; its first is {labels[0]!r}."
                if len(labels)
                else "the frame has no items. Fill it first."
            )
        if label in repeated:
            raise FrameError(
                f"several items are labelled {label!r}, which the history names. Give each a "
                "label of its own with frame.reset_index(drop=True)."
            )
        return place[label]

    liked: dict[Any, list[int]] = {}
    if several:
        pairs = nw.from_native(history, eager_only=True)
        if len(pairs.columns) < 2:
            raise FrameError(
                "a frame as history= has two columns, the user and the label of an item liked, "
                f"and this one has {len(pairs.columns)}. Pass the labels alone as a list."
            )
        for user, label, *_ in pairs.iter_rows():
            liked.setdefault(user, []).append(row_of(label))
    else:
        liked[None] = [row_of(label) for label in given]
    if not any(liked.values()):
        raise FrameError("the history has no items. Name one or more that were liked.")
    # In the order of the frame: a set has none, and of two that are as close the first is named.
    return {user: sorted(set(rows)) for user, rows in liked.items()}


def listed(history: Any) -> list[Any]:
    """The values of a history that is neither a frame nor the name of a column.

    Raises:
        FrameError: it is a mapping, one value, or text.
    """
    if isinstance(history, Mapping):
        raise FrameError(
            "history= is a mapping, which does not say what was liked. Pass a list of labels; for "
            "many users, a frame whose first two columns are user and label."
        )
    values = history.tolist() if hasattr(history, "tolist") else history
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise FrameError(
            f"history={shown(history)} lists no items. Pass the labels of those liked, such as "
            "history=[0, 3]."
        )
    return list(values)


def are_marks(given: Sequence[Any]) -> bool:
    """Whether a history says of each item that it was liked or not, and names none."""
    return any(isinstance(value, bool) for value in given)


def _liked_column(frame: Any, column: str) -> list[Any]:
    data = nw.from_native(frame, eager_only=True)
    if column not in data.columns:
        raise FrameError(
            f"history={column!r} is no column of the frame. Name one that is true where an item "
            "was liked, or pass a list of index labels."
        )
    marks: list[Any] = data[column].to_list()
    return marks


def _true_rows(marks: Sequence[Any], what: str) -> list[int]:
    odd = [mark for mark in marks if not is_missing(mark) and not isinstance(mark, bool)]
    if odd:
        raise FrameError(
            f"{what} holds {odd[0]!r}, which is not true or false. Compare it "
            "first, as in frame['rating'] >= 4."
        )
    rows = [row for row, mark in enumerate(marks) if mark is True]
    if not rows:
        raise FrameError(f"no item is true in {what}. Mark one or more that were liked.")
    return rows

"""Histories of liked items: row labels, booleans, or a frame of users and labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw

from nbllm.checks import shown
from nbllm.errors import FrameError
from nbllm.frame.columns import index_labels, is_missing
from nbllm.wording import counted

__all__ = ["history_values", "is_boolean", "read_histories"]


def read_histories(frame: Any, history: Any) -> dict[Any, list[int]]:
    """Return the positions of the liked items by user; the user is None if none is named.

    Args:
        frame: The items.
        history: The liked items: the name of a boolean column, one boolean per item, a list of
            index labels, or a frame whose first two columns are user and label.

    Raises:
        FrameError: An item of the history is missing from the frame or not unique there, or no
            item is liked.
    """
    if isinstance(history, str):
        column = _history_column(frame, history)
        return {None: _true_rows(column, f"the column {history!r}")}
    labels = index_labels(frame)
    several = nw.dependencies.is_into_dataframe(history)
    values = [] if several else history_values(history)
    if is_boolean(values):
        if len(values) != len(labels):
            raise FrameError(
                f"history= has {counted(len(values), 'value')} that are true or false, and the "
                f"frame has {counted(len(labels), 'item')}. Pass one for each, or the labels of "
                "those liked."
            )
        if nw.dependencies.is_pandas_series(history) and list(history.index) != list(labels):
            raise FrameError(
                "history= is a Series with another index than the frame has, so it does not say "
                "which item each value is of. Make it of the frame: history.reindex(frame.index)."
            )
        return {None: _true_rows(values, "history=")}
    positions: dict[Any, int] = {}
    repeated = set()
    for row, label in enumerate(labels):
        if label in positions:
            repeated.add(label)
        positions[label] = row

    def row_of(label: Any) -> int:
        if not isinstance(label, Hashable) or label not in positions:
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
        return positions[label]

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
        liked[None] = [row_of(label) for label in values]
    if not any(liked.values()):
        raise FrameError("the history has no items. Name one or more that were liked.")
    # A set has no order, and of two equally similar liked items the first is named as the reason.
    return {user: sorted(set(rows)) for user, rows in liked.items()}


def history_values(history: Any) -> list[Any]:
    """Return the values of a history that is neither a frame nor the name of a column.

    Args:
        history: The labels of liked items, or one boolean per item.

    Raises:
        FrameError: It is a mapping, a single value, or text.
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


def is_boolean(values: Sequence[Any]) -> bool:
    """Return whether the values of a history are booleans, one per item, and not labels."""
    return any(isinstance(value, bool) for value in values)


def _history_column(frame: Any, column: str) -> list[Any]:
    data = nw.from_native(frame, eager_only=True)
    if column not in data.columns:
        raise FrameError(
            f"history={column!r} is no column of the frame. Name one that is true where an item "
            "was liked, or pass a list of index labels."
        )
    values: list[Any] = data[column].to_list()
    return values


def _true_rows(values: Sequence[Any], source: str) -> list[int]:
    invalid = [value for value in values if not is_missing(value) and not isinstance(value, bool)]
    if invalid:
        raise FrameError(
            f"{source} holds {invalid[0]!r}, which is not true or false. Compare it "
            "first, as in frame['rating'] >= 4."
        )
    rows = [row for row, value in enumerate(values) if value is True]
    if not rows:
        raise FrameError(f"no item is true in {source}. Mark one or more that were liked.")
    return rows

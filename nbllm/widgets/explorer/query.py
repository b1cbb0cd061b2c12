"""The filter and the sort of the table, from traits or from a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from nbllm.errors import SelectionError
from nbllm.widgets.protocol.explorer import RowStatus

__all__ = ["Query"]


@dataclass(frozen=True)
class Query:
    """A filter and a sort; the defaults match every row.

    Attributes:
        text: A text that one of the texts contains, ignoring case.
        labels: The answers to match.
        truths: The right answers to match.
        score: The smallest and the largest score.
        only: "failed", "unasked", "corrected" or "wrong" rows; None for all.
        sort: The column to sort by, missing values last; None for the frame's order.
        descending: Whether the order is reversed.
    """

    text: str = ""
    labels: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    score: tuple[float, float] | None = None
    only: RowStatus | None = None
    sort: str | None = None
    descending: bool = False

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Query:
        """Return the query in a message from the browser.

        Args:
            message: The fields of the query, and possibly others.

        Raises:
            SelectionError: `only` has an unknown value.
        """
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in message.items() if name in known}
        for name in ("labels", "truths"):
            given[name] = tuple(str(label) for label in given.get(name) or ())
        if given.get("score") is not None:
            low, high = given["score"]
            given["score"] = (float(low), float(high))
        if given.get("only") not in (None, *get_args(RowStatus)):
            raise SelectionError(
                f"only={given['only']!r} is none of {', '.join(get_args(RowStatus))}. "
                "Choose one, or None."
            )
        return cls(**{**given, "text": str(given.get("text") or "")})

    def filters(self) -> list[str]:
        """Return a description of each part of the filter."""
        found = [f"rows that are {self.only}"] if self.only else []
        if self.labels:
            found.append(f"answered {' or '.join(self.labels)}")
        if self.truths:
            found.append(f"truly {' or '.join(self.truths)}")
        if self.score is not None:
            found.append(f"scores from {self.score[0]:g} to {self.score[1]:g}")
        if self.text:
            found.append(f"with {self.text!r}")
        return found

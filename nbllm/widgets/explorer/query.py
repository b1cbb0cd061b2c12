"""The filter and the sort of the table, read from traits or from a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from nbllm.errors import SelectionError
from nbllm.widgets.protocol.explorer import Only

__all__ = ["Query"]


@dataclass(frozen=True)
class Query:
    """A filter and a sort; all that is left out lets every row through.

    - `text`: is in one of the texts, upper and lower case alike
    - `labels`, `truths`: the answer is one of these; the right answer is
    - `score`: from and to, both included
    - `only`: "failed", "unasked", "corrected" or "wrong" rows
    - `sort`: name of the column; None is the frame's order. Rows without a value come last
    """

    text: str = ""
    labels: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    score: tuple[float, float] | None = None
    only: Only | None = None
    sort: str | None = None
    descending: bool = False

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Query:
        """Return the query in a message from the browser.

        Raises:
            SelectionError: it is none.
        """
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in message.items() if name in known}
        for name in ("labels", "truths"):
            given[name] = tuple(str(label) for label in given.get(name) or ())
        if given.get("score") is not None:
            low, high = given["score"]
            given["score"] = (float(low), float(high))
        if given.get("only") not in (None, *get_args(Only)):
            raise SelectionError(
                f"only={given['only']!r} is none of {', '.join(get_args(Only))}. "
                "Choose one, or None."
            )
        return cls(**{**given, "text": str(given.get("text") or "")})

    def filters(self) -> list[str]:
        """Return what the filter lets through, in words; empty where that is every row."""
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

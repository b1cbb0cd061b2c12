"""The rows of an answered frame of which something holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import narwhals as nw

from nbllm._warnings import warn_user
from nbllm.blank import is_blank
from nbllm.frame import KEEP
from nbllm.frame.columns import is_missing

__all__ = ["matching"]


def matching(answered: Any, column: str, output: str, keep: Sequence[str]) -> Any:
    """The rows whose answer is yes, under their own index; warns of rows without an answer.

    Args:
        column: the texts that were asked of.
        output: the column of the answers; the frame has all of `KEEP`.
        keep: which of those to leave in it.
    """
    data = nw.from_native(answered, eager_only=True)
    answers = data[output].to_list()
    unknown = Counter(
        _why(text, error)
        for text, answer, error in zip(
            data[column].to_list(), answers, data[f"{output}_error"].to_list(), strict=True
        )
        if answer not in ("yes", "no")
    )
    if unknown:
        kinds = ["blank", "failed", *(["unreached"] if unknown["unreached"] else [])]
        *said, last = [f"{unknown[kind]:,} {kind}" for kind in kinds]
        warn_user(
            f"filter: {', '.join(said)} and {last} rows of {len(answers):,} are left out, since "
            "nothing is known of them.",
        )
    dropped = [output if part == "value" else f"{output}_{part}" for part in KEEP]
    dropped = [name for name, part in zip(dropped, KEEP, strict=True) if part not in keep]
    chosen = [row for row, answer in enumerate(answers) if answer == "yes"]
    found = data[chosen].drop(dropped).to_native()
    if hasattr(answered, "attrs"):
        found.attrs = dict(answered.attrs)
    return found


def _why(text: Any, error: Any) -> str:
    """Why nothing is known of a row."""
    if isinstance(error, str):
        return "failed"
    # Only a run that was stopped leaves a text without an answer and without an error.
    return "blank" if is_missing(text) or is_blank(text) else "unreached"

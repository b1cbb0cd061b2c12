"""The rows of an answered frame of which something holds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import narwhals as nw

from nbllm.frame import KEEP

__all__ = ["matching"]


def matching(answered: Any, output: str, keep: Sequence[str]) -> Any:
    """The rows whose answer is yes, under their own index; warns of rows without an answer.

    Args:
        output: the column of the answers; the frame has all of `KEEP`.
        keep: which of those to leave in it.
    """
    data = nw.from_native(answered, eager_only=True)
    answers = data[output].to_list()
    blank, failed = 0, 0
    for answer, error in zip(answers, data[f"{output}_error"].to_list(), strict=True):
        if answer not in ("yes", "no"):
            failed += isinstance(error, str)
            blank += not isinstance(error, str)
    if blank or failed:
        warnings.warn(
            f"filter: {blank:,} blank and {failed:,} failed rows of {len(answers):,} are left out, "
            "since nothing is known of them.",
            stacklevel=5,
        )
    dropped = [output if part == "value" else f"{output}_{part}" for part in KEEP]
    dropped = [name for name, part in zip(dropped, KEEP, strict=True) if part not in keep]
    chosen = [row for row, answer in enumerate(answers) if answer == "yes"]
    found = data[chosen].drop(dropped).to_native()
    if hasattr(answered, "attrs"):
        found.attrs = dict(answered.attrs)
    return found

"""Reasons for a person to check a drafted reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbllm.frame.retrieval.sources import unsupported_numbers

__all__ = ["failure_reason", "handover_reasons"]


def handover_reasons(cells: Mapping[str, Any], message: str, threshold: float) -> list[str]:
    """Return the reasons to have a person check a reply; an empty list without any.

    Args:
        cells: The cells of one row of `reply`, by column suffix.
        message: The message that was replied to.
        threshold: The lowest intent and draft scores that need no check, 0 to 1.
    """
    if cells["_error"] is not None:
        return [failure_reason(cells["_error"])]
    reasons = []
    if cells["_intent_score"] < threshold:
        reasons.append(f"intent uncertain ({cells['_intent_score']:.2f})")
    if cells["_context"] is None:
        return [*reasons, "no source matches"]
    if cells["_score"] is None or cells["_score"] < threshold:
        reasons.append(f"draft shares too little with its sources ({cells['_score'] or 0:.2f})")
    if numbers := unsupported_numbers(cells[""] or "", f"{message}\n{cells['_context']}"):
        reasons.append(f"draft has numbers that its sources have not: {', '.join(numbers)}")
    return reasons


def failure_reason(error: str) -> str:
    """Return the reason for a row that failed with an error."""
    return f"no answer: {error}"

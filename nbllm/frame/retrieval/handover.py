"""Why a person should look at a message that a reply was drafted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbllm.frame.retrieval.sources import strange_numbers

__all__ = ["failed_reason", "handover_reasons"]


def handover_reasons(cells: Mapping[str, Any], message: str, threshold: float) -> list[str]:
    """Return the reasons, in words; none where nobody has to look."""
    if cells["_error"] is not None:
        return [failed_reason(cells["_error"])]
    why = []
    if cells["_intent_score"] < threshold:
        why.append(f"intent uncertain ({cells['_intent_score']:.2f})")
    if cells["_context"] is None:
        return [*why, "no source matches"]
    if cells["_score"] is None or cells["_score"] < threshold:
        why.append(f"draft shares too little with its sources ({cells['_score'] or 0:.2f})")
    if strange := strange_numbers(cells[""] or "", f"{message}\n{cells['_context']}"):
        why.append(f"draft has numbers that its sources have not: {', '.join(strange)}")
    return why


def failed_reason(error: str) -> str:
    """Return the reason where a step failed."""
    return f"no answer: {error}"

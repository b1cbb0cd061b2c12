"""What an answer quotes from its text, and where it stands there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbllm.engine.prompt import Prompt
from nbllm.frame.explanation.evidence import source_of
from nbllm.frame.tasks.bound_span import locate

__all__ = ["Quote", "quotes"]


@dataclass(frozen=True)
class Quote:
    """Words that an answer quotes, as character offsets in the prompt."""

    name: str  # of the field, or of the answer
    start: int
    end: int


def quotes(named: Mapping[str, str], prompt: Prompt) -> list[Quote]:
    """Return where the first occurrence of each text is in a prompt's first field, in order.

    Args:
        named: The texts by name; those that the field lacks are left out.
        prompt: The prompt of an answered row.
    """
    source = source_of(prompt) if named else None
    if source is None:
        return []
    start, end = source
    found = []
    for name, words in named.items():
        span = locate(words, prompt.text[start:end])
        if span is not None:
            found.append(Quote(name, start + span[0], start + span[1]))
    return sorted(found, key=lambda quote: (quote.start, quote.end))

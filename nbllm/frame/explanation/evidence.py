"""The sentences of an answer about a text, and the sentence of the text nearest to each."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.engine.prompt import Prompt
from nbllm.engine.structured.sentences import sentence_spans
from nbllm.frame.tasks.claims import Source

__all__ = ["Passage", "passages", "source_of"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """A sentence and its evidence, as character offsets in the prompt."""

    sentence: Span
    evidence: Span | None
    source: Span  # the whole text


def passages(prompt: Prompt) -> list[Passage]:
    """Return the sentences of a prompt's last field, with their evidence in its first field.

    Args:
        prompt: The prompt of an answered row, with the answer if it was generated.

    Returns:
        The sentences in order; none if the prompt has fewer than two fields.
    """
    fields = _fields(prompt)
    if len(fields) < 2:
        return []
    source, statement = fields[0], fields[-1]
    text = Source(prompt.text[slice(*source)])
    claims = text.claims(prompt.text[slice(*statement)])
    found = []
    for claim, place in zip(claims, sentence_spans(prompt.text[slice(*statement)]), strict=True):
        evidence = None if claim.evidence is None else _shift(claim.evidence, source[0])
        found.append(Passage(_shift(place, statement[0]), evidence, source))
    return found


def source_of(prompt: Prompt) -> Span | None:
    """Return the character offsets of a prompt's first field, the text that was read.

    Args:
        prompt: The prompt of an answered row.
    """
    return next(iter(_fields(prompt)), None)


def _fields(prompt: Prompt) -> list[Span]:
    """Return the character offsets of the fields that have a token."""
    return [
        (prompt.spans[field.start][0], prompt.spans[field.stop - 1][1])
        for field in prompt.field_spans
        if field.start < field.stop
    ]


def _shift(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by

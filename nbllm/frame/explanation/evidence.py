"""The sentences of an answer about a text, and the sentence of the text nearest to each."""

from __future__ import annotations

from dataclasses import dataclass

from nbllm.engine.prompt import FieldSpan, Prompt
from nbllm.engine.structured.sentences import sentence_spans
from nbllm.frame.tasks.claims import Source

__all__ = ["Passage", "passages"]

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
    fields = [span for span in prompt.field_spans if span.start < span.stop]
    if len(fields) < 2:
        return []
    source, statement = _characters(prompt, fields[0]), _characters(prompt, fields[-1])
    text = Source(prompt.text[slice(*source)])
    claims = text.claims(prompt.text[slice(*statement)])
    found = []
    for claim, place in zip(claims, sentence_spans(prompt.text[slice(*statement)]), strict=True):
        evidence = None if claim.evidence is None else _shift(claim.evidence, source[0])
        found.append(Passage(_shift(place, statement[0]), evidence, source))
    return found


def _characters(prompt: Prompt, field: FieldSpan) -> Span:
    return prompt.spans[field.start][0], prompt.spans[field.stop - 1][1]


def _shift(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by

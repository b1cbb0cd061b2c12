"""What a sentence states, and the sentence of a text that is nearest to it, by words alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbllm.engine.structured.names import Vocabulary, Word, names_of, numbers_of
from nbllm.engine.structured.sentences import sentence_spans
from nbllm.frame.retrieval.words import WordIndex, terms

__all__ = ["Claim", "Source", "evidence_json"]

Span = tuple[int, int]  # character offsets

_NEGATION = re.compile(
    r"\b(?:not|never|no|none|nor|neither|without|cannot|nobody|nothing)\b|n['’]t\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Claim:
    """A sentence, and what a text has of it.

    Attributes:
        sentence: The sentence.
        evidence: Where the nearest sentence of the text lies; None if none has a word of it.
        coverage: The share of its words that the text has.
        names: Its names.
        numbers: Its numbers.
        lacking: Which of these the text lacks.
        negated: Whether it has a negation and the evidence has none. English only.
        denied: Whether the evidence has a negation and it has none.
    """

    sentence: str
    evidence: Span | None
    coverage: float
    names: Sequence[Word]
    numbers: Sequence[Word]
    lacking: Sequence[Word]
    negated: bool
    denied: bool


class Source:
    """A text that claims are compared with.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: list[Span] = sentence_spans(text)
        self._index = WordIndex([text[start:end] for start, end in self.spans])
        self._terms = set(terms(text))
        self._vocabulary = Vocabulary(text)

    def claims(self, text: str) -> list[Claim]:
        """Return the sentences of another text, each with its evidence.

        Args:
            text: The text that is verified.
        """
        return [self._claim(text[start:end]) for start, end in sentence_spans(text)]

    def slice(self, span: Span | None) -> str | None:
        """Return the characters of a span; None without one."""
        return None if span is None else self.text[span[0] : span[1]]

    def nearest(self, text: str) -> list[int]:
        """Return the numbers of the sentences, those nearest to a text first, by BM25.

        Args:
            text: What to look for.
        """
        order = np.argsort(-self._index.scores(text), kind="stable")
        return [int(n) for n in order]

    def _claim(self, sentence: str) -> Claim:
        scores = self._index.scores(sentence)
        best = int(scores.argmax()) if np.isfinite(scores).any() else None
        evidence = None if best is None else self.spans[best]
        found = self.slice(evidence) or ""
        own = set(terms(sentence))
        names = names_of(sentence)
        numbers = numbers_of(sentence)
        negations = [_NEGATION.search(each) is not None for each in (sentence, found)]
        return Claim(
            sentence=sentence,
            evidence=evidence,
            coverage=len(own & self._terms) / len(own) if own else 0.0,
            names=names,
            numbers=numbers,
            lacking=[word for word in [*names, *numbers] if not self._vocabulary.has(word[2])],
            negated=negations == [True, False],
            denied=negations == [False, True],
        )


def evidence_json(text: str, source: str) -> str:
    """Return the sentences of a text with their evidence in another text, as a JSON list.

    Args:
        text: The text, such as a summary.
        source: The text that it is about.

    Example:
        >>> evidence_json("It snowed.", "Rain fell. It snowed here.")
        '[{"sentence": "It snowed.", "evidence": "It snowed here.", "start": 11, "end": 26}]'
    """
    read = Source(source)
    found = []
    for claim in read.claims(text):
        start, end = claim.evidence or (None, None)
        evidence = read.slice(claim.evidence)
        found.append({"sentence": claim.sentence, "evidence": evidence, "start": start, "end": end})
    return json.dumps(found, ensure_ascii=False)

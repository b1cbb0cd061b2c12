"""Reads the sentences of a text behind another one, and behind none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbllm.engine.prompt import CompiledTemplate, Prompt, answer_ids
from nbllm.engine.structured.sentences import is_unspaced
from nbllm.engine.tokenization import tokenize
from nbllm.errors import ModelError, TextError, TextTooLongError
from nbllm.frame.tasks.claims import Claim, Source
from nbllm.models.flops import TokenCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbllm.engine.candidates import CandidateScorer
    from nbllm.engine.structured.names import Word

__all__ = ["BoundEvidenceTask", "readable_source"]

_NO_TEXT = "..."  # in place of the text, for how likely a sentence is without it


@dataclass(frozen=True)
class _ClaimsPrompt(Prompt):
    source: str = ""  # all of it, of which the prompt may hold a part
    claims: tuple[Claim, ...] = ()


class BoundEvidenceTask:
    """An `EvidenceTask` bound to a model.

    Args:
        template: The tokenized prompt: the text, then the sentences about it.
        scorer: The engine that scores the sentences.
        limit: The maximum number of tokens of a prompt.
        is_close: Whether rounding could decide an answer.
    """

    label_tokens = 0

    def __init__(
        self,
        template: CompiledTemplate,
        scorer: CandidateScorer,
        limit: int,
        is_close: Callable[[Any], bool],
    ) -> None:
        self.template = template
        self.scorer = scorer
        self.limit = limit
        self.is_close = is_close
        self.setup_tokens: TokenCounts = TokenCounts.text(scorer.prefix.length)
        # The end of each sentence, so that none is the beginning of another.
        [self._end] = answer_ids(scorer.model.tokenizer, ["\n"])
        [without] = template.encode([(_NO_TEXT, "a")], limit=sys.maxsize)
        assert isinstance(without, Prompt)
        self._without = _head(without)

    @property
    def prefix_tokens(self) -> int:
        return self.scorer.prefix.length

    def encode(
        self, texts: Sequence[tuple[str, ...]], *, truncate: bool
    ) -> list[Prompt | Exception]:
        return [self._encode(source, claim, truncate) for source, claim in texts]

    def _encode(self, source: str, claim: str, truncate: bool) -> Prompt | Exception:
        claims = tuple(Source(source).claims(claim))
        if not claims:
            return TextError("the text to check has no letter and no digit")
        if is_unspaced(claim):
            return TextError(
                "the text to check is in a script without spaces between words, of which verify "
                "would not see wrong names and numbers"
            )
        read = readable_source(self.template, source, claim, self.limit)
        [prompt] = self.template.encode([(read, claim)], limit=self.limit, truncate=truncate)
        if isinstance(prompt, Exception):
            return prompt
        shared = {**vars(prompt), "prefix_length": self.scorer.prefix.length}
        return _ClaimsPrompt(**shared, source=source, claims=claims)

    def calibrate(
        self, known: list[float] | None, step: Callable[[], None] = lambda: None
    ) -> list[float] | None:
        return known

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        answers = self._answer(prompts)
        # Rounding depends on the batch. What it could decide is read again, each row alone.
        return [
            self._answer([prompt])[0]
            if len(prompts) > 1 and not isinstance(answer, Exception) and self.is_close(answer)
            else answer
            for prompt, answer in zip(prompts, answers, strict=True)
        ]

    def _answer(self, prompts: Sequence[Prompt]) -> list[Any]:
        rows = [prompt.claims for prompt in prompts if isinstance(prompt, _ClaimsPrompt)]
        # Behind a space, as a field is that follows one.
        texts = [[f" {claim.sentence}" for claim in row] for row in rows]
        tokenizer = self.scorer.model.tokenizer
        tokens = [tokenize(tokenizer, row, special=False) for row in texts]
        wanted = [[[*each.ids, *self._end] for each in row] for row in tokens]
        distinct = [[list(ids) for ids in dict.fromkeys(map(tuple, row))] for row in wanted]
        scores = self.scorer.score_tokens(
            [*map(_head, prompts), *[self._without] * len(prompts)], distinct * 2
        )
        answers: list[Any] = []
        for n, prompt in enumerate(prompts):
            assert isinstance(prompt, _ClaimsPrompt)
            behind, alone = (
                {tuple(ids): values for ids, values in zip(distinct[n], found, strict=True)}
                for found in (scores[n], scores[len(prompts) + n])
            )
            if all(np.isfinite([*behind[ids], *alone[ids]]).all() for ids in behind):
                answers.append(
                    [
                        _figures(
                            claim, prompt.source, each.spans, behind[tuple(ids)], alone[tuple(ids)]
                        )
                        for claim, each, ids in zip(rows[n], tokens[n], wanted[n], strict=True)
                    ]
                )
            else:
                answers.append(ModelError("the model's output is not a finite number"))
        return answers


def readable_source(template: CompiledTemplate, source: str, claim: str, limit: int) -> str:
    """Return a text, or of a long one the sentences nearest to a claim that fit the prompt.

    Args:
        template: The prompt, with a text and a claim.
        source: The text.
        claim: What is verified.
        limit: The maximum number of tokens of a prompt.
    """
    if not isinstance(template.encode([(source, claim)], limit=limit)[0], TextTooLongError):
        return source
    text = Source(source)
    sentences = [source[start:end] for start, end in text.spans]
    lengths = [_length(template, sentence, claim) for sentence in ["", *sentences]]
    room, kept = limit - lengths[0], []
    for n in text.nearest(claim):
        # One more, for the space between two sentences.
        needed = lengths[n + 1] - lengths[0] + 1
        if needed > room:
            break
        room -= needed
        kept.append(n)
    return " ".join(sentences[n] for n in sorted(kept)) or source


def _length(template: CompiledTemplate, source: str, claim: str) -> int:
    [prompt] = template.encode([(source, claim)], limit=sys.maxsize)
    return len(prompt.ids) if isinstance(prompt, Prompt) else sys.maxsize


def _head(prompt: Prompt) -> Prompt:
    """Return a prompt up to the sentences that are verified."""
    return Prompt(prompt.ids[: prompt.field_spans[-1].start], "", (), (), prompt.prefix_length)


def _figures(
    claim: Claim,
    source: str,
    spans: Sequence[tuple[int, int]],
    behind: NDArray[np.float64],
    alone: NDArray[np.float64],
) -> dict[str, Any]:
    """Return what a verdict on a sentence depends on.

    Args:
        claim: The sentence.
        source: The text.
        spans: The characters of each token of the sentence, behind a space.
        behind: The log-likelihood of each token after the text, and of the end.
        alone: The same without the text.
    """
    count = len(spans)

    def words(found: Sequence[Word]) -> list[list[Any]]:
        lacking = set(claim.lacking)
        return [
            [
                word[2],
                float(sum(p for p, span in zip(behind, spans, strict=False) if _is_in(span, word))),
                word not in lacking,
            ]
            for word in found
        ]

    start, end = claim.evidence or (None, None)
    return {
        "sentence": claim.sentence,
        "evidence": source[start:end] if claim.evidence else None,
        "start": start,
        "end": end,
        "gain": float((behind - alone)[:count].mean()),
        "likelihood": float(behind[:count].mean()),
        "coverage": claim.coverage,
        "names": words(claim.names),
        "numbers": words(claim.numbers),
        "negated": claim.negated,
        "denied": claim.denied,
    }


def _is_in(span: tuple[int, int], word: Word) -> bool:
    """Return whether a token of a sentence behind a space belongs to a word of the sentence."""
    return span[0] < word[1] + 1 and span[1] > word[0] + 1

"""Tasks that check the sentences of a text against another text.

A sentence can have four faults, each with its own sign. It is about another subject: hardly
likelier after the text than without it, unlikely after it, and with few words of it. A name, or a
number, is unlikely where it stands, or the text lacks it. Or it has a negation and the nearest
sentence of the text has none, or the other way round. The probability that it is supported is the
product of four logistic functions, one per fault (a "noisy or" of faults), and the smallest of
them says what is wrong. Whatever the product, a sentence with a misquoted word is not supported,
and one that the text has word for word is.

The coefficients are of maximum likelihood, on 2,460 sentences: summaries and sentences of 150
abstracts of SciTLDR's training split and 150 articles of XSum (rows 0 to 249), and corruptions of
them by `benchmarks/corruptions.py`. Held-out figures are in `benchmarks/results/verify.json`.
Taken into account and left out, since they added nothing: how likely a name is without the text,
its least likely token, the entropy where it stands, whether the evidence itself has it; and the
likelihood of a sentence against that of its negation, which says little beyond that sentences
seldom have one (AUROC 0.76 and 0.50 after the text's gain, where the negation of the evidence has
0.91 and 0.88).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from math import exp, log, log1p
from typing import TYPE_CHECKING, Any

import narwhals as nw

from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.prompt import Template
from nbllm.frame.tasks.base import Output, are_numbers
from nbllm.frame.tasks.bound_evidence import BoundEvidenceTask
from nbllm.frame.tasks.bound_prompt import compile_template
from nbllm.frame.tasks.label import ROUNDING_ERROR

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["CONTRADICTED", "NOT_IN_TEXT", "SUPPORTED", "EvidenceTask"]

SUPPORTED, CONTRADICTED, NOT_IN_TEXT = "supported", "contradicted", "not in the text"

# How far rounding shifts the log-odds of a sentence, relative to the score of a label.
_WIDER = 1.5


@dataclass(frozen=True)
class _Weights:
    """Coefficients of the log-odds that a sentence has no fault of a kind."""

    subject: float = 3.30
    gain: float = 3.59  # of the text, per nat and token
    likelihood: float = 1.57  # after the text, per nat and token
    coverage: float = 1.97
    polarity: float = 4.20
    negated: float = -6.29
    denied: float = -3.44


@dataclass(frozen=True)
class _WordWeights:
    """Coefficients of the log-odds that a name, or a number, is the text's."""

    bias: float
    likelihood: float  # per nat
    lacking: float

    def odds(self, likelihood: float, is_in_text: bool) -> float:
        """Return the log-odds of one word."""
        lacking = 0.0 if is_in_text else self.lacking
        return self.bias + self.likelihood * likelihood + lacking


_WEIGHTS = _Weights()
_WORD_WEIGHTS = {
    "names": _WordWeights(4.70, 0.31, -1.10),
    "numbers": _WordWeights(5.40, 0.52, -2.43),
}


@dataclass(frozen=True)
class EvidenceTask:
    """Say of each sentence of a text whether another text supports it.

    The template has two fields, the text and the sentences about it. An answer holds the figures
    of each sentence, from which a verdict follows.
    """

    verb: str
    template: Template
    threshold: float  # minimum probability of a sentence that is supported

    decodes = False
    offset_length = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The verdict and the probability of the worst sentence, and all sentences as JSON."""
        return (
            Output("value", "", nw.String),
            Output("score", "_score", nw.Float64),
            Output("field", "_sentences", nw.String),
        )

    def parameters(self) -> dict[str, Any]:
        # The threshold is left out, so that ledger answers are reused with another one.
        return {
            "labels": [SUPPORTED, CONTRADICTED, NOT_IN_TEXT],
            "weights": [
                *astuple(_WEIGHTS),
                *(number for weights in _WORD_WEIGHTS.values() for number in astuple(weights)),
            ],
        }

    def answer_tokens(self, model: Model) -> int:
        return 1  # the end of a sentence

    def bind(self, model: Model, limit: int) -> BoundEvidenceTask:
        template = compile_template(self.template, model, limit)
        scorer = CandidateScorer(model, template.prefix_ids)
        tolerance = _WIDER * ROUNDING_ERROR.get(model.dtype, 0.0)
        return BoundEvidenceTask(
            template, scorer, limit, lambda answer: self._is_close(answer, tolerance)
        )

    def is_answer(self, value: Any) -> bool:
        """As `Task.is_answer`: the figures of each sentence."""
        return isinstance(value, list) and bool(value) and all(map(_are_figures, value))

    def decode(self, answers: Sequence[Any], offset: Sequence[float] | None) -> list[list[Any]]:
        rows = [[self._judge(figures) for figures in answer] for answer in answers]
        worst = [min(row, key=lambda s: (s["verdict"] == SUPPORTED, s["score"])) for row in rows]
        return [
            [sentence["verdict"] for sentence in worst],
            [min(sentence["score"] for sentence in row) for row in rows],
            [json.dumps(row, ensure_ascii=False) for row in rows],
        ]

    def _judge(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Return a sentence with its verdict, score, evidence and misquoted words."""
        odds = _log_odds(figures)
        score = exp(sum(map(_log_logistic, odds.values())))
        is_quoted = _is_quoted(figures)
        misquoted = [
            word
            for kind, weights in _WORD_WEIGHTS.items()
            for word, likelihood, is_in_text in figures[kind]
            if not is_quoted and (not is_in_text or weights.odds(likelihood, is_in_text) < 0)
        ]
        is_low = score < self.threshold
        is_other = is_low and min(odds, key=lambda kind: odds[kind]) == "subject"
        differs = bool(misquoted) or figures["negated"] or figures["denied"]
        if is_quoted or not (is_low or misquoted):
            verdict = SUPPORTED
        elif differs and not is_other and figures["evidence"] is not None:
            verdict = CONTRADICTED
        else:
            verdict = NOT_IN_TEXT
        return {
            "sentence": figures["sentence"],
            "verdict": verdict,
            "score": score,
            **{key: figures[key] for key in ("evidence", "start", "end")},
            "misquoted": misquoted,
        }

    def _is_close(self, answer: Sequence[Mapping[str, Any]], tolerance: float) -> bool:
        """Return whether rounding could decide the verdict on a sentence."""
        for figures in answer:
            if any(abs(odds) < tolerance for odds in _word_odds(figures)):
                return True
            odds = _log_odds(figures)
            score = sum(map(_log_logistic, odds.values()))
            edge = log(max(self.threshold, 1e-9))
            if tolerance and abs(score - edge) < tolerance:
                return True
            subject, *others = odds.values()
            if tolerance and score < edge and abs(subject - min(others, default=9e9)) < tolerance:
                return True
        return False


def _is_quoted(figures: Mapping[str, Any]) -> bool:
    """Return whether the text has a sentence word for word, in the same case."""
    sentence, evidence = (str(figures[key] or "").split() for key in ("sentence", "evidence"))
    return sentence == evidence


def _log_odds(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the log-odds that a sentence has no fault of each kind, the subject first."""
    weights = _WEIGHTS
    odds = {
        "subject": weights.subject
        + weights.gain * figures["gain"]
        + weights.likelihood * figures["likelihood"]
        + weights.coverage * figures["coverage"],
        "polarity": weights.polarity
        + weights.negated * figures["negated"]
        + weights.denied * figures["denied"],
    }
    for kind in _WORD_WEIGHTS:
        if figures[kind]:
            odds[kind] = min(_word_odds(figures, kind))
    return odds


def _word_odds(figures: Mapping[str, Any], *kinds: str) -> list[float]:
    """Return the log-odds of the words of some kinds, by default of all."""
    return [
        _WORD_WEIGHTS[kind].odds(*word[1:])
        for kind in kinds or _WORD_WEIGHTS
        for word in figures[kind]
    ]


def _log_logistic(log_odds: float) -> float:
    return -log1p(exp(-log_odds)) if log_odds > 0 else log_odds - log1p(exp(log_odds))


def _are_figures(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    evidence, start, end = (value.get(key) for key in ("evidence", "start", "end"))
    found = isinstance(evidence, str) and type(start) is int and type(end) is int
    return (
        isinstance(value.get("sentence"), str)
        and (found or evidence is start is end is None)
        and are_numbers([value.get(key) for key in ("gain", "likelihood", "coverage")], 3)
        and all(type(value.get(key)) is bool for key in ("negated", "denied"))
        and all(
            isinstance(value.get(key), list) and all(map(_is_word, value[key]))
            for key in ("names", "numbers")
        )
    )


def _is_word(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return isinstance(value[0], str) and are_numbers(value[1:2], 1) and type(value[2]) is bool

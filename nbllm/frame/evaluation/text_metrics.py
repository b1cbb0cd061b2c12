"""Metrics of a text against a reference text: ROUGE, exact match, token F1, BLEU and chrF."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from nbllm.stats import Estimate

__all__ = ["METRICS", "corpus_metric", "first_sentences", "row_metric", "words"]

# Titles in a summary.
METRICS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "exact": "exact match",
    "token_f1": "token F1",
    "bleu": "BLEU",
    "chrf": "chrF",
}

_KANA = "\u3040-\u30ff"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_HAN}{_KANA}]|[^\W_{_HAN}{_KANA}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_ARTICLES = {"a", "an", "the"}
_RESAMPLES = 1000


def words(text: str) -> list[str]:
    """Return the words in lower case; each character of Chinese or Japanese is a word.

    Example:
        >>> words("Ein schöner Tag, 好!")
        ['ein', 'schöner', 'tag', '好']
    """
    return _WORD.findall(text.lower())


def first_sentences(text: str, *, like: str) -> str:
    """Return the first sentences of a text, up to about the length of another text.

    Args:
        text: The text to take the sentences from.
        like: The text whose number of words they reach.

    Example:
        >>> first_sentences("It rained. It snowed. It froze.", like="Rain, then snow.")
        'It rained. It snowed.'
    """
    text = text.strip()
    length = len(words(like))
    count = start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        count += len(words(text[start:end]))
        if count >= length:
            return text[:end].rstrip()
        start = end
    return text


def row_metric(metric: str) -> Callable[[str, str], float] | None:
    """Return the function of (answer, right answer), 0 to 1, or None for BLEU and chrF."""
    if metric.startswith("rouge"):
        from rouge_score.rouge_scorer import RougeScorer

        # The default tokenizer of rouge_score drops all letters except a to z.
        scorer = RougeScorer([metric], tokenizer=_Words())
        return lambda answer, right: float(scorer.score(right, answer)[metric].fmeasure)
    return {"exact": _exact, "token_f1": _token_f1}.get(metric)


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _content(text: str) -> list[str]:
    """Return the words without case, punctuation and articles, as in the metrics of SQuAD."""
    return [word for word in words(text) if word not in _ARTICLES]


def _exact(answer: str, right: str) -> float:
    return float(_content(answer) == _content(right))


def _token_f1(answer: str, right: str) -> float:
    predicted, expected = Counter(_content(answer)), Counter(_content(right))
    total = predicted.total() + expected.total()
    return 2 * (predicted & expected).total() / total if total else 1.0


def corpus_metric(
    metric: str, answers: Sequence[str], right: Sequence[str], *, interval: bool
) -> Estimate:
    """Return BLEU or chrF over all rows by sacrebleu, 0 to 100, with its bootstrap interval.

    Post 2018, https://aclanthology.org/W18-6319. For BLEU, Chinese and Japanese are tokenized
    into characters, other languages into words.

    Args:
        metric: "bleu" or "chrf".
        answers: The answers of all rows.
        right: The right answers of the same rows.
        interval: Whether to compute the interval; otherwise both its ends are the value.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    scorer: Any = (
        _floats(CHRF)() if metric == "chrf" else _floats(BLEU)(tokenize=_tokenization(right))
    )
    options = {"n_bootstrap": _RESAMPLES} if interval else {}
    score = scorer.corpus_score(list(answers), [list(right)], **options)
    if not interval:
        return Estimate(score.score, score.score, score.score)
    found = json.loads(score.format(is_json=True, signature=scorer.get_signature().format()))
    mean, half = found["confidence_mean"], found["confidence_var"]
    # The interval is symmetric around the mean, so it can exceed the ends of the scale.
    return Estimate(score.score, max(0.0, mean - half), min(100.0, mean + half))


def _floats(scorer: Any) -> Any:
    """Return a metric class of sacrebleu whose scores are floats.

    Otherwise a resample without a match scores a float and the others a numpy number, and their
    mean raises an error if both occur.
    """

    class Floats(scorer):  # type: ignore[misc]
        def _compute_score_from_stats(self, stats: Any) -> Any:
            score = super()._compute_score_from_stats(stats)
            score.score = float(score.score)
            return score

    return Floats


def _tokenization(texts: Sequence[str]) -> str:
    """Return the name of sacrebleu's tokenizer for the language of the texts."""
    corpus = "".join(texts)
    if re.search(f"[{_KANA}]", corpus):
        return "char"
    return "zh" if re.search(f"[{_HAN}]", corpus) else "13a"

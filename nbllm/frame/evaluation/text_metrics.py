"""Metrics of a text against the right one: ROUGE, exact match, token F1, BLEU and chrF."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from nbllm.stats import Estimate

__all__ = ["METRICS", "corpus_metric", "first_sentences", "row_metric", "words"]

# What each is called in a summary.
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
_DRAWS = 1000


def words(text: str) -> list[str]:
    """Return the words in lower case, each character of Chinese and Japanese on its own.

    Example:
        >>> words("Ein schöner Tag, 好!")
        ['ein', 'schöner', 'tag', '好']
    """
    return _WORD.findall(text.lower())


def first_sentences(text: str, *, like: str) -> str:
    """Return the first sentences of a text, about as many words as another text has.

    Args:
        text: to take the sentences from.
        like: the text whose length they reach.

    Example:
        >>> first_sentences("It rained. It snowed. It froze.", like="Rain, then snow.")
        'It rained. It snowed.'
    """
    text = text.strip()
    wanted = len(words(like))
    seen = start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        seen += len(words(text[start:end]))
        if seen >= wanted:
            return text[:end].rstrip()
        start = end
    return text


def row_metric(metric: str) -> Callable[[str, str], float] | None:
    """Return a metric of (answer, right answer), 0 to 1; None if it is of all rows together."""
    if metric.startswith("rouge"):
        from rouge_score.rouge_scorer import RougeScorer

        # Its own tokenizer drops every letter beyond a to z.
        scorer = RougeScorer([metric], tokenizer=_Words())
        return lambda answer, right: float(scorer.score(right, answer)[metric].fmeasure)
    return {"exact": _exact, "token_f1": _token_f1}.get(metric)


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _content(text: str) -> list[str]:
    """Return the words without case, punctuation and articles, as SQuAD compares answers."""
    return [word for word in words(text) if word not in _ARTICLES]


def _exact(answer: str, right: str) -> float:
    return float(_content(answer) == _content(right))


def _token_f1(answer: str, right: str) -> float:
    given, wanted = Counter(_content(answer)), Counter(_content(right))
    both = (given & wanted).total()
    total = given.total() + wanted.total()
    return 2 * both / total if total else 1.0


def corpus_metric(
    metric: str, answers: Sequence[str], right: Sequence[str], *, interval: bool
) -> Estimate:
    """Return BLEU or chrF of all rows by sacrebleu, 0 to 100, with its bootstrap interval.

    Post 2018, https://aclanthology.org/W18-6319. For BLEU, Chinese and Japanese are tokenized
    into characters, all else into words.

    Args:
        metric: "bleu" or "chrf".
        answers: of all rows.
        right: the right answers of the same rows.
        interval: whether to resample; otherwise both ends are the value.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    scorer: Any = (
        _floats(CHRF)() if metric == "chrf" else _floats(BLEU)(tokenize=_tokenization(right))
    )
    drawn = {"n_bootstrap": _DRAWS} if interval else {}
    score = scorer.corpus_score(list(answers), [list(right)], **drawn)
    if not interval:
        return Estimate(score.score, score.score, score.score)
    found = json.loads(score.format(is_json=True, signature=scorer.get_signature().format()))
    mean, reach = found["confidence_mean"], found["confidence_var"]
    # It is symmetric around the mean of the draws, and so may pass the ends of the scale.
    return Estimate(score.score, max(0.0, mean - reach), min(100.0, mean + reach))


def _floats(scorer: Any) -> Any:
    """Return a metric class of sacrebleu whose scores are floats.

    As published, a resample without a match scores a float and others a numpy number, and their
    mean raises if both occur.
    """

    class Floats(scorer):  # type: ignore[misc]
        def _compute_score_from_stats(self, stats: Any) -> Any:
            score = super()._compute_score_from_stats(stats)
            score.score = float(score.score)
            return score

    return Floats


def _tokenization(texts: Sequence[str]) -> str:
    whole = "".join(texts)
    if re.search(f"[{_KANA}]", whole):
        return "char"
    return "zh" if re.search(f"[{_HAN}]", whole) else "13a"

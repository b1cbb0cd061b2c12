"""Scores of pairs against scipy."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from nbllm.errors import FrameError
from nbllm.frame.evaluation.similarities import _pearson, _spearman, word_overlap
from nbllm.models.model import Model
from tests.frame.evaluation.answered import ROWS, numbered, value_and_baseline


@pytest.mark.parametrize("module", [pd, pl])
def test_similarity_is_judged_by_its_correlation(module, tiny_encoder: Model) -> None:
    gold = np.random.default_rng(0).uniform(0, 5, ROWS).round(1)
    others = [f"Day {n} had {'cold soup' if n % 2 else 'a film'}." for n in range(ROWS)]
    frame = numbered(module, other=others, gold=gold)
    answered = frame.llm.similarity("text", "other", model=tiny_encoder)
    found = answered.llm.evaluate("gold")
    cosines = np.array(answered["text_similarity"].to_list())
    shared = [word_overlap(a, b) for a, b in zip(frame["text"], others, strict=True)]
    for name, of in (("Spearman", stats.spearmanr), ("Pearson", stats.pearsonr)):
        value, plain = value_and_baseline(found)[name]
        assert value == pytest.approx(of(cosines, gold).statistic)
        assert plain == pytest.approx(of(shared, gold).statistic)
    low, high = found.measures[0].value[1:]
    # scipy's own bootstrap of the same statistic.
    again = stats.bootstrap(
        (cosines, gold), lambda a, b: stats.spearmanr(a, b).statistic, paired=True,
        vectorized=False, n_resamples=500, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(again), abs=0.08)


def test_similarity_to_one_text(tiny_encoder: Model) -> None:
    frame = numbered(gold=["high", *["1"] * (ROWS - 1)], same=1.0)
    answered = frame.llm.similarity("text", to="warm soup", model=tiny_encoder)
    assert value_and_baseline(answered.llm.evaluate("same"))["Pearson"] == (0.0, 0.0)
    with pytest.raises(FrameError, match="what is no number"):
        answered.llm.evaluate("gold")
    with pytest.raises(FrameError, match="metrics= is for"):
        answered.llm.evaluate("same", metrics=["bleu"])
    with pytest.raises(FrameError, match="corpus= is for"):
        answered.llm.evaluate("same", corpus=frame)
    with pytest.raises(FrameError, match="one row has no correlation"):
        answered.head(1).llm.evaluate("same")


def test_spearman_is_pearson_of_ranks_also_with_ties() -> None:
    random = np.random.default_rng(0)
    for rows in (2, 3, 50, 500):
        first, second = random.integers(0, 1 + rows // 2, (2, rows)).astype(float)
        first[0], second[0] = rows, -1  # so that neither is constant
        ranks = stats.rankdata(first), stats.rankdata(second)
        assert _spearman(first, second) == pytest.approx(_pearson(*ranks), abs=1e-12)
        expected = float(np.corrcoef(first, second)[0, 1])
        assert _pearson(first, second) == pytest.approx(expected, abs=1e-12)
    assert _spearman(np.ones(3), np.arange(3.0)) == _pearson(np.arange(3.0), np.ones(3)) == 0

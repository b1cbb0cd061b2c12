"""Baselines against figures worked out by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from nbllm.train.ngrams import Bigram, Unigram

# b stands for the token that opens a text. Tokens after it: 1 1 2 | 1 2 | 3
TEXTS = [(0, 1, 1, 2), (0, 1, 2), (0, 3)]


def test_a_unigram_model_counts_and_adds_one() -> None:
    # 6 tokens are foretold: three 1, two 2, one 3, and no 0; four are in the vocabulary.
    model = Unigram(TEXTS, 4)
    assert np.exp(model.log_chances) == pytest.approx([1 / 10, 4 / 10, 3 / 10, 2 / 10])
    assert model.nats([(0, 1, 3)]) == pytest.approx(-(log(0.4) + log(0.2)) / 2)


def test_a_bigram_model_is_kneser_ney() -> None:
    # Pairs: 01 twice, 11 once, 12 twice, 03 once. So n1 = 2, n2 = 2, and D = 2 / (2 + 4) = 1/3.
    model = Bigram(TEXTS, 4)
    assert model.discount == pytest.approx(1 / 3)
    # 1 follows two different tokens, 2 and 3 one, 0 none; plus one: 1, 3, 2, 2 of 8.
    continued = np.array([1, 3, 2, 2]) / 8
    # After 0, seen 3 times, with two kinds: (count - D) / 3 + D · 2 / 3 · continued.
    expected = np.array([0, 2 - 1 / 3, 0, 1 - 1 / 3]) / 3 + (1 / 3) * (2 / 3) * continued
    found = model.chances(np.zeros(4, dtype=np.int64), np.arange(4))
    assert found == pytest.approx(expected)
    # 3 was never followed by anything.
    assert model.chances(np.full(4, 3), np.arange(4)) == pytest.approx(continued)


def test_probabilities_sum_to_one_after_every_token() -> None:
    random = np.random.default_rng(0)
    texts = [tuple(random.integers(0, 30, size=20).tolist()) for _ in range(40)]
    model = Bigram(texts, 30)
    for before in range(30):
        chances = model.chances(np.full(30, before), np.arange(30))
        assert chances.sum() == pytest.approx(1)
        assert chances.min() > 0


def test_text_in_order_is_foretold_better_by_pairs() -> None:
    texts = [(0, *range(1, 10)) for _ in range(20)]
    assert Bigram(texts, 10).nats(texts) < 0.1 < Unigram(texts, 10).nats(texts)

"""Intervals against their formulas, published tables, and by how often they hold the truth."""

from fractions import Fraction
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from nbllm.stats import (
    bootstrap,
    bootstrap_counts,
    calibration_error,
    label_scores,
    mcnemar,
    paired_difference,
    proportion,
    reliability,
)


def table(both: int, only_first: int, only_second: int, neither: int) -> list[np.ndarray]:
    """Rows of which so many came out right with both, with one, and with neither."""
    counts = (both, only_first, only_second, neither)
    return [np.repeat(side, counts) for side in ([True, True, False, False], [True, False] * 2)]


def wilson(successes: int, total: int, confidence: float) -> tuple[float, float]:
    """The interval as Wilson wrote it down, without continuity correction."""
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    reach = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return centre - reach, centre + reach


@pytest.mark.parametrize("total", [1, 7, 872, 1_000_003])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_a_proportion_is_wilsons(total: int, confidence: float) -> None:
    for successes in {0, 1, total // 3, total - 1, total}:
        found = proportion(successes, total, confidence)
        assert found.value == successes / total
        assert found[1:] == pytest.approx(wilson(successes, total, confidence), abs=1e-12)
        assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Newcombe 1998 on paired data, its worked example.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8:
        # complete response before and after consolidation therapy (Cavo et al. 2012).
        ((59, 6, 16, 80), -0.1186, -0.0046),
    ],
)
def test_a_paired_difference_is_newcombes(counts, low: float, high: float) -> None:
    first, second = table(*counts)
    found = paired_difference(second, first, 0.95)  # theirs is the first less the second
    assert found.value == pytest.approx((counts[1] - counts[2]) / sum(counts))
    assert found[1:] == pytest.approx((low, high), abs=5e-5)
    turned = paired_difference(first, second, 0.95)
    assert turned == pytest.approx((-found.value, -found.high, -found.low))


def test_a_paired_difference_of_nothing_is_no_certainty() -> None:
    first, second = table(9, 0, 0, 1)
    found = paired_difference(first, second, 0.95)
    assert found.value == 0 and -0.3 < found.low < -0.1 and 0.1 < found.high < 0.3


def test_pairing_narrows_a_difference() -> None:
    together = paired_difference(*table(80, 5, 5, 10), 0.95)
    apart = paired_difference(*table(70, 15, 15, 0), 0.95)
    assert together.high - together.low < 0.7 * (apart.high - apart.low)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Twice the tail of a fair coin, in whole numbers."""
    differ, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(differ, k) for k in range(fewer + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**differ)))


@pytest.mark.parametrize(
    "counts", [(59, 6, 16, 80), (1, 0, 0, 1), (0, 7, 0, 0), (10, 9, 9, 10), (0, 1900, 2100, 0)]
)
def test_mcnemar_is_the_exact_binomial_test(counts) -> None:
    _, only_first, only_second, _ = counts
    expected = exact_mcnemar(only_first, only_second)
    assert mcnemar(*table(*counts)) == pytest.approx(expected, rel=1e-12)


def test_a_bootstrap_is_scipys_and_the_same_each_time() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    found = bootstrap(lambda rows: float(values[rows].mean()), 200, 0.9, seed=3)
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", rng=4
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found[1:] == pytest.approx((expected.low, expected.high), abs=0.02)
    assert bootstrap(lambda rows: float(values[rows].mean()), 200, 0.9, seed=3) == found
    assert bootstrap(lambda rows: float(values[rows].mean()), 200, 0.9, seed=4) != found


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Two models that are right in 0.8 and 0.7 of rows and fail together more than by chance."""
    random = np.random.default_rng(0)
    chances = [0.62, 0.18, 0.08, 0.12]  # both, only the first, only the second, neither
    held = []
    for counts in random.multinomial(120, chances, size=400):
        first, second = table(*counts)
        change = paired_difference(first, second, 0.9)
        share = proportion(int(first.sum()), 120, 0.9)
        held.append((change.low <= -0.1 <= change.high, share.low <= 0.8 <= share.high))
    # 400 draws: a share of 0.9 has a standard error of 0.015.
    assert np.all(np.abs(np.mean(held, axis=0) - 0.9) < 0.045)


def test_a_bootstrap_of_a_paired_difference_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = []
    for seed in range(40):
        first = random.normal(size=60)
        change = 0.5 + random.normal(scale=0.3, size=60)  # far less than what rows differ by
        found = bootstrap(lambda rows, d=change: float(d[rows].mean()), 60, 0.9, seed)
        assert found.high - found.low < 0.5 * first.std()
        held.append(found.low <= 0.5 <= found.high)
    assert np.mean(held) >= 0.75


def test_nothing_counted_is_unknown() -> None:
    empty = np.array([], dtype=bool)
    for found in (
        proportion(0, 0, 0.95),
        paired_difference(empty, empty, 0.95),
        bootstrap(lambda rows: 1 / 0, 0, 0.95, 0),
    ):
        assert np.isnan(found).all()
    assert mcnemar(empty, empty) == 1.0


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.92, 1.0, 0.55, 0.58, 0.5])
    right = np.array([1, 1, 0, 1, 1, 0, 0], dtype=bool)
    low, high = reliability(confidence, right)
    assert (low.rows, high.rows) == (3, 4)
    assert (low.right, high.right) == pytest.approx((1 / 3, 3 / 4))
    gaps = abs(confidence[4:].mean() - 1 / 3) * 3 + abs(confidence[:4].mean() - 3 / 4) * 4
    assert calibration_error(confidence, right) == pytest.approx(gaps / 7)
    # A score that means what it says has an error that goes to 0 with the rows.
    random = np.random.default_rng(0)
    sure = random.uniform(size=50_000)
    assert calibration_error(sure, random.uniform(size=50_000) < sure) < 0.01


def test_scores_of_nothing_are_unknown() -> None:
    empty = np.zeros((2, 2), dtype=np.int64)
    assert np.isnan(bootstrap_counts(label_scores, empty, 0.95, 0)).all()


def test_ones_and_zeros_are_successes_too() -> None:
    first, second = np.array([1, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 1, 1, 1])
    as_bool = first.astype(bool), second.astype(bool)
    assert paired_difference(first, second, 0.95) == paired_difference(*as_bool, 0.95)
    assert mcnemar(first, second) == mcnemar(*as_bool)


def test_rows_without_a_confidence_are_left_out() -> None:
    confidence, right = np.array([0.95, 0.95, np.nan]), np.array([True, False, False])
    assert calibration_error(confidence, right) == pytest.approx(0.45)
    assert [found.rows for found in reliability(confidence, right)] == [2]

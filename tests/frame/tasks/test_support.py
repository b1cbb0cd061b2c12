"""The probability that an answer is right, and the threshold below which there is none."""

from dataclasses import replace

import numpy as np
import pytest

from nbllm.frame.tasks.support import CALIBRATION, Support, fit_presence, is_kept

FITTED = [-3.0, 3.0]  # as likely as not at a lift of 1
SUPPORT = Support(lift=2.0, sentence_lift=1.8, likelihood=-2.0, repeated=0.0)


@pytest.mark.parametrize("distance", [0.0, 0.5, 30.0])
def test_the_fit_lies_between_the_two_kinds(distance: float) -> None:
    spread = np.linspace(-1, 1, 9)
    intercept, slope = fit_presence(2 + distance + spread, -distance + spread)
    assert -intercept / slope == pytest.approx(1)
    assert 0 < slope < 20


def test_kinds_that_lifts_do_not_tell_apart_are_as_likely() -> None:
    intercept, slope = fit_presence([0.0, 1.0], [0.0, 1.0])
    assert (intercept, slope) == pytest.approx((0, 0))


def test_the_fit_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    lifts = random.normal([2.0] * 40 + [0.0] * 30, 1.0)
    fit = LogisticRegression(C=1.0, tol=1e-8).fit(lifts[:, None], [1] * 40 + [0] * 30)
    expected = (float(fit.intercept_[0]), float(fit.coef_[0, 0]))
    assert fit_presence(lifts[:40], lifts[40:]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "better",
    [{"lift": 2.5, "sentence_lift": 2.25}, {"sentence_lift": 2.0}, {"likelihood": -1.0}],
)
def test_what_raises_the_score(better: dict[str, float]) -> None:
    assert 0 < SUPPORT.score(FITTED) < replace(SUPPORT, **better).score(FITTED) < 1


def test_words_of_the_question_are_hardly_its_answer() -> None:
    assert replace(SUPPORT, repeated=1.0).score(FITTED) < SUPPORT.score(FITTED) / 2


@pytest.mark.parametrize("sentence_lift", [-50.0, 50.0])
def test_a_share_of_nearly_nothing_has_bounds(sentence_lift: float) -> None:
    support = replace(SUPPORT, lift=-0.01, sentence_lift=sentence_lift)
    assert -1 <= support.sentence_share <= 1.5


def test_an_answer_is_given_where_the_text_rather_holds_one() -> None:
    unlikely = replace(SUPPORT, likelihood=-40.0)  # but the text does hold an answer
    assert is_kept(SUPPORT, FITTED, None) and is_kept(unlikely, FITTED, None)
    assert not is_kept(replace(SUPPORT, lift=0.9), FITTED, None)
    assert not is_kept(unlikely, FITTED, 0.1) and is_kept(unlikely, FITTED, 0.0)


def test_calibration_asks_as_many_questions_of_each_text() -> None:
    assert len({len(questions) for _, questions in CALIBRATION}) == 1
    every = [question for _, questions in CALIBRATION for question in questions]
    assert len(set(every)) == len(every)

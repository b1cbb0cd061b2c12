"""Scores fitted to some true labels: against scikit-learn, and on real reviews."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from nbllm.errors import FrameError, LabelError
from nbllm.frame.evaluation.calibration import Scaling, fit
from nbllm.models.model import Model
from nbllm.stats import calibration_error
from tests.conftest import tiny_model

TEXTS = [
    f"The {a} {b} was {c}."
    for a in ("warm", "old")
    for b in ("soup", "film", "room")
    for c in ("kind", "cold", "slow", "fine")
]
TRUTH = {n: ("positive", "negative")[n % 3 == 0] for n in range(24)}


def answered(module, model: Model, **options):
    frame = module.DataFrame({"text": [*TEXTS, None]})
    return frame.llm.sentiment("text", model=model, **options)


def drawn(rows: int, labels: int, temperature: float, bias: list[float], seed: int):
    """Log-probabilities, and labels drawn from them after scaling."""
    random = np.random.default_rng(seed)
    scores = random.normal(scale=2.0, size=(rows, labels))
    logp = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    chances = Scaling(temperature, tuple(bias))(logp)
    truth = np.array([random.choice(labels, p=row) for row in chances])
    return logp, truth


def test_a_scaling_that_was_applied_is_found_again() -> None:
    logp, truth = drawn(20_000, 3, 2.5, [0.5, 0.0, -0.5], seed=0)
    found = fit(logp, truth)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert np.array(found.bias) - found.bias[1] == pytest.approx([0.5, 0.0, -0.5], abs=0.06)
    chances = found(logp)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    right = chances.argmax(axis=1) == truth
    assert calibration_error(chances.max(axis=1), right) < 0.02
    assert calibration_error(np.exp(logp).max(axis=1), np.exp(logp).argmax(axis=1) == truth) > 0.1


def test_two_labels_are_a_logistic_regression_of_the_log_odds() -> None:
    logp, truth = drawn(5_000, 2, 0.4, [0.3, -0.3], seed=1)
    found = fit(logp, truth)
    plain = LogisticRegression(C=1e6).fit((logp[:, 1] - logp[:, 0])[:, None], truth)
    assert 1 / found.temperature == pytest.approx(plain.coef_[0, 0], rel=0.01)
    assert found.bias[1] - found.bias[0] == pytest.approx(plain.intercept_[0], abs=0.02)


def test_rows_that_prove_nothing_change_little() -> None:
    logp = np.log(np.array([[0.6, 0.4]] * 10))
    few = fit(logp, np.zeros(10, dtype=np.intp))  # all right: no temperature would be too low
    assert 0.3 < few.temperature < 1 and np.abs(few.bias).max() < 2


@pytest.mark.parametrize("module", [pd, pl])
def test_labels_and_scores_become_those_of_the_scaling(module, tiny_llama: Model, capsys) -> None:
    frame = answered(module, tiny_llama, probabilities=True)
    new = frame.llm.calibrate(TRUTH)
    assert "calibrated on 24 rows: temperature" in capsys.readouterr().out
    assert type(new) is type(frame) and list(new.columns) == list(frame.columns)
    names = ["text_sentiment_positive", "text_sentiment_negative"]
    old = np.stack([frame[name].to_numpy()[:24] for name in names], axis=1)
    truth = np.array([TRUTH[n] == "negative" for n in range(24)], dtype=np.intp)
    expected = fit(np.log(old), truth)(np.log(old))
    found = np.stack([new[name].to_numpy()[:24] for name in names], axis=1)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(new["text_sentiment_score"].to_numpy()[:24], expected.max(axis=1))
    best = [("positive", "negative")[n] for n in expected.argmax(axis=1)]
    assert list(new["text_sentiment"])[:24] == best
    assert pd.isna(list(new["text_sentiment"])[24]) or list(new["text_sentiment"])[24] is None
    assert list(frame["text_sentiment_positive"])[:24] == list(old[:, 0])


def test_two_labels_need_no_probabilities_and_corrections_may_be_a_frame(
    tiny_llama: Model,
) -> None:
    whole = answered(pd, tiny_llama, probabilities=True).llm.calibrate(pd.Series(TRUTH))
    frame = answered(pd, tiny_llama)
    given = pd.DataFrame({"row": list(TRUTH), "label": list(TRUTH.values())})
    new = frame.llm.calibrate(given)
    np.testing.assert_allclose(new["text_sentiment_score"], whole["text_sentiment_score"])
    assert list(new.columns) == list(frame.columns)


def test_the_record_tells_of_the_scaling(tiny_llama: Model, ledger_path) -> None:
    from nbllm.engine.ledger import Ledger
    from nbllm.frame.running.provenance import find_record
    from nbllm.frame.running.run_record import recorded_prompt

    frame = answered(pd, tiny_llama)
    frame.index = [f"row {n}" for n in range(25)]
    new = frame.llm.calibrate({f"row {n}": label for n, label in TRUTH.items()})
    before, after = frame["text_sentiment_run"].iloc[0], new["text_sentiment_run"].iloc[0]
    assert before != after and new["text_sentiment_run"].isna().tolist() == [False] * 24 + [True]
    record = find_record(after, new)
    assert record["scaling"]["rows"] == 24 and record["scaling"]["temperature"] > 0
    assert 0 <= record["scaling"]["calibration_error_after"] <= 1
    with Ledger(ledger_path) as ledger:
        assert json.dumps(ledger.record(after)) == json.dumps(record)
    # What was asked is the same, so the row can still be explained.
    prompt = recorded_prompt(record, (TEXTS[3],), tiny_llama)
    assert TEXTS[3] in prompt.text
    assert new.llm.report().run == after and new.llm.evaluate("text_sentiment").count == 24


def test_a_frame_from_elsewhere_is_calibrated_without_its_report(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = answered(pd, tiny_llama, ledger=False)
    expected = frame.llm.calibrate(TRUTH)
    for name in ("_records", "_reports", "_unfiled"):
        monkeypatch.setattr(f"nbllm.frame.running.provenance.{name}", {})
    new = frame.llm.calibrate(TRUTH)
    pd.testing.assert_frame_equal(new, expected)
    assert new.llm.explain(3, model=tiny_llama).model is tiny_llama


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        (dict.fromkeys(range(9), "positive"), "9 of the corrections"),
        ({**TRUTH, 2: "splendid"}, "'splendid', which is none of positive, negative"),
        (dict.fromkeys([24] * 20, "positive"), "0 of the corrections"),
    ],
)
def test_corrections_that_do_not_do_are_refused(corrections, message, tiny_llama: Model) -> None:
    with pytest.raises(LabelError, match=message):
        answered(pd, tiny_llama).llm.calibrate(corrections)


@pytest.mark.parametrize("module", [pd, pl])
def test_probabilities_of_an_earlier_model_are_not_those_of_the_answers(
    module, tiny_llama: Model
) -> None:
    other = tiny_model("causal")
    other.revision = "1" * 64
    with torch.no_grad():
        other.network.get_input_embeddings().weight.neg_()
    first = answered(module, tiny_llama, probabilities=True)
    second = first.llm.sentiment("text", model=other)
    fresh = answered(module, other)
    assert list(second.columns) == list(fresh.columns)
    found, expected = (frame.llm.calibrate(TRUTH) for frame in (second, fresh))
    assert list(found["text_sentiment_score"])[:24] == list(expected["text_sentiment_score"])[:24]
    labels = first.llm.sentiment("text", model=other, keep=("value", "run"))
    assert list(labels.columns) == ["text", "text_sentiment", "text_sentiment_run"]


def test_what_cannot_be_calibrated_is_said(tiny_llama: Model) -> None:
    frame = answered(pd, tiny_llama)
    with pytest.raises(FrameError, match="no row is labelled 99"):
        frame.llm.calibrate({**TRUTH, 99: "positive"})
    with pytest.raises(FrameError, match="must be a mapping"):
        frame.llm.calibrate(["positive"] * 24)
    three = answered(pd, tiny_llama, neutral=True)
    with pytest.raises(FrameError, match="probabilities=True"):
        three.llm.calibrate(TRUTH)
    both = pd.concat([frame, answered(pd, tiny_llama, instruction="Judge.")], ignore_index=True)
    with pytest.raises(FrameError, match="2 runs"):
        both.llm.calibrate(TRUTH)


@pytest.mark.parametrize("module", [pd, pl])
def test_corrections_are_rows_to_learn_from(module, tiny_llama: Model) -> None:
    frame = answered(module, tiny_llama)
    rows = frame.llm.corrected({20: "negative", 3: "positive", 24: "positive"})
    assert list(rows.columns) == ["text", "text_sentiment"]
    assert rows["text"].to_list() == [TEXTS[3], TEXTS[20]]
    assert rows["text_sentiment"].to_list() == ["positive", "negative"]
    if module is pd:
        assert list(rows.index) == [3, 20]
    shown = frame.llm.preview("sentiment", "text", model=tiny_llama, examples=rows).text
    assert all(text in shown for text in (TEXTS[3], TEXTS[20]))
    with pytest.raises(LabelError, match="none of positive, negative"):
        frame.llm.corrected({3: "neutral"})

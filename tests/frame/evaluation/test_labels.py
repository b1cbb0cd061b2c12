"""Labels against scikit-learn."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import metrics

from nbllm.errors import LabelError
from nbllm.frame.evaluation.labels import LabelEvaluation
from nbllm.models.model import Model
from tests.frame.evaluation.answered import answered_by_labels, values


@pytest.mark.parametrize("module", [pd, pl])
def test_label_measures_are_scikit_learns(module) -> None:
    frame = answered_by_labels(module)
    found = frame.llm.evaluate("truth")
    assert isinstance(found, LabelEvaluation)
    kept = [n for n in range(300) if n not in (5, 7)]
    truth = [frame["truth"][n] for n in kept]
    answer = [frame["c"][n] for n in kept]
    assert (found.count, found.unanswered) == (298, 1)
    overall = values(found)
    assert overall["accuracy"][0] == pytest.approx(metrics.accuracy_score(truth, answer))
    assert overall["macro-F1"][0] == pytest.approx(metrics.f1_score(truth, answer, average="macro"))
    most = ["card"] * len(truth)
    assert overall["accuracy"][3] == pytest.approx(metrics.accuracy_score(truth, most))
    assert overall["macro-F1"][3] == pytest.approx(metrics.f1_score(truth, most, average="macro"))
    assert found.baseline == "always 'card'"
    table = metrics.precision_recall_fscore_support(truth, answer, labels=found.labels)
    plain = metrics.precision_recall_fscore_support(
        truth, most, labels=found.labels, zero_division=0
    )
    for n, label in enumerate(found.labels):
        of = values(found, label)
        for k, name in enumerate(("precision", "recall", "F1")):
            value, low, high, base = of[name]
            assert value == pytest.approx(table[k][n]) and base == pytest.approx(plain[k][n])
            assert 0 <= low < value < high <= 1
    np.testing.assert_array_equal(
        found.counts, metrics.confusion_matrix(truth, answer, labels=found.labels)
    )
    confusion = found.confusion
    assert type(confusion) is type(frame) and list(confusion["truth"]) == list(found.labels)
    assert list(confusion["cash"]) == found.counts[:, found.labels.index("cash")].tolist()


def test_intervals_are_those_of_drawing_rows_again() -> None:
    frame = answered_by_labels()
    found = frame.llm.evaluate("truth")
    truth, answer = np.array(found.right), np.array(found.answers)
    random = np.random.default_rng(9)
    drawn = []
    for _ in range(500):
        rows = random.integers(len(truth), size=len(truth))
        drawn.append(metrics.f1_score(truth[rows], answer[rows], average="macro"))
    _, low, high, _ = values(found)["macro-F1"]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)
    assert values(found) == values(frame.llm.evaluate("truth"))


def test_the_rows_behind_a_cell_of_the_confusion_matrix() -> None:
    frame = answered_by_labels()
    frame.index = [f"row {n}" for n in range(300)]
    found = frame.llm.evaluate("truth")
    rows = found.rows(truth="card", answer="cash")
    assert len(rows) == found.counts[found.labels.index("card"), found.labels.index("cash")] > 3
    assert set(rows["truth"]) == {"card"} and set(rows["c"]) == {"cash"}
    pd.testing.assert_frame_equal(rows, frame.loc[rows.index])
    judged = frame.dropna()
    assert len(found.rows(answer="cash")) == (judged["c"] == "cash").sum()
    assert len(found.rows()) == 298
    with pytest.raises(LabelError, match="no row has 'cheque'"):
        found.rows(truth="cheque")


def test_without_a_score_there_is_no_calibration_error() -> None:
    frame = answered_by_labels().drop(columns="c_score")
    found = frame.llm.evaluate("truth")
    assert "calibration error" not in values(found) and found.bins == []
    assert len(found.plot().data) == 1
    assert "calibration error" in values(answered_by_labels().llm.evaluate("truth"))


def test_a_real_run_is_evaluated(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": ["warm soup", "cold soup", None, "a film"]})
    answered = frame.llm.sentiment("text", model=tiny_llama)
    answered["truth"] = ["positive", "negative", "negative", None]
    found = answered.llm.evaluate("truth")
    right = answered["text_sentiment"][:2] == answered["truth"][:2]
    assert values(found)["accuracy"][0] == right.mean()
    assert (found.count, found.unanswered, found.verb) == (2, 1, "sentiment")

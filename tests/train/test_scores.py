"""Figures of labels, worked out by hand."""

from __future__ import annotations

import pytest

from nbllm.train.scores import label_metrics


def test_a_row_without_an_answer_is_wrong() -> None:
    truth = ["a", "a", "a", "b", "b", "c"]
    found = ["a", "a", "b", "b", None, "a"]
    figures = label_metrics(truth, found, ["a", "b", "c"])
    assert figures["accuracy"] == pytest.approx(3 / 6)
    assert figures["accuracy of the commonest label"] == pytest.approx(3 / 6)
    low, high = figures["accuracy, 95 % interval"]
    assert low < 0.5 < high
    assert figures["labels"]["a"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "rows": 3}
    )
    assert figures["labels"]["b"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "rows": 2}
    )
    assert figures["labels"]["c"]["f1"] == 0.0
    assert figures["f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)

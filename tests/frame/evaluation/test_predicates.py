"""What a filter took and left, against scikit-learn."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import metrics

from nbllm.errors import FrameError, LabelError
from nbllm.models.model import Model
from tests.frame.evaluation.answered import ROWS, numbered, value_and_baseline

SHOWN = [("A tram.", "is short")]  # a prompt of few tokens


@pytest.mark.parametrize("module", [pd, pl])
def test_a_filter_is_judged_by_what_it_left_too(module, tiny_llama: Model) -> None:
    truth = [n % 3 == 0 for n in range(ROWS)]
    frame = numbered(module, cold=[None, *truth[1:]], n=range(ROWS))
    asked = {"model": tiny_llama, "examples": SHOWN}
    every = frame.llm.filter("text", "is cold", threshold=0.0, **asked)
    scores = np.array(every["text_filter_score"].to_list())
    middle = float(np.median(scores))
    taken = frame.llm.filter("text", "is cold", threshold=middle, **asked)
    found = taken.llm.evaluate("cold", corpus=frame)
    right, given = np.array(truth)[1:], (scores >= middle)[1:]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        right, given, average="binary"
    )
    share = right.mean()
    measured = value_and_baseline(found)
    assert measured["precision"] == (pytest.approx(precision), pytest.approx(share))
    assert measured["recall"] == (pytest.approx(recall), 1)
    assert measured["F1"] == (pytest.approx(f1), pytest.approx(2 * share / (1 + share)))
    ap = metrics.average_precision_score(right, scores[1:])
    assert measured["average precision"] == (pytest.approx(ap), pytest.approx(share))
    assert (found.count, found.unanswered) == (ROWS - 1, 0)
    missed = found.rows(truth=True, taken=False)
    assert missed["n"].to_list() == (1 + np.flatnonzero(right & ~given)).tolist()


def test_a_filter_that_took_nothing_found_nothing(tiny_llama: Model) -> None:
    frame = numbered(cold=["yes", "no"] * (ROWS // 2))
    none = frame.llm.filter("text", "is cold", threshold=1.0, model=tiny_llama, examples=SHOWN)
    assert len(none) == 0
    assert value_and_baseline(none.llm.evaluate("cold", corpus=frame))["recall"][0] == 0
    with pytest.raises(FrameError, match="corpus=df"):
        none.llm.evaluate("cold")
    frame = pl.from_pandas(frame)
    none = frame.llm.filter("text", "is cold", threshold=1.0, model=tiny_llama, examples=SHOWN)
    with pytest.raises(FrameError, match="no row of 'text_filter' was answered"):
        none.llm.evaluate("cold", corpus=frame)


def test_without_a_ledger_there_is_no_average_precision(tiny_llama: Model) -> None:
    frame = numbered(cold=["yes", "no"] * (ROWS // 2))
    asked = {"model": tiny_llama, "examples": SHOWN, "ledger": False}
    every = frame.llm.filter("text", "is cold", threshold=0.0, **asked)
    middle = every["text_filter_score"].median()
    taken = frame.llm.filter("text", "is cold", threshold=middle, **asked)
    found = taken.llm.evaluate("cold", corpus=frame)
    assert set(value_and_baseline(found)) == {"precision", "recall", "F1"}
    assert "needs the scores of what was left out" in str(found)
    assert value_and_baseline(found)["recall"][0] == pytest.approx(
        (taken["cold"] == "yes").sum() / (ROWS / 2)
    )
    with pytest.raises(FrameError, match="corpus=df"):
        taken.llm.evaluate("cold")
    with pytest.raises(LabelError, match="neither true nor false"):
        taken.llm.evaluate("text", corpus=frame)
    with pytest.raises(FrameError, match="history= is for"):
        taken.llm.evaluate("cold", corpus=frame, history=["a"])

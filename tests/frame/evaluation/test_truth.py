"""Right answers: which row each is of, and one check for evaluating and exploring."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import ColumnError, FrameError, LabelError
from nbllm.frame.evaluation.truth import aligned_answers, label_text
from nbllm.models.model import Model
from nbllm.widgets.explorer.filtering import matching_rows
from nbllm.widgets.explorer.query import Query
from tests.conftest import tiny_model

TEXTS = ["Warm soup.", "Cold tea.", "Kind staff.", "A dull plot."]
INDEX = ["d", "a", "c", "b"]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


@pytest.fixture(scope="module")
def answered(model: Model) -> pd.DataFrame:
    frame = pd.DataFrame({"text": TEXTS}, index=INDEX)
    found: pd.DataFrame = frame.llm.sentiment("text", model=model, ledger=False)
    found["text_sentiment"] = ["positive", "negative", "positive", "negative"]
    return found


def wrong(frame: Any, truth: Any) -> list[int]:
    view = frame.llm.explore(truth=truth)
    found: list[int] = matching_rows(view.answers, Query(only="wrong")).tolist()
    return found


def test_a_series_is_read_by_its_index(answered: pd.DataFrame) -> None:
    truth = pd.Series(["positive", "negative", "negative", "positive"], index=INDEX)
    assert wrong(answered, truth) == [2, 3]
    assert wrong(answered, truth.sort_index()) == [2, 3]
    assert wrong(answered, pd.concat([truth, pd.Series(["x"], index=["e"])])[::-1]) == [2, 3]
    assert wrong(answered, truth.tolist()) == wrong(answered, truth.to_numpy()) == [2, 3]
    assert wrong(answered.assign(truth=truth.sort_index()), "truth") == [2, 3]
    found = answered.assign(truth=truth).llm.evaluate("truth")
    assert found.hits.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "index", [range(4), ["a", "b", "c", "x"], ["a", "a", "b", "c"]], ids=["range", "other", "twice"]
)
def test_a_series_of_other_rows_is_refused(answered: pd.DataFrame, index: Any) -> None:
    with pytest.raises(FrameError, match=r"another index.*reindex"):
        answered.llm.explore(truth=pd.Series(["positive"] * 4, index=index))


def test_polars_has_no_index_and_goes_by_position(model: Model) -> None:
    frame = pl.DataFrame({"text": TEXTS}).llm.sentiment("text", model=model, ledger=False)
    right = frame["text_sentiment"].to_list()
    assert wrong(frame, pl.Series(right)) == wrong(frame, pd.Series(right, index=INDEX)) == []


@pytest.mark.parametrize(
    "truth",
    [
        [1, 0, 1, 0],
        np.array([1, 0, 1, 0]),
        [1.0, 0.0, float("nan"), 0.0],
        [True, False, True, False],
        ["Positive", "negative", "positive", "negative"],
        ["positive", "negative", None, "?"],
        [["positive"], ["negative"], None, None],
    ],
    ids=str,
)
def test_both_refuse_what_the_verb_does_not_answer(answered: pd.DataFrame, truth: Any) -> None:
    frame = answered.assign(truth=pd.Series(list(truth), index=INDEX, dtype=object))
    said = r"holds .* and sentiment answers with 'negative', 'positive'|'positive', 'negative'"
    with pytest.raises(LabelError, match=said):
        frame.llm.evaluate("truth")
    for given in ("truth", truth, frame["truth"]):
        with pytest.raises(LabelError, match=said):
            frame.llm.explore(truth=given)


def test_both_take_numbers_where_labels_are_numbers(model: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS, "stars": [1, 5, 1, None]})  # floats, then
    found = frame.llm.classify("text", ["1", "5"], model=model, ledger=False)
    found["text_classify"] = ["1", "1", "1", "1"]
    assert found.llm.evaluate("stars").hits.tolist() == [True, False, True]
    assert wrong(found, "stars") == wrong(found, frame["stars"]) == [1]


def test_white_space_around_a_label_is_not_of_it(answered: pd.DataFrame) -> None:
    truth = ["positive ", "\tnegative", " ", "positive"]
    found = answered.assign(truth=truth).llm.evaluate("truth")
    assert found.hits.tolist() == [True, True, False] and found.unanswered == 0
    assert wrong(answered, truth) == [3]


@pytest.mark.parametrize("truth", [{"a": 1}, {"positive"}, 3, b"positive"], ids=str)
def test_what_is_no_truth_is_refused(answered: pd.DataFrame, truth: Any) -> None:
    with pytest.raises(FrameError, match="Pass the name of a column, or one value a row"):
        aligned_answers(answered, truth)


def test_evaluate_wants_a_column(answered: pd.DataFrame) -> None:
    with pytest.raises(ColumnError):
        answered.llm.evaluate(pd.Series(["positive"] * 4, index=INDEX))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("pos ", "pos"), (1, "1"), (1.0, "1"), (np.float32(2.0), "2"), (2.5, "2.5"), (True, "True"),
        (1e300, "1e+300"), (float("inf"), "inf"), (-0.0, "0"), (np.int64(3), "3"), (None, None),
        (float("nan"), None), (pd.NA, None), (pd.NaT, None), ("\u200b", None), ("1.0", "1.0"),
    ],
)  # fmt: skip
def test_a_label_as_text(value: Any, text: str | None) -> None:
    assert label_text(value) == text

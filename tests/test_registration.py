"""`nbllm.llm(frame)` is `frame.llm`, of pandas and polars; type checkers read tests/typing."""

from typing import Any

import pandas as pd
import polars as pl
import pytest

import nbllm
from nbllm.accessor import FrameAccessor
from nbllm.errors import FrameError
from nbllm.registration import SeriesAccessor
from tests.conftest import tiny_model

TEXTS = ["The soup was warm.", None, "Cold food, slow staff."]


@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame])
def test_a_frame_has_the_same_answers(made: Any) -> None:
    df = made({"text": TEXTS})
    model = tiny_model("causal")
    typed = nbllm.llm(df)
    assert type(typed) is FrameAccessor
    said = typed.sentiment("text", model=model, keep=("value", "score"))
    assert type(said) is made
    assert said.equals(df.llm.sentiment("text", model=model, keep=("value", "score")))


@pytest.mark.parametrize(("made", "frame"), [(pd.Series, pd.DataFrame), (pl.Series, pl.DataFrame)])
def test_a_series_has_the_same_answers(made: Any, frame: type) -> None:
    series = made(TEXTS, name="text") if made is pd.Series else made("text", TEXTS)
    model = tiny_model("causal")
    typed = nbllm.llm(series)
    assert type(typed) is SeriesAccessor
    said = typed.sentiment(model=model, keep=("value", "score"))
    assert type(said) is frame
    assert said.equals(series.llm.sentiment(model=model, keep=("value", "score")))


@pytest.mark.parametrize("other", [TEXTS, {"text": TEXTS}, pl.LazyFrame({"text": TEXTS}), None])
def test_anything_else_is_refused(other: Any) -> None:
    with pytest.raises(FrameError, match="DataFrame or a Series of pandas or polars"):
        nbllm.llm(other)

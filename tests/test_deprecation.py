"""Renamed arguments and functions keep working for one release, with a warning."""

import inspect

import pandas as pd
import pytest

from nbllm._deprecation import deprecated_argument
from nbllm.errors import ArgumentError


@deprecated_argument("among", "corpus")
def evaluate(row: int, *, corpus: str | None = None) -> tuple[int, str | None]:
    return row, corpus


def test_an_old_argument_is_taken_as_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"^among= is now corpus=;") as warned:
        assert evaluate(1, among="all") == (1, "all")  # type: ignore[call-arg]
    assert warned[0].filename == __file__
    assert "among" not in inspect.signature(evaluate).parameters


def test_the_new_argument_gives_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert evaluate(1, corpus="all") == (1, "all")
    assert not recwarn.list


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(ArgumentError, match="Give corpus= alone"):
        evaluate(1, corpus="all", among="all")  # type: ignore[call-arg]


def test_evaluate_takes_the_old_name_of_its_corpus() -> None:
    articles = pd.DataFrame({"text": ["The council met.", "Rain is expected."]})
    hits = articles.llm.search("text", "council", k=1, how="bm25")
    with pytest.warns(DeprecationWarning, match=r"^among= is now corpus=;"):
        old = hits.llm.evaluate({"council": [0]}, among=articles)
    assert old.summary.equals(hits.llm.evaluate({"council": [0]}, corpus=articles).summary)

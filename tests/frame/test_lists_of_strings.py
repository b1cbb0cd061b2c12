"""Arguments that take several strings: their order counts, so that a set is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import FrameError, LabelError
from nbllm.frame.calls.evaluate import evaluate
from nbllm.frame.prompts.arguments import check_labels
from nbllm.frame.retrieval.sources import read_sources
from nbllm.models.model import Model
from nbllm.train.finetuning import finetune
from tests.conftest import tiny_model

WORDS = ["food", "film", "travel"]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


@pytest.fixture(scope="module")
def frame(model: Model) -> pd.DataFrame:
    made = pd.DataFrame({"text": ["Warm soup.", "A dull plot.", "Far away."], "label": WORDS})
    asked: pd.DataFrame = made.llm.summarize("text", model=model, ledger=False, max_words=1)
    return asked


# Every argument of the kind, by name: what passes it.
TAKERS: dict[str, Callable[[pd.DataFrame, Model, Any], Any]] = {
    "labels": lambda frame, model, some: frame.llm.classify("text", some, model=model),
    "aspects": lambda frame, model, some: frame.llm.sentiment("text", aspects=some, model=model),
    "intents": lambda frame, model, some: frame.llm.reply(
        "text", ["Soup."], intents=some, model=model
    ),
    "query": lambda frame, model, some: frame.llm.search("text", some, how="bm25"),
    "metrics": lambda frame, model, some: evaluate(frame, "label", metrics=some),
    "labels of training": lambda frame, model, some: finetune(
        pd.concat([frame] * 8).assign(text=[f"{n}" for n in range(8 * len(frame))]),
        text="text", label="label", labels=some, model=model, dry_run=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TAKERS if name not in ("labels", "intents")])
def test_a_mapping_is_not_taken_for_its_keys(name: str, frame: pd.DataFrame, model: Model) -> None:
    with pytest.raises(LabelError, match=rf"{name.split()[0]} is a mapping.*Pass a list"):
        TAKERS[name](frame, model, dict.fromkeys(WORDS, "what it means"))


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize("name", TAKERS)
def test_a_set_is_refused_by_the_name_of_the_argument(
    name: str, kind: type, frame: pd.DataFrame, model: Model
) -> None:
    with pytest.raises(LabelError, match=rf"{name.split()[0]} is a set.*Pass a list"):
        TAKERS[name](frame, model, kind(WORDS))


@pytest.mark.parametrize(
    "missing", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")], ids=repr
)
@pytest.mark.parametrize("name", ["labels", "aspects", "intents", "query", "labels of training"])
def test_what_is_missing_among_them_is_not_to_become_a_string(
    name: str, missing: Any, frame: pd.DataFrame, model: Model
) -> None:
    with pytest.raises(FrameError, match=r"is missing|has no text") as refused:
        TAKERS[name](frame, model, [*WORDS, missing])
    assert "str(" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        WORDS,
        tuple(WORDS),
        iter(WORDS),
        dict.fromkeys(WORDS).keys(),
        np.array(WORDS),
        pd.Series(WORDS),
        pd.Index(WORDS),
        pd.Categorical(WORDS),
        pl.Series(WORDS),
        [f" {word}\n" for word in WORDS],
    ],
    ids=lambda values: type(values).__name__,
)
def test_what_has_an_order_keeps_it(values: Any) -> None:
    labels = check_labels(values)
    assert labels == tuple(WORDS) and {type(label) for label in labels} == {str}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (b"food", "is not a list"),
        (3, "is not a list"),
        ("food", "one string"),
        ([1, 2], r"1 is not. Pass str\(label\)"),
        ([["food"], ["film"]], r"\['food'\] is not"),
        (["food"], "leaves? nothing to choose"),
        (["food", "food "], "repeated labels: food"),
    ],
)
def test_what_is_no_list_of_labels_says_why(values: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        check_labels(values)


def test_sources_have_the_labels_that_they_come_with() -> None:
    texts, labels = ["Soup is warm.", " ", "Tea is cold."], ["s", "x", "t"]
    whole = ["Soup is warm.", "Tea is cold."]
    assert read_sources(texts, None) == (whole, [0, 2])
    assert read_sources(iter(texts), None) == (whole, [0, 2])
    assert read_sources(pl.Series(texts), None) == (whole, [0, 2])
    series = pd.Series(texts, index=labels)
    for given in (dict(zip(labels, texts, strict=True)), series, series.to_frame("text")):
        assert read_sources(given, None) == (whole, ["s", "t"])
    for odd in ("Soup.", {"Soup.", "Tea."}, 3):
        with pytest.raises(FrameError, match="sources"):
            read_sources(odd, None)


def test_a_mapping_is_no_history() -> None:
    items = pd.DataFrame({"plot": ["a", "b"]})
    with pytest.raises(FrameError, match="history= is a mapping"):
        items.llm.recommend("plot", history={0: 5.0}, model=tiny_model("encoder"))


def test_a_set_of_liked_items_is_read_in_the_order_of_the_frame() -> None:
    items = pd.DataFrame({"plot": [f"plot {n}" for n in range(9)]}, index=list("abcdefghi"))
    encoder = tiny_model("encoder")
    found = [
        items.llm.recommend("plot", history=history, model=encoder, ledger=False)
        for history in ({"c", "a", "h"}, ["h", "c", "a"], ["a", "c", "h"])
    ]
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other)

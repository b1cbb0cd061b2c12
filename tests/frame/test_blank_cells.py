"""Cells that nobody can see are blank wherever texts are read."""

import warnings
from typing import Any

import pandas as pd
import polars as pl
import pytest

import nbllm
from nbllm.engine.perplexity import perplexity
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import read_rows, row_values
from nbllm.frame.prompts.arguments import check_labels
from nbllm.frame.retrieval.sources import read_sources
from nbllm.models.model import Model
from nbllm.train.rows import learned_rows
from tests.conftest import tiny_model
from tests.test_blank import UNSEEN

# Among texts, one emoji that is joined by what is not seen.
TEXTS = ["A warm soup.", "👩\u200d🍳", *UNSEEN]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


@pytest.mark.parametrize("module", [pd, pl])
def test_they_are_no_rows_to_ask(module: Any) -> None:
    frame = module.DataFrame({"text": TEXTS, "label": ["a", "b", *["a"] * len(UNSEEN)]})
    rows = read_rows(frame, ["text"])
    assert rows.texts == [(text,) for text in TEXTS[:2]]
    assert rows.text_indices == [0, 1, *[None] * len(UNSEEN)]
    assert [row.texts for row in learned_rows(frame, ["text"], "label")[0]] == rows.texts
    assert [row.texts for row in learned_rows(frame, ["text"], None)[0]] == rows.texts
    assert read_sources(frame, "text")[0] == read_sources(TEXTS, None)[0] == TEXTS[:2]
    with pytest.raises(FrameError, match="no text in 'text'"):
        row_values(frame, ["text"], 3)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("sentiment", {}),
        ("classify", {"labels": ["food", "film"]}),
        ("summarize", {"max_words": 1}),
        ("translate", {"max_new_tokens": 2}),
        ("answer", {"question": "who?", "max_new_tokens": 2, "threshold": 0}),
        ("extract", {"schema": {"n": int}}),
        ("reply", {"sources": ["Soup."], "intents": ["food", "film"], "max_new_tokens": 2}),
        ("mask", {}),
        ("verify", {"against": "text"}),
    ],
)
def test_no_verb_answers_them(model: Model, verb: str, options: dict[str, Any]) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    asked = {} if verb == "mask" else {"model": model, "ledger": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        answered = getattr(frame.llm, verb)("text", **options, **asked)
    assert answered[f"text_{verb}"].iloc[2:].isna().all()
    assert answered[f"text_{verb}_error"].iloc[2:].isna().all()
    first = f"text_{verb}_intent" if verb == "reply" else f"text_{verb}"
    assert answered[[first, f"text_{verb}_error"]].notna().any(axis=1).iloc[:2].all()


def test_they_are_not_found_nor_taken(model: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    assert list(frame.llm.search("text", "soup \u3164", how="bm25").index) == [0]
    encoder = tiny_model("encoder")
    found = frame.llm.search("text", "soup", k=99, how="dense", model=encoder, ledger=False)
    assert sorted(found.index) == [0, 1]
    alike = frame.llm.recommend("text", history=[0], k=99, model=encoder, ledger=False)
    assert list(alike.index) == [1]
    with pytest.warns(UserWarning, match=rf"{len(UNSEEN)} blank and 0 failed rows"):
        frame.llm.filter("text", "is kind", threshold=0.0, model=model, ledger=False)
    read = perplexity(model, TEXTS)
    assert (read.tokens[2:] == 0).all() and (read.tokens[:2] > 0).all()


@pytest.mark.parametrize("blank", UNSEEN, ids=ascii)
def test_they_are_no_arguments(model: Model, blank: str) -> None:
    with pytest.raises(LabelError, match="is empty"):
        check_labels(["food", blank])
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.raises(FrameError, match="has no text"):
        frame.llm.search("text", ["soup", blank], how="bm25")
    for verb, options in (
        ("filter", {"predicate": blank}),
        ("answer", {"question": blank}),
        ("translate", {"to": blank}),
        ("summarize", {"style": blank}),
        ("classify", {"labels": {"food": "a", "film": blank}}),
        ("sentiment", {"aspects": ["food", blank]}),
        ("extract", {"schema": {blank: str}}),
        ("extract", {"schema": {"n": blank}}),
    ):
        with pytest.raises(nbllm.errors.FrameError):
            getattr(frame.llm, verb)("text", model=model, **options)

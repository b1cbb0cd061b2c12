"""Examples in any form that says which part is which, for every verb; what does not is refused."""

import itertools
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbllm
from nbllm.errors import LabelError
from nbllm.frame.comparison.runs import compare
from nbllm.frame.prompts.examples import examples_of
from nbllm.models.model import Model
from tests.conftest import tiny_model

# Of each verb: its options, the names of an example's parts, and two examples.
VERBS: dict[str, tuple[dict[str, Any], tuple[str, ...], list[tuple[Any, ...]]]] = {
    "sentiment": ({}, ("text", "label"), [("Warm soup", "positive"), ("Cold tea", "negative")]),
    "classify": (
        {"labels": ["food", "film"]},
        ("text", "label"),
        [("Warm soup", "food"), ("A dull plot", "film")],
    ),
    "filter": (
        {"predicate": "is kind"},
        ("text", "predicate"),
        [("Warm soup", "speaks of food"), ("Cold tea", "complains")],
    ),
    "summarize": ({}, ("text", "summary"), [("Warm soup", "Soup."), ("Cold tea", "Tea.")]),
    "translate": ({}, ("text", "translation"), [("Warm soup", "Suppe"), ("Cold tea", "Tee")]),
    "answer": ({}, ("question", "answer"), [("Who came?", "Ann"), ("Who left?", "Ben")]),
    "answer from a text": (
        {"question": "Who came?"},
        ("text", "question", "answer"),
        [("Ann came.", "Who came?", "Ann"), ("Ben left.", "Who left?", "Ben")],
    ),
    "extract": (
        {"schema": {"dish": str}},
        ("text", "fields"),
        [("Warm soup", {"dish": "soup"}), ("Cold tea", {"dish": "tea"})],
    ),
    "prompt": ({}, ("prompt", "answer"), [("Name one.", "Soup"), ("Name two.", "Tea")]),
    "reply": (
        {"intents": ["food", "film"], "sources": ["Soup is warm."], "k": 1},
        ("message", "intent"),
        [("Warm soup", "food"), ("A dull plot", "film")],
    ),
}
EVERY_VERB = pytest.mark.parametrize("verb", VERBS)


def columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}


def dicts(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def array(_: tuple[str, ...], rows: list[tuple[Any, ...]]) -> np.ndarray[Any, Any]:
    made = np.empty((len(rows), len(rows[0])), dtype=object)
    made[:] = rows
    return made


# Each form that is clear, made of names and rows; every verb reads the same from all.
CLEAR: dict[str, Callable[[tuple[str, ...], list[tuple[Any, ...]]], Any]] = {
    "tuples": lambda names, rows: rows,
    "lists": lambda names, rows: [list(row) for row in rows],
    "an iterator": lambda names, rows: iter(rows),
    "an array": array,
    "dicts": dicts,
    "dicts in another order": lambda names, rows: dicts(names[::-1], [row[::-1] for row in rows]),
    "dicts with an id": lambda names, rows: [
        {"id": f"r{n}", **made} for n, made in enumerate(dicts(names, rows))
    ],
    "named tuples": lambda names, rows: [
        namedtuple("Row", names[::-1])(*row[::-1]) for row in rows
    ],
    "a pandas frame": lambda names, rows: pd.DataFrame(columns(names, rows)),
    "with an id first": lambda names, rows: pd.DataFrame(
        {"id": [f"r{n}" for n in range(len(rows))], **columns(names, rows)}
    ),
    "with the answer first": lambda names, rows: pd.DataFrame(
        columns(names[::-1], [row[::-1] for row in rows])
    ),
    "rows of a frame": lambda names, rows: [
        row for _, row in pd.DataFrame(columns(names, rows)).iterrows()
    ],
    "a frame that nobody named": lambda names, rows: pd.DataFrame(rows),
}


def shown(model: Model, verb: str, examples: Any) -> str:
    """The prompt of a row, through the public verb."""
    options = VERBS[verb][0]
    frame = pd.DataFrame({"review": ["We waited."]})
    subject = "Say more of {review}" if verb == "prompt" else "review"
    return str(
        frame.llm.preview(verb.split()[0], subject, model=model, examples=examples, **options)
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


@EVERY_VERB
def test_every_clear_form_gives_the_same_prompt(verb: str, model: Model) -> None:
    _, names, rows = VERBS[verb]
    wanted = shown(model, verb, rows)
    for (first, *_), form in itertools.product(rows, CLEAR):
        assert first in wanted
        assert shown(model, verb, CLEAR[form](names, rows)) == wanted, form


@EVERY_VERB
def test_polars_too(verb: str, model: Model) -> None:
    _, names, rows = VERBS[verb]
    wanted = shown(model, verb, rows)
    assert shown(model, verb, pl.DataFrame(columns(names, rows))) == wanted
    assert shown(model, verb, pl.DataFrame({"id": ["a", "b"], **columns(names, rows)})) == wanted
    assert shown(model, verb, pl.DataFrame(rows, orient="row", strict=False)) == wanted


@EVERY_VERB
def test_one_example_alone(verb: str, model: Model) -> None:
    _, names, rows = VERBS[verb]
    wanted = shown(model, verb, rows[:1])
    assert shown(model, verb, rows[0]) == wanted
    assert shown(model, verb, dicts(names, rows)[0]) == wanted


@pytest.mark.parametrize("verb", [verb for verb, (_, names, _) in VERBS.items() if len(names) == 2])
def test_a_mapping_is_pairs(verb: str, model: Model) -> None:
    rows = VERBS[verb][2]
    assert shown(model, verb, dict(rows)) == shown(model, verb, rows)


@EVERY_VERB
def test_no_examples_are_none(verb: str, model: Model) -> None:
    assert shown(model, verb, []) == shown(model, verb, pd.DataFrame(columns=VERBS[verb][1]))


UNCLEAR: dict[str, Callable[[tuple[str, ...], list[tuple[Any, ...]]], Any]] = {
    "a string": lambda names, rows: "Warm soup",
    "strings": lambda names, rows: ["ab", "cd"],
    "strings of as many letters": lambda names, rows: ["abc"[: len(names)]],
    "a set": lambda names, rows: {("Warm soup", "food"), ("Cold tea", "food")},
    "a Series": lambda names, rows: pd.Series([row[0] for row in rows]),
    "a polars Series": lambda names, rows: pl.Series([row[0] for row in rows]),
    "a number": lambda names, rows: 3,
    "too long": lambda names, rows: [("r1", *row) for row in rows],
    "too short": lambda names, rows: [row[1:] for row in rows],
    "numbers": lambda names, rows: [(1, *row[1:]) for row in rows],
    "missing": lambda names, rows: [(float("nan"), *row[1:]) for row in rows],
    "only ids": lambda names, rows: pd.DataFrame(
        {"review_id": ["r1", "r2"], **columns(names[1:], [row[1:] for row in rows])}
    ),
    "an index beside": lambda names, rows: pd.DataFrame([(n, *row) for n, row in enumerate(rows)]),
    "two that may be the text": lambda names, rows: pd.DataFrame(
        {"one": ["a", "b"], "two": ["a", "b"], **columns(names[1:], [row[1:] for row in rows])}
    ),
    "no known name": lambda names, rows: pd.DataFrame(
        columns(tuple(f"n{n}" for n in range(len(names))), rows)
    ),
    "dicts without the answer": lambda names, rows: dicts(names[:-1], [row[:-1] for row in rows]),
}


@EVERY_VERB
@pytest.mark.parametrize("form", UNCLEAR)
def test_what_is_not_clear_is_refused_and_says_what_to_pass(
    verb: str, form: str, model: Model
) -> None:
    _, names, rows = VERBS[verb]
    with pytest.raises(nbllm.errors.FrameError, match="example") as refused:
        shown(model, verb, UNCLEAR[form](names, rows))
    assert "Pass " in str(refused.value)


def test_the_users_own_column_names_the_text(model: Model) -> None:
    rows = VERBS["sentiment"][2]
    wanted = shown(model, "sentiment", rows)
    frame = pd.DataFrame(columns(("review", "review_sentiment"), rows))
    for named in (
        frame,
        frame.assign(review_sentiment_score=1.0, text="other", other="x"),
        frame.rename(columns={"review_sentiment": "mood"}),
        frame.rename(columns={"review": "message"}),  # answered under another name
    ):
        assert shown(model, "sentiment", named) == wanted


def test_both_columns_of_an_answer_from_a_text_are_known() -> None:
    rows = VERBS["answer from a text"][2]
    frame = pd.DataFrame(columns(("q", "article", "answer"), [(b, a, c) for a, b, c in rows]))
    assert examples_of(frame, ("text", "question", "answer"), columns=["article", "q"]) == rows


def test_a_column_of_yes_is_no_predicate(model: Model) -> None:
    for examples in (
        pd.DataFrame({"review": ["Warm soup"], "review_filter": ["yes"]}),
        pd.DataFrame({"text": ["Warm soup"], "kind": ["yes"]}),
        [("Warm soup", "yes")],
        [("Warm soup", "True.")],
    ):
        with pytest.raises(LabelError, match="example"):
            shown(model, "filter", examples)


def test_a_label_may_have_space_around(model: Model) -> None:
    rows = VERBS["sentiment"][2]
    spaced = [(text, f" {label}\n") for text, label in rows]
    assert shown(model, "sentiment", spaced) == shown(model, "sentiment", rows)


@pytest.mark.filterwarnings("ignore:a and b are the same model")
def test_two_models_are_shown_what_an_iterator_gives_once(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"review": ["Warm soup.", "Cold tea."]})
    rows = VERBS["sentiment"][2]

    def given() -> Iterator[tuple[str, str]]:
        yield from rows

    asked = {"truncate": True}
    one = compare(
        tiny_llama, tiny_model("causal"), frame, "sentiment", "review", examples=given(), **asked
    )
    other = compare(
        tiny_llama, tiny_model("causal"), frame, "sentiment", "review", examples=rows, **asked
    )
    for side in "ab":
        scores = [found.rows[f"{side}_score"].to_numpy() for found in (one, other)]
        np.testing.assert_array_equal(*scores)

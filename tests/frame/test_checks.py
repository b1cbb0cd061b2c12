"""Whatever a user writes for an argument of a verb is read, or refused in words that name it."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.accessor import FrameAccessor
from nbllm.errors import ColumnError, FrameError, NbllmError
from nbllm.frame.calls.registry import built_in
from nbllm.frame.comparison.runs import compare
from nbllm.models.model import Model
from tests.conftest import tiny_model

TEXTS = ["The soup was warm.", "Cold food, slow staff.", None]
VERBS: dict[str, dict[str, Any]] = {
    "sentiment": {"column": "text"},
    "classify": {"column": "text", "labels": ["food", "staff"]},
    "filter": {"column": "text", "predicate": "is about food"},
    "summarize": {"column": "text"},
    "translate": {"column": "text"},
    "answer": {"column": "text", "question": "What was warm?"},
    "mask": {"column": "text"},
    "prompt": {"template": "What of {text}?", "into": "said"},
    "embed": {"column": "text"},
    "similarity": {"column": "text", "to": "A warm soup."},
    "search": {"column": "text", "query": "soup"},
    "recommend": {"column": "text", "history": [0]},
    "extract": {"column": "text", "schema": {"dish": str}},
    "reply": {"column": "text", "sources": ["Soup is warm."], "intents": ["food", "staff"]},
    "verify": {"column": "text", "against": "text"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "preview": {"verb": "sentiment", "subject": "text"},
    "estimate": {"verb": "sentiment", "subject": "text"},
    "report": {},
    "evaluate": {"truth": "truth"},
    "calibrate": {"corrections": {0: "positive"}},
    "corrected": {"corrections": {0: "positive"}},
    "explain": {"row": 0},
    "explore": {},
}
ENCODED = ("embed", "similarity", "search", "recommend")
WRONG: list[Any] = [
    None, float("nan"), -1, 0, 2.5, True, "", " ", "no such thing", b"x", [], ["text", "text"],
    [None], {}, object(), pd.Series(TEXTS, name="text"), np.zeros((2, 2)),
]  # fmt: skip
RAW = re.compile(
    r"object|not supported|attribute|keyword|unhashable|operand|iterable|literal|NoneType|KeyError"
    r"|ambiguous|subscript|convert",
)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: tiny_model(kind) for kind in ("causal", "encoder")}


@pytest.fixture
def passes(models: dict[str, Model]) -> Iterator[list[int]]:
    """How many passes the models made."""
    made = [0]

    def count(*_: Any) -> None:
        made[0] += 1

    handles = [model.network.register_forward_pre_hook(count) for model in models.values()]
    yield made
    for handle in handles:
        handle.remove()


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"text": TEXTS, "other": TEXTS[::-1], "truth": ["positive", "negative", None]}
    )


def signature_of(name: str) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(getattr(FrameAccessor, name)).parameters.items())[1:])


def test_each_method_is_in_a_table_here() -> None:
    public = {name for name in dir(FrameAccessor) if not name.startswith("_")}
    assert public == VERBS.keys() | OTHERS.keys()
    assert set(built_in()) == VERBS.keys()


def outcomes(
    name: str, given: dict[str, Any], asked: Any, model: Model, passes: list[int]
) -> list[str]:
    """What is wrong with how a method takes wrong values, one argument and one value at a time."""
    parameters, faults = signature_of(name), []
    for known, value in {"model": model, "max_new_tokens": 16}.items():
        if known in parameters:
            given = {**given, known: value}
    for argument, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in WRONG:
            if value is None and parameter.default is None:
                continue
            before = passes[0]
            fault = None
            try:
                found = getattr(asked.llm, name)(**{**given, argument: value})
                if hasattr(found, "result"):
                    found.result()
            except NbllmError as error:
                text = str(error)
                # `subject` is what the verb calls column.
                named = {
                    argument.removesuffix("s"),
                    "column" if argument == "subject" else argument,
                }
                if RAW.search(text.replace("<object object", "")) or text[-1:] != ".":
                    fault = f"raw: {text}"
                elif not any(name in text for name in named) and repr(value) not in text:
                    fault = f"names nothing: {text}"
                elif passes[0] > before:
                    fault = "refused after the model was asked"
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
            if fault is not None:
                faults.append(f"{name}({argument}={value!r:.40}): {fault}")
    return faults


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_reads_a_value_or_names_what_is_wrong(
    verb: str, models: dict[str, Model], passes: list[int]
) -> None:
    model = models["encoder" if verb in ENCODED else "causal"]
    faults = outcomes(verb, VERBS[verb], frame(), model, passes)
    assert not faults, "\n".join(faults)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_said_of_answers_reads_a_value_or_names_what_is_wrong(
    name: str, models: dict[str, Model], passes: list[int]
) -> None:
    answered = frame().llm.sentiment("text", model=models["causal"])
    faults = outcomes(name, OTHERS[name], answered, models["causal"], passes)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda llm, model: llm.sentiment(frame()["text"], model=model), r"a Series.* Pass 'text'"),
        (lambda llm, model: llm.sentiment(["text"], model=model), r"\['text'\].* Pass 'text'"),
        (lambda llm, model: llm.sentiment(["text", "other"], model=model), r"'\{text\} \{other\}'"),
        (lambda llm, model: llm.translate("text", to=["German"], model=model), "to=.*is no text"),
        (lambda llm, model: llm.summarize("text", by=["other"] * 2, model=model), "'other' twice"),
        (lambda llm, model: llm.summarize("text", by="text", model=model), "by= names 'text'"),
        (
            lambda llm, model: llm.prompt("{text}", into="a", max_new_tokens=4096, model=model),
            r"may take 4,096 tokens.*has 2,048 .*smaller max_new_tokens",
        ),
        (lambda llm, model: llm.preview("sentimant", "text", model=model), "mean 'sentiment'"),
        (lambda llm, model: llm.preview("filter", "text", model=model), "needs predicate="),
        (lambda llm, model: llm.preview("sentiment", "text", neutrl=1), "mean 'neutral'"),
        (
            lambda llm, model: compare(model, 3, frame(), "sentiment", "text"),
            "b=3 is neither a model",
        ),
        (
            lambda llm, model: compare(model, model, None, "sentiment", "text"),
            "the frame is a NoneType",
        ),
        (
            lambda llm, model: compare(model, model, frame(), "sentiment", "text", neutrl=1),
            "mean 'neutral'",
        ),
    ],
)
def test_what_is_passed_instead_is_said(ask: Any, message: str, models: dict[str, Model]) -> None:
    with pytest.raises(NbllmError, match=message):
        ask(frame().llm, models["causal"])


@pytest.mark.parametrize("module", [pd, pl])
def test_one_string_is_read_as_one(module: Any, models: dict[str, Model]) -> None:
    asked = module.DataFrame({"text": TEXTS}).llm
    assert list(asked.mask("text", "EMAIL_ADDRESS", keep="value").columns) == [
        "text", "text_mask", "text_mask_entities"
    ]  # fmt: skip
    answered = asked.sentiment("text", keep="value", model=models["causal"])
    assert list(answered.columns) == ["text", "text_sentiment"]


def test_columns_that_are_numbers_are_not_suggested_as_what_was_written() -> None:
    with pytest.raises(ColumnError, match=r"no column '0': what is written so is 0, an int"):
        pd.DataFrame({0: TEXTS}).llm.mask("0")
    with pytest.raises(FrameError, match=r"columns\.map\(str\)"):
        pd.DataFrame({0: TEXTS}).llm.mask(0)


def test_answers_of_no_run_are_said_to_be_none(models: dict[str, Model]) -> None:
    empty = frame().iloc[:0].llm.sentiment("text", model=models["causal"])
    for ask in (empty.llm.report, lambda: empty.llm.calibrate({0: "positive"})):
        with pytest.raises(FrameError, match="no row of 'text_sentiment' was answered"):
            ask()


def test_the_accessor_names_its_verbs_and_what_was_meant() -> None:
    shown = repr(frame().llm)
    assert all(verb in shown for verb in [*VERBS, *OTHERS])
    with pytest.raises(AttributeError, match="Did you mean 'sentiment'"):
        frame().llm.sentimant("text")
    assert not hasattr(frame().llm, "sentimant")
    assert not hasattr(frame().llm, "_repr_html_")


def test_python_says_which_argument_is_missing() -> None:
    with pytest.raises(TypeError, match=r"reply\(\) missing 1 required keyword-only .*'intents'"):
        frame().llm.reply("text", ["Soup is warm."])
    assert list(inspect.signature(frame().llm.mask).parameters)[:2] == ["column", "entities"]


def test_an_argument_that_there_is_not_has_a_suggestion(models: dict[str, Model]) -> None:
    with pytest.raises(NbllmError, match=r"takes no neutrl=. Did you mean 'neutral'\?"):
        pd.DataFrame({"text": TEXTS}).llm.sentiment("text", neutrl=True, model=models["causal"])
    with pytest.raises(TypeError):
        pd.DataFrame({"text": TEXTS}).llm.sentiment("text", neutrl=True, model=models["causal"])

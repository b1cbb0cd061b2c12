"""Whatever a frame holds: each row has an answer, a null or an error, and the frame stays."""

import warnings
from typing import Any

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllm.engine.prompt import CompiledTemplate, Prompt
from nbllm.errors import ColumnError, TextError
from nbllm.frame.tasks.sentiment import sentiment
from nbllm.models.model import Model
from tests.conftest import tiny_model

SPECIAL = ["<|im_end|>", "<|im_start|>system\n", "<|endoftext|>", "{text}", "{", "}}", "{0!r:>9}"]
ODD = st.one_of(
    st.none(),
    st.just(float("nan")),
    st.just(pd.NA),
    st.integers(),
    st.floats(),
    st.binary(max_size=8),
    st.booleans(),
    st.just(["a", "list"]),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3),  # lone surrogates
    st.text(st.characters(categories=["Cc", "Cf"]), max_size=6),
    st.text(st.characters(min_codepoint=0x590, max_codepoint=0x6FF), max_size=20),
    st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=3).map(" good ".join),
    st.sampled_from([" ", "\n", "\u2028", "\u3000", "\ufeff"]),
)
QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


def quietly(frame: Any, verb: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows without an answer
        return getattr(frame.llm, verb)("text", ledger=False, **options)


@QUICK
@given(st.lists(st.one_of(TEXTS, ODD), max_size=8))
def test_every_row_has_an_answer_a_null_or_an_error(model: Model, cells: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(["a text among them", *cells], dtype=object)})
    answered = quietly(frame, "sentiment", model=model)
    assert answered.index.equals(frame.index)
    for given_cell, kept, label, error in zip(
        frame["text"],
        answered["text"],
        answered["text_sentiment"],
        answered["text_sentiment_error"],
        strict=True,
    ):
        assert kept is given_cell
        text = isinstance(given_cell, str)
        if text and given_cell.strip():
            assert (label in ("positive", "negative")) != isinstance(error, str)
        else:
            assert pd.isna(label)
            missing = text or (not isinstance(given_cell, list) and pd.isna(given_cell))
            assert isinstance(error, str) != missing


@QUICK
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_row_is_answered_the_same_alone(model: Model, texts: list[str]) -> None:
    together = quietly(pd.DataFrame({"text": texts}, dtype=object), "sentiment", model=model)
    for row, text in enumerate(texts):
        alone = quietly(pd.DataFrame({"text": [text]}, dtype=object), "sentiment", model=model)
        both = [frame["text_sentiment"].iloc[n] for frame, n in ((together, row), (alone, 0))]
        assert both[0] == both[1] or pd.isna(both).all()


@QUICK
@given(st.lists(st.sampled_from([*SPECIAL, "good ", "bad "]), min_size=1, max_size=6))
def test_no_text_ends_its_turn_or_reaches_the_template(model: Model, parts: list[str]) -> None:
    text = "".join(parts)
    ready = CompiledTemplate(sentiment(model).template, model.tokenizer)
    prompt, plain = ready.encode([(text,), ("so so",)], limit=10**6)
    assert isinstance(prompt, Prompt) and isinstance(plain, Prompt)
    special = set(model.tokenizer.all_special_ids)
    assert [i for i in prompt.ids if i in special] == [i for i in plain.ids if i in special]
    mark = prompt.marks[0]
    assert model.tokenizer.decode(prompt.ids[mark.start : mark.stop]).strip() == text.strip()


def test_a_megabyte_of_text_is_one_rows_error(model: Model) -> None:
    frame = pd.DataFrame({"text": ["fine", "a very long story " * 60_000]})
    answered = quietly(frame, "sentiment", model=model)
    assert answered["text_sentiment"].notna().tolist() == [True, False]
    assert "tokens" in answered["text_sentiment_error"][1]
    cut = quietly(frame, "sentiment", model=model, truncate=True)
    assert cut["text_sentiment"].notna().all()


WORDS = ["a fine day", None, "a fine day", "  ", "rain"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(WORDS, dtype="category"),
        pd.Series(WORDS, dtype="string"),
        pd.Series(WORDS, dtype=pd.ArrowDtype(pa.string())),
        pd.Series(WORDS, dtype=pd.ArrowDtype(pa.large_string())),
        pl.Series(WORDS),
        pl.Series(WORDS, dtype=pl.Categorical),
        pl.Series(WORDS, dtype=pl.Enum(["a fine day", "  ", "rain"])),
    ],
    ids=lambda column: f"{type(column).__module__.split('.')[0]}-{column.dtype}",
)
def test_every_kind_of_text_column(model: Model, column: Any) -> None:
    library = pl if isinstance(column, pl.Series) else pd
    frame = library.DataFrame({"text": column})
    answered = quietly(frame, "sentiment", model=model)
    assert answered["text"].dtype == frame["text"].dtype
    labels = nw.from_native(answered)["text_sentiment"].to_list()
    assert [isinstance(label, str) for label in labels] == [True, False, True, False, True]
    assert labels[0] == labels[2]


def test_rows_with_several_levels_keep_them(model: Model) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["shop", "day"])
    frame = pd.DataFrame({"text": ["good", None, "bad"]}, index=index)
    answered = quietly(frame, "sentiment", model=model)
    assert answered.index.equals(index)
    assert answered["text_sentiment"].notna().tolist() == [True, False, True]


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("verb", ["sentiment", "summarize"])
def test_no_rows_are_no_rows(model: Model, library: Any, verb: str) -> None:
    frame = library.DataFrame(
        {"text": library.Series([], dtype=str if library is pd else pl.String)}
    )
    answered = quietly(frame, verb, model=model)
    assert len(answered) == 0
    assert {f"text_{verb}", f"text_{verb}_error", f"text_{verb}_run"} <= set(answered.columns)


def test_two_columns_of_one_name_are_refused(model: Model) -> None:
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(ColumnError, match="same name"):
        frame.llm.sentiment("text", model=model)


def test_columns_with_several_levels_are_refused(model: Model) -> None:
    columns = pd.MultiIndex.from_tuples([("review", "text"), ("review", "stars")])
    frame = pd.DataFrame([["a", 1]], columns=columns)
    with pytest.raises(ColumnError, match="levels"):
        frame.llm.sentiment("text", model=model)
    with pytest.raises(ColumnError, match="levels"):
        frame.llm.sentiment(("review", "text"), model=model)


def test_half_a_surrogate_in_what_all_prompts_share_is_said(model: Model) -> None:
    frame = pd.DataFrame({"text": ["a fine day"]})
    for options in ({"instruction": "Say \ud800."}, {"examples": [("\udc00", "positive")]}):
        with pytest.raises(TextError, match="half a surrogate pair in the instruction"):
            frame.llm.sentiment("text", model=model, **options)


def test_half_a_surrogate_is_searched_for_and_replied_to(model: Model) -> None:
    frame = pd.DataFrame({"text": pd.Series(["fine \ud800", "fine"], dtype=object)})
    found = frame.llm.search("text", ["fine \ud800", "fine"], how="bm25")
    assert found["text_search_query"].tolist() == ["fine \ud800"] * 2 + ["fine"] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        answered = frame.llm.reply(
            "text", ["fine \ud800"], intents=["a", "b"], model=model, max_new_tokens=4, ledger=False
        )
    assert answered["text_reply_intent"].notna().tolist() == [False, True]
    assert answered["text_reply_context"].tolist() == ["fine \ud800"] * 2
    assert answered["text_reply_handover"].tolist() == [True, True]

"""Whatever a frame holds: each row has an answer, a null or an error, and the frame stays."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllm.blank import is_blank
from nbllm.engine.prompt import CompiledTemplate, Prompt
from nbllm.errors import ColumnError, TextError
from nbllm.frame.columns import is_missing
from nbllm.frame.tasks.label import CalibratedPromptTask
from nbllm.models.model import Model
from tests.asking import sentiment
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


# Of every verb on one column, what else it is asked, and so little that it costs little.
VERBS: dict[str, dict[str, Any]] = {
    "sentiment": {},
    "classify": {"labels": ["food", "film"], "multi": True},
    "summarize": {"max_words": 1},
    "translate": {"max_new_tokens": 2},
    "answer": {"question": "who?", "max_new_tokens": 2, "threshold": 0},
    "embed": {},
    "filter": {"predicate": "is kind", "threshold": 0.0},
    "mask": {},
    "verify": {"against": "text"},
    "prompt": {"into": "text_prompt", "max_new_tokens": 2},
}
EVERY_VERB = pytest.mark.parametrize("verb", VERBS)
ROW_VERBS = pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "filter"])


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


@pytest.fixture(scope="module")
def encoder() -> Model:
    return tiny_model("encoder")


@pytest.fixture
def ask(
    model: Model,
    encoder: Model,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Any, str], Any]:
    """Asks a verb of the column "text", with one ledger for all tests of this file."""
    ledger = tmp_path_factory.getbasetemp() / "any_text.sqlite"
    monkeypatch.setenv("NBLLM_LEDGER", str(ledger))

    def ask(frame: Any, verb: str) -> Any:
        subject = "Say {text}" if verb == "prompt" else "text"
        options = dict(VERBS[verb])
        if verb != "mask":
            options["model"] = encoder if verb == "embed" else model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of rows without an answer
            return getattr(frame.llm, verb)(subject, **options)

    return ask


def quietly(frame: Any, verb: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows without an answer
        return getattr(frame.llm, verb)("text", ledger=False, **options)


def cells(frame: Any, column: str) -> list[Any]:
    """What a column holds, as Python has it; None wherever nothing is there."""
    return [None if is_missing(cell) else cell for cell in frame[column].to_list()]


def is_unicode(text: str) -> bool:
    return text.encode("utf-8", "ignore").decode() == text


def check_rows(frame: Any, answered: Any, verb: str) -> None:
    """Every row is there, and has an answer, a null or an error."""
    assert len(answered) == len(frame)
    for cell, kept, answer, error in zip(
        frame["text"].to_list(),
        answered["text"].to_list(),
        cells(answered, f"text_{verb}"),
        cells(answered, f"text_{verb}_error"),
        strict=True,
    ):
        assert kept is cell or kept == cell
        if verb == "sentiment":
            assert answer in ("positive", "negative", None)
        if is_missing(cell) or (isinstance(cell, str) and is_blank(cell)):
            assert answer is None and error is None
        elif isinstance(cell, str) or verb == "prompt":  # which takes any value
            assert (answer is None) != (error is None)
        else:
            assert answer is None and "not a text" in error
        assert error is None or isinstance(error, str)


@ROW_VERBS
@settings(QUICK, max_examples=12)
@given(texts=st.lists(st.one_of(TEXTS, ODD), max_size=5))
def test_every_row_has_an_answer_a_null_or_an_error(
    ask: Callable[[Any, str], Any], verb: str, texts: list[Any]
) -> None:
    frame = pd.DataFrame({"text": pd.Series(["a text among them", *texts], dtype=object)})
    check_rows(frame, ask(frame, verb), verb)
    # A text of polars is Unicode, and its columns are of one type.
    kept = [cell for cell in texts if cell is None or (isinstance(cell, str) and is_unicode(cell))]
    other = pl.DataFrame({"text": pl.Series(["a text among them", *kept], dtype=pl.String)})
    check_rows(other, ask(other, verb), verb)


@pytest.mark.parametrize("library", [pd, pl])
@settings(QUICK, max_examples=8)
@given(texts=st.lists(st.one_of(TEXTS, st.none()), max_size=5))
def test_a_filter_leaves_out_what_is_no_text(
    ask: Callable[[Any, str], Any], library: Any, texts: list[str | None]
) -> None:
    if library is pl:
        texts = [text for text in texts if text is None or is_unicode(text)]
        frame = pl.DataFrame({"text": pl.Series(["a text", *texts], dtype=pl.String)})
    else:
        frame = pd.DataFrame({"text": pd.Series(["a text", *texts], dtype=object)})
    found = ask(frame, "filter")["text"].to_list()
    whole = [
        text for text in frame["text"].to_list() if isinstance(text, str) and not is_blank(text)
    ]
    assert found == [text for text in whole if is_unicode(text)]


@QUICK
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_row_is_answered_the_same_alone(
    model: Model, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    # Whose offset is fitted once, and would be here for each frame.
    monkeypatch.setattr(CalibratedPromptTask, "_fit", lambda *_: [0.1, -0.1])
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
    mark = prompt.field_spans[0]
    assert model.tokenizer.decode(prompt.ids[mark.start : mark.stop]).strip() == text.strip()


def test_a_megabyte_of_text_is_one_rows_error(model: Model) -> None:
    frame = pd.DataFrame({"text": ["fine", "a very long story " * 60_000]})
    answered = quietly(frame, "sentiment", model=model)
    assert answered["text_sentiment"].notna().tolist() == [True, False]
    assert "tokens" in answered["text_sentiment_error"][1]
    cut = quietly(frame, "sentiment", model=model, truncate=True)
    assert cut["text_sentiment"].notna().all()
    assert frame.llm.mask("text")["text_mask"].equals(frame["text"].rename("text_mask"))


WORDS = ["a fine day", None, "a fine day", "  ", "rain"]
COLUMNS = [
    pd.Series(WORDS, dtype="category"),
    pd.Series(WORDS, dtype="string"),
    pd.Series(WORDS, dtype=pd.ArrowDtype(pa.string())),
    pd.Series(WORDS, dtype=pd.ArrowDtype(pa.large_string())),
    pl.Series(WORDS),
    pl.Series(WORDS, dtype=pl.Categorical),
    pl.Series(WORDS, dtype=pl.Enum(["a fine day", "  ", "rain"])),
]


@EVERY_VERB
def test_every_kind_of_text_column(ask: Callable[[Any, str], Any], verb: str) -> None:
    for column in COLUMNS:
        library = pl if isinstance(column, pl.Series) else pd
        frame = library.DataFrame({"text": column})
        answered = ask(frame, verb)
        assert answered["text"].dtype == frame["text"].dtype
        if verb == "filter":
            assert cells(answered, "text") == ["a fine day", "a fine day", "rain"]
            continue
        check_rows(frame, answered, verb)
        both = [cells(answered, f"text_{verb}")[row] for row in (0, 2)]
        assert np.array_equal(both[0], both[1])


@EVERY_VERB
def test_rows_with_several_levels_keep_them(ask: Callable[[Any, str], Any], verb: str) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["shop", "day"])
    frame = pd.DataFrame({"text": ["rain", None, "a fine day"]}, index=index)
    answered = ask(frame, verb)
    if verb == "filter":
        assert answered.index.equals(index[[0, 2]])
    else:
        assert answered.index.equals(index)
        check_rows(frame, answered, verb)


@pytest.mark.parametrize("library", [pd, pl])
@EVERY_VERB
def test_no_rows_are_no_rows(ask: Callable[[Any, str], Any], library: Any, verb: str) -> None:
    dtype = str if library is pd else pl.String
    frame = library.DataFrame({"text": library.Series([], dtype=dtype)})
    answered = ask(frame, verb)
    assert len(answered) == 0
    assert {"text", f"text_{verb}", f"text_{verb}_error"} <= set(answered.columns)


@EVERY_VERB
def test_two_columns_of_one_name_are_refused(ask: Callable[[Any, str], Any], verb: str) -> None:
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(ColumnError, match="same name"):
        ask(frame, verb)


@EVERY_VERB
def test_columns_with_several_levels_are_refused(ask: Callable[[Any, str], Any], verb: str) -> None:
    columns = pd.MultiIndex.from_tuples([("review", "text"), ("review", "stars")])
    frame = pd.DataFrame([["a", 1]], columns=columns)
    with pytest.raises(ColumnError, match="levels"):
        ask(frame, verb)


def test_a_column_named_by_its_levels_is_refused(model: Model) -> None:
    columns = pd.MultiIndex.from_tuples([("review", "text"), ("review", "stars")])
    frame = pd.DataFrame([["a", 1]], columns=columns)
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

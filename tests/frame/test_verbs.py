"""The verbs on frames, end to end, on a small random model."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.engine.scoring import LabelScorer
from nbllm.errors import (
    ColumnError,
    FrameError,
    LabelError,
    TextTooLongError,
    UnsupportedModelError,
)
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS


def frame_of(module, texts=REVIEWS):
    if module is pl:
        return pl.DataFrame({"review": texts, "n": range(len(texts))})
    return pd.DataFrame(
        {"review": texts, "n": range(len(texts))}, index=list("gfedcba")[: len(texts)]
    )


@pytest.mark.parametrize("module", [pd, pl])
def test_sentiment_adds_its_columns_and_leaves_the_rest(module, tiny_llama: Model) -> None:
    frame = frame_of(module)
    answered = frame.llm.sentiment("review", model=tiny_llama, probabilities=True)
    assert type(answered) is type(frame)
    assert list(answered.columns) == [
        "review",
        "n",
        "review_sentiment",
        "review_sentiment_score",
        "review_sentiment_error",
        "review_sentiment_run",
        "review_sentiment_positive",
        "review_sentiment_negative",
    ]
    assert list(answered["n"]) == list(range(7))
    if module is pd:
        pd.testing.assert_index_equal(answered.index, frame.index)
        assert answered["review_sentiment_run"].dtype == "category"
        answered = pl.from_pandas(answered)
    blank = [2, 5]
    for row in range(7):
        label, score, error, run, positive, negative = answered.row(row)[2:]
        assert error is None
        if row in blank:
            assert (label, score, run, positive, negative) == (None,) * 5
            continue
        assert label == ("positive" if positive > negative else "negative")
        assert score == max(positive, negative)
        assert positive + negative == pytest.approx(1.0, abs=1e-12)
        assert run.startswith("sentiment-")
    assert answered.row(0)[2:] == answered.row(4)[2:]


def test_duplicates_are_computed_once_and_blanks_never(tiny_llama: Model, forwards) -> None:
    answered = frame_of(pd).llm.sentiment("review", model=tiny_llama)
    assert forwards[-1] == 4
    report = answered.llm.report()
    counts = (report.rows, report.computed, report.merged, report.blank, report.known)
    assert counts == (7, 4, 1, 2, 0)
    assert report.rows == report.blank + report.failed + report.known + report.computed + (
        report.merged
    )
    assert "4 computed" in str(report) and "4 computed" in report._repr_html_()


def test_what_is_in_the_ledger_is_not_computed_again(tiny_llama: Model, forwards) -> None:
    first = frame_of(pd).llm.sentiment("review", model=tiny_llama)
    count = len(forwards)
    again = frame_of(pd).llm.sentiment("review", model=tiny_llama)
    assert len(forwards) == count
    pd.testing.assert_frame_equal(first, again)
    # The same texts under another name are the same question.
    other = frame_of(pd).rename(columns={"review": "text"}).llm.sentiment("text", model=tiny_llama)
    assert len(forwards) == count
    assert list(other["text_sentiment"].dropna()) == list(first["review_sentiment"].dropna())
    # Another prompt, another model and no ledger are not.
    for options in (
        {"instruction": "Judge."},
        {"examples": [("fine", "positive")]},
        {"ledger": False},
    ):
        before = len(forwards)
        frame_of(pd).llm.sentiment("review", model=tiny_llama, **options)
        assert len(forwards) > before
    tiny_llama.revision = "1" * 64
    before = len(forwards)
    frame_of(pd).llm.sentiment("review", model=tiny_llama)
    assert len(forwards) > before


def test_without_the_ledger_nothing_is_written(tiny_llama: Model, ledger_path) -> None:
    answered = frame_of(pd).llm.sentiment("review", model=tiny_llama, ledger=False)
    assert not ledger_path.exists()
    assert "off" in str(answered.llm.report())


def test_running_a_cell_twice_replaces_the_answers(tiny_llama: Model) -> None:
    frame = frame_of(pd)
    once = frame.llm.sentiment("review", model=tiny_llama)
    twice = once.llm.sentiment("review", model=tiny_llama)
    pd.testing.assert_frame_equal(once, twice)


def test_without_a_ledger_rows_are_computed_again_but_nothing_is_calibrated_again(
    tiny_llama: Model, forwards
) -> None:
    def ask() -> tuple[pd.DataFrame, int]:
        before = len(forwards)
        options = {"model": tiny_llama, "ledger": False, "instruction": "Say what it is."}
        return frame_of(pd).llm.sentiment("review", **options), len(forwards) - before

    (first, calibrated), (again, taken) = ask(), ask()
    assert 0 < taken < calibrated
    pd.testing.assert_frame_equal(first, again)


def test_a_row_does_not_depend_on_the_frame_around_it(tiny_llama: Model) -> None:
    texts = [
        f"The {a} {b} was {c}."
        for a in ("warm", "old")
        for b in ("soup", "room")
        for c in ("kind", "cold", "slow")
    ]
    frame = pd.DataFrame({"review": texts})
    options = {"model": tiny_llama, "ledger": False}
    whole = frame.llm.sentiment("review", **options)
    turned = frame[::-1].llm.sentiment("review", **options)[::-1]
    alone = pd.concat(
        [frame.iloc[[i]].llm.sentiment("review", **options) for i in range(len(frame))]
    )
    for other in (turned, alone):
        assert list(other["review_sentiment"]) == list(whole["review_sentiment"])
        np.testing.assert_allclose(
            other["review_sentiment_score"], whole["review_sentiment_score"], atol=1e-6
        )


def test_classify_with_labels_that_begin_alike(tiny_llama: Model) -> None:
    labels = ["card", "card arrival", "card arrival date", "something else"]
    answered = frame_of(pd).llm.classify("review", labels, model=tiny_llama, probabilities=True)
    chances = answered[[f"review_classify_{label}" for label in labels]].dropna()
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert set(answered["review_classify"].dropna()) <= set(labels)


def test_a_label_whose_column_is_taken(tiny_llama: Model) -> None:
    asked = {"labels": ["score", "rules"], "model": tiny_llama, "probabilities": True}
    with pytest.raises(LabelError, match="'score' wants the column review_classify_score"):
        frame_of(pd).llm.classify("review", **asked)
    answered = frame_of(pd).llm.classify("review", keep=("value",), **asked)
    assert {"review_classify_score", "review_classify_rules"} <= set(answered)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "leave nothing to choose"),
        (["one"], "leaves nothing to choose"),
        (["a", " "], "is empty"),
        (["a", "b", "a "], "repeated labels: a"),
        (["a", 3], "must be strings"),
        ("positive", "one string"),
    ],
)
def test_labels_that_make_no_choice_are_refused(tiny_llama: Model, labels, message) -> None:
    with pytest.raises(LabelError, match=message):
        frame_of(pd).llm.classify("review", labels, model=tiny_llama)


@pytest.mark.parametrize(
    "examples",
    [
        [("warm soup", "good"), ("cold soup", "bad")],
        pd.DataFrame({"text": ["warm soup", "cold soup"], "label": ["good", "bad"]}),
        pl.DataFrame({"text": ["warm soup", "cold soup"], "label": ["good", "bad"]}),
    ],
    ids=["pairs", "pandas", "polars"],
)
def test_examples_are_shown_as_given(tiny_llama: Model, examples) -> None:
    preview = frame_of(pd).llm.preview(
        "classify", "review", labels=["good", "bad"], examples=examples, model=tiny_llama
    )
    assert "Text: warm soup\nLabel: good\n\nText: cold soup\nLabel: bad\n\nText: The" in str(
        preview
    )


@pytest.mark.parametrize("examples", [[("x", "splendid")], [("x",)], [(1, "positive")]])
def test_examples_that_do_not_fit_are_refused(tiny_llama: Model, examples) -> None:
    with pytest.raises(LabelError, match="example"):
        frame_of(pd).llm.sentiment("review", model=tiny_llama, examples=examples)


def test_the_preview_is_the_prompt_that_is_run(tiny_llama: Model, forwards) -> None:
    frame = frame_of(pd)
    preview = frame.llm.preview("sentiment", "review", row="a", model=tiny_llama)
    assert str(preview).endswith(f"Review: {REVIEWS[6]}\nSentiment:")
    assert ">Is this positive or negative? &lt;|im_end|&gt;" in preview._repr_html_()
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in preview._repr_html_()
    assert forwards == []


def test_prompt_takes_columns_of_any_type_and_literal_braces(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"thing": ["soup {hot}", None], "price": [3.5, None]})
    template = "A {thing} for {price}? Answer {{yes}} or {{no}}."
    preview = frame.llm.preview("prompt", template, model=tiny_llama)
    assert "A soup {hot} for 3.5? Answer {yes} or {no}." in str(preview)
    answered = frame.llm.prompt(template, into="verdict", model=tiny_llama, max_new_tokens=4)
    assert isinstance(answered["verdict"].iloc[0], str)
    assert pd.isna(answered["verdict"].iloc[1])
    assert list(answered.columns[2:]) == ["verdict", "verdict_error", "verdict_run"]


@pytest.mark.parametrize("template", ["no column", "{", "{review!r}", "{n:03d}", "{}"])
def test_prompts_that_cannot_be_read_are_refused(tiny_llama: Model, template) -> None:
    with pytest.raises(FrameError):
        frame_of(pd).llm.prompt(template, into="x", model=tiny_llama)


def test_summaries_are_texts_and_kept(tiny_llama: Model, forwards) -> None:
    answered = frame_of(pd).llm.summarize("review", model=tiny_llama, max_words=5)
    count = len(forwards)
    texts = answered["review_summarize"]
    assert texts.notna().sum() + answered["review_summarize_error"].notna().sum() == 5
    again = frame_of(pd).llm.summarize("review", model=tiny_llama, max_words=5)
    assert len(forwards) == count
    pd.testing.assert_frame_equal(answered, again)
    with pytest.raises(FrameError, match="max_words=0 is no whole number"):
        frame_of(pd).llm.summarize("review", model=tiny_llama, max_words=0)


def test_a_base_model_is_given_examples_and_stops_at_the_line(tiny_llama: Model) -> None:
    tiny_llama.tokenizer.chat_template = None
    preview = frame_of(pd).llm.preview("summarize", "review", model=tiny_llama)
    assert str(preview).count("\nSummary: ") >= 1 and str(preview).endswith("\nSummary:")
    answered = frame_of(pd).llm.summarize("review", model=tiny_llama, max_words=5)
    assert not any("\n" in text for text in answered["review_summarize"].dropna())


def test_a_failing_row_has_its_error_and_stops_nothing(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = LabelScorer.score

    def poisoned(self: LabelScorer, prompts):
        if any("brothers" in p.text for p in prompts):
            raise RuntimeError("poisoned <row>")
        return score(self, prompts)

    clean = frame_of(pd).llm.sentiment("review", model=tiny_llama, ledger=False)
    monkeypatch.setattr(LabelScorer, "score", poisoned)
    with pytest.warns(UserWarning, match=r"1 of 7 rows have no answer \(index 'd'\).*poisoned"):
        answered = frame_of(pd).llm.sentiment("review", model=tiny_llama)
    assert answered["review_sentiment_error"].notna().tolist() == [i == 3 for i in range(7)]
    others = [0, 1, 2, 4, 5, 6]
    assert answered["review_sentiment"].iloc[others].equals(clean["review_sentiment"].iloc[others])
    assert "&lt;row&gt;" in answered.llm.report()._repr_html_()
    monkeypatch.undo()
    mended = frame_of(pd).llm.sentiment("review", model=tiny_llama)
    assert mended["review_sentiment_error"].isna().all()


def test_texts_beyond_the_context_say_which_rows_and_are_cut_only_when_asked(
    tiny_llama: Model,
) -> None:
    frame = pd.DataFrame({"review": ["kind staff", "word " * 3000, "cold soup"]})
    with pytest.warns(UserWarning, match=r"index 1\).*truncate=True"):
        answered = frame.llm.sentiment("review", model=tiny_llama)
    assert answered["review_sentiment"].isna().tolist() == [False, True, False]
    cut = frame.llm.sentiment("review", model=tiny_llama, truncate=True)
    assert cut["review_sentiment"].notna().all()


@pytest.mark.parametrize("module", [pd, pl])
def test_a_frame_without_rows_gets_the_columns(module, tiny_llama: Model) -> None:
    frame = module.DataFrame({"review": []})
    answered = frame.llm.sentiment("review", model=tiny_llama)
    assert "review_sentiment_score" in answered.columns and len(answered) == 0


def test_columns_can_be_named_and_trimmed(tiny_llama: Model) -> None:
    answered = frame_of(pd).llm.sentiment("review", model=tiny_llama, into="mood", keep=("value",))
    assert list(answered.columns) == ["review", "n", "mood"]
    with pytest.raises(FrameError, match="keep='answer'"):
        frame_of(pd).llm.sentiment("review", model=tiny_llama, keep=("answer",))


def test_a_column_in_the_way_is_said_before_anything_is_computed(
    tiny_llama: Model, forwards
) -> None:
    with pytest.raises(ColumnError, match="into="):
        frame_of(pd).llm.sentiment("review", model=tiny_llama, into="n")
    assert forwards == []


def test_an_instruction_longer_than_the_context_is_said(tiny_llama: Model, forwards) -> None:
    with pytest.raises(TextTooLongError, match="instruction and examples alone"):
        frame_of(pd).llm.sentiment("review", model=tiny_llama, instruction="word " * 3000)
    assert forwards == []


def test_labels_that_the_tokenizer_cannot_tell_apart(tiny_llama: Model) -> None:
    from tokenizers.normalizers import Lowercase

    tiny_llama.tokenizer.backend_tokenizer.normalizer = Lowercase()
    with pytest.raises(LabelError, match="same tokens"):
        frame_of(pd).llm.classify("review", ["Good", "good", "bad"], model=tiny_llama)


@pytest.mark.parametrize("verb", ["sentiment", "summarize"])
def test_a_model_of_another_kind_is_refused(verb, tiny_encoder: Model) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{verb} asks a causal language model"):
        getattr(frame_of(pd).llm, verb)("review", model=tiny_encoder)


def test_an_unknown_verb_is_refused(tiny_llama: Model) -> None:
    with pytest.raises(FrameError, match="verb='transliterate' is none of"):
        frame_of(pd).llm.preview("transliterate", "review", model=tiny_llama)

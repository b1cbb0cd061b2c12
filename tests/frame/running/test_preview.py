"""Previews and estimates of the verbs of several steps, or of none that asks a model."""

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError, LabelError, ModelError
from nbllm.frame.retrieval.words import terms
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
from nbllm.frame.running.preview import StepsPreview
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS

SOURCES = ["Orders <b>can</b> be cancelled within an hour.", "We open at nine."]
INTENTS = ["order", "refund"]


def frame_of(module=pd):
    return module.DataFrame({"text": REVIEWS})


def step(preview: StepsPreview, title: str) -> str:
    [found] = [step.text for step in preview.steps if step.title.startswith(title)]
    return found


# -- reply -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_a_reply_is_previewed_step_by_step(module, tiny_llama: Model) -> None:
    frame = module.DataFrame({"m": ["Can orders be cancelled?", "xyz"]})
    asked = {"sources": SOURCES, "intents": INTENTS, "model": tiny_llama}
    shown = frame.llm.preview("reply", "m", **asked)
    assert [step.title.split(":")[0].split(",")[0] for step in shown.steps] == [
        "intent", "sentiment", "urgency", "sources", "draft"
    ]  # fmt: skip
    intent = frame.llm.preview(
        "classify", "m", labels=INTENTS, model=tiny_llama
    )  # the same question
    assert step(shown, "intent") == str(intent)
    assert step(shown, "sources") == f"0: {SOURCES[0]}"
    assert SOURCES[0] in step(shown, "draft") and "Can orders be cancelled?" in step(shown, "draft")
    html = shown._repr_html_()
    assert "<b>can</b>" not in html and "&lt;b&gt;can&lt;/b&gt;" in html
    assert ">Can orders be cancelled?</mark>" in html and "tokens" in html
    assert "-- draft" in str(shown) and "tokens" in repr(shown)
    nothing = frame.llm.preview("reply", "m", row=1, **asked)
    assert step(nothing, "sources") == "none matches" and "a person is due" in str(nothing)


def test_the_draft_that_is_shown_is_the_one_that_is_asked(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"m": ["Can orders be cancelled?"]})
    asked = {"intents": INTENTS, "model": tiny_llama, "max_new_tokens": 4}
    shown = frame.llm.preview("reply", "m", sources=SOURCES, **asked)
    answered = frame.llm.reply("m", SOURCES, **asked)
    assert answered["m_reply"].notna().all()
    why = answered.llm.explain(0, output="m_reply", model=tiny_llama)
    assert why.prompt.text.startswith(step(shown, "draft"))


def test_an_estimate_of_a_reply_adds_up(tiny_llama: Model, tiny_encoder: Model) -> None:
    frame = pd.DataFrame({"m": ["Can orders be cancelled?", "When do you open?", None]})
    asked = {"sources": SOURCES, "intents": INTENTS, "model": tiny_llama, "max_new_tokens": 12}
    found = frame.llm.estimate("reply", "m", **asked)
    assert isinstance(found, StepsEstimate)
    assert list(found.steps) == ["intent", "sentiment", "urgency", "draft"]
    assert found.rows == 3 and found.steps["intent"].texts == 2
    assert found.steps["draft"].answer_tokens == 24
    assert found.seconds == pytest.approx(sum(s.seconds for s in found.steps.values()))
    assert "reply, estimated" in str(found) and "reply, estimated<" in found._repr_html_()
    held = frame.llm.estimate("reply", "m", encoder=tiny_encoder, **asked)
    assert held.steps["sources"].texts == len(SOURCES) and held.rows == 3


# -- search and recommend --------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_a_search_is_previewed(module, tiny_encoder: Model) -> None:
    frame = frame_of(module)
    shown = frame.llm.preview("search", "text", query=["warm soup", "film"], model=tiny_encoder)
    words = step(shown, "by words: what counts of the row")
    assert words == ", ".join(dict.fromkeys(terms(REVIEWS[0])))
    assert step(shown, "by words: what counts of 'film'") == "film"
    row = frame.llm.preview("embed", "text", model=tiny_encoder)
    assert step(shown, "by meaning: the row") == str(row)
    assert "1 / (60 + rank)" in step(shown, "ranking") and "2 queries" in step(shown, "ranking")
    alone = frame.llm.preview("search", "text", query="warm", how="bm25", k=3)
    assert "No model is run" in step(alone, "ranking") and len(alone.steps) == 3
    assert "cosine" in str(frame.llm.preview("search", "text", query="a", how="dense",
                                             model=tiny_encoder))  # fmt: skip


def test_a_recommendation_is_previewed(tiny_encoder: Model) -> None:
    frame = pd.DataFrame({"text": REVIEWS}, index=list("abcdefg"))
    shown = frame.llm.preview("recommend", "text", history=["a", "d"], k=4, model=tiny_encoder)
    assert "the nearest of 'a', 'd'" in str(shown) and "first 4 items" in str(shown)
    likes = pd.DataFrame({"u": [1, 2, 2], "i": ["a", "a", "b"]})
    shown = frame.llm.preview("recommend", "text", row="b", history=likes, model=tiny_encoder)
    assert "2 users liked (3 items" in str(shown)


@pytest.mark.parametrize("module", [pd, pl])
def test_estimates_of_search_and_recommend(module, tiny_encoder: Model) -> None:
    frame = frame_of(module)
    dense = frame.llm.estimate("search", "text", query="a", how="dense", model=tiny_encoder)
    embedded = frame.llm.estimate("embed", "text", model=tiny_encoder)
    assert isinstance(dense, RunEstimate) and dense.verb == "search"
    assert (dense.tokens, dense.batches, dense.blank) == (embedded.tokens, embedded.batches, 2)
    both = frame.llm.estimate("search", "text", query="a", model=tiny_encoder)
    assert list(both.steps) == ["by words", "by meaning"]
    words = frame.llm.estimate("search", "text", query="a", how="bm25")
    assert (words.texts, words.tokens, words.weights) == (4, 0, 0) and words.seconds > 0
    assert "no model is asked" in str(words)
    history = [0]
    liked = frame.llm.estimate("recommend", "text", history=history, model=tiny_encoder)
    assert liked.verb == "recommend" and liked.tokens == embedded.tokens
    frame.llm.recommend("text", history, model=tiny_encoder)
    again = frame.llm.estimate("search", "text", query="a", how="dense", model=tiny_encoder)
    assert again.known == 4 and again.tokens == 0


# -- mask ------------------------------------------------------------------------------------


def test_mask_is_previewed_and_estimated() -> None:
    pytest.importorskip("presidio_analyzer")
    frame = pd.DataFrame({"text": ["Write to <ann@example.org> at 10.", "Nothing.", None]})
    shown = frame.llm.preview("mask", "text", entities=["EMAIL_ADDRESS", "IBAN_CODE"])
    assert "IBAN_CODE: IbanInLowerCase, IbanRecognizer" in step(shown, "entities")
    assert "EMAIL_ADDRESS: EmailRecognizer" in step(shown, "entities")
    assert ">ann@example.org</mark>&gt;" in shown._repr_html_()
    assert step(shown, "masked") == frame.llm.mask("text")["text_mask"].iloc[0]
    assert "PHONE_NUMBER" in step(shown, "what stays as it is")
    found = frame.llm.estimate("mask", "text")
    assert (found.rows, found.blank, found.texts, found.tokens) == (3, 1, 2, 0)
    assert "no model is asked" in str(found)


def test_what_a_verb_refuses_its_preview_refuses(tiny_llama: Model, tiny_encoder: Model) -> None:
    frame = frame_of()
    refused = [
        ("search", {"query": " "}, FrameError, "query=' ' says nothing"),
        ("search", {"query": "a", "how": "best"}, FrameError, "how='best'"),
        ("recommend", {"history": [99]}, FrameError, "no item is labelled 99"),
        ("reply", {"sources": [], "intents": INTENTS}, FrameError, "sources has no text"),
        ("reply", {"sources": SOURCES, "intents": ["a"]}, LabelError, "two or more"),
        ("mask", {"entities": ["SHOE"]}, FrameError, "no entity 'SHOE'"),
    ]
    for verb, options, kind, message in refused:
        model = {"reply": tiny_llama, "mask": None}.get(verb, tiny_encoder)
        for ask in (frame.llm.preview, frame.llm.estimate):
            with pytest.raises(kind, match=message):
                ask(verb, "text", model=model, **options)
    with pytest.raises(ColumnError, match="Did you mean 'text'"):
        frame.llm.preview("search", "texts", query="a", how="bm25")
    with pytest.raises(FrameError, match="has no text"):
        frame.llm.preview("mask", "text", row=2)
    with pytest.raises(ModelError):
        frame.llm.preview("search", "text", query="a", model=tiny_llama)

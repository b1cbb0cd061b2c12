"""Summaries of what does not fit the context, of groups, and by encoder-decoders."""

import json
import re

import pandas as pd
import polars as pl
import pytest

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate
from nbllm.engine.structured.prose import count_words
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.running.pieces import _Cutter, _pieces
from nbllm.models.model import Model
from tests.asking import summarize
from tests.conftest import tiny_model
from tests.frame.verbs.test_translate import t5  # noqa: F401

CONTEXT = 256
SENTENCES = [f"The soup number {n} was warm, and the staff were kind." for n in range(60)]
LONG = "\n\n".join(" ".join(SENTENCES[n : n + 4]) for n in range(0, 60, 4))


@pytest.fixture
def short_sighted(tiny_llama: Model) -> Model:
    tiny_llama.context_length = CONTEXT
    return tiny_llama


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model is given; it answers with the numbers in them."""
    texts: list[str] = []

    def answers(self: TextGenerator, prompts):
        own = [p.text.split("words.\n\n")[-1].split("<|im_end|>")[0] for p in prompts]
        assert all(len(p.ids) <= CONTEXT for p in prompts)
        texts.extend(own)
        return ["n " + " ".join(re.findall(r"\d+", text)[:3]) for text in own]

    monkeypatch.setattr(TextGenerator, "__call__", answers)
    return texts


@pytest.mark.parametrize("module", [pd, pl])
def test_a_long_text_is_summarized_in_pieces(module, short_sighted: Model, asked) -> None:
    frame = module.DataFrame({"text": ["Short and kind 7.", LONG, None], "n": [1, 2, 3]})
    answered = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert list(answered.columns) == ["text", "n"] + [
        f"text_summarize{end}" for end in ("", "_error", "_run")
    ]
    assert list(answered["text"])[:2] == list(frame["text"])[:2] and type(answered) is type(frame)
    values = answered["text_summarize"].to_list()
    assert values[0] == "n 7" and pd.isna(values[2])
    # Every sentence was read once, in order, and what was read last are summaries.
    pieces = [text for text in asked if "The soup" in text]
    numbers = sorted({int(n) for text in pieces for n in re.findall(r"number (\d+)", text)})
    assert numbers == list(range(60))
    assert all(re.search(r"kind\.$", piece) for piece in pieces)
    assert values[1] == "n 0 1 2"
    assert sum(text.startswith("n 0 1 2\nn ") for text in asked) == 1
    assert answered.llm.report().computed == 2


def test_nothing_is_asked_twice(short_sighted: Model, asked) -> None:
    frame = pd.DataFrame({"text": [LONG]})
    first = frame.llm.summarize("text", model=short_sighted, max_words=8)
    count = len(asked)
    again = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert len(asked) == count
    pd.testing.assert_frame_equal(first, again)


def test_what_a_crash_left_is_not_asked_again(short_sighted: Model, asked, monkeypatch) -> None:
    frame = pd.DataFrame({"text": [LONG]})
    answers, calls = TextGenerator.__call__, []

    def interrupted(self, prompts):
        calls.append(len(prompts))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return answers(self, prompts)

    from nbllm.engine.batching import TokenBudget

    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(600))
    monkeypatch.setattr(TextGenerator, "__call__", interrupted)
    with pytest.warns(UserWarning, match="stopped while long texts"):
        left = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert left["text_summarize"].isna().all() and len(asked) > 0
    done = set(asked)
    asked.clear()
    monkeypatch.setattr(TextGenerator, "__call__", answers)
    whole = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert whole["text_summarize"].notna().all() and done.isdisjoint(asked)


def test_a_piece_that_fails_fails_its_text_alone(short_sighted: Model, asked, monkeypatch) -> None:
    answers = TextGenerator.__call__

    def poisoned(self, prompts):
        if any("number 30 " in p.text for p in prompts):
            raise RuntimeError("poisoned")
        return answers(self, prompts)

    monkeypatch.setattr(TextGenerator, "__call__", poisoned)
    other = LONG.replace("number 30 ", "number 99 ")
    frame = pd.DataFrame({"text": [LONG, other]}, index=["bad", "good"])
    with pytest.warns(UserWarning, match=r"1 of 2 rows .* \(index 'bad'\).*poisoned"):
        answered = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert answered["text_summarize"].notna().tolist() == [False, True]
    assert "poisoned" in answered["text_summarize_error"]["bad"]
    assert pd.isna(answered["text_summarize_error"]["good"])
    assert list(answered["text"]) == [LONG, other]


def test_summaries_that_do_not_shorten_are_an_error(short_sighted: Model, monkeypatch) -> None:
    monkeypatch.setattr(
        TextGenerator, "__call__", lambda self, prompts: [p.text * 2 for p in prompts]
    )
    with pytest.warns(UserWarning, match="no shorter"):
        answered = pd.DataFrame({"text": [LONG]}).llm.summarize("text", model=short_sighted)
    assert "smaller max_words" in answered["text_summarize_error"][0]


def test_truncate_cuts_instead(short_sighted: Model, asked) -> None:
    frame = pd.DataFrame({"text": [LONG]})
    frame.llm.summarize("text", model=short_sighted, truncate=True, max_words=8)
    assert len(asked) == 1 and LONG.startswith(asked[0])


@pytest.mark.parametrize("module", [pd, pl])
def test_a_group_has_one_summary(module, short_sighted: Model, asked) -> None:
    frame = module.DataFrame(
        {
            "product": ["kettle", "lamp", None, "kettle", "lamp", "mug"],
            "review": ["Fast 1.", "Dim 2.", "Lost 3.", "Loud 4.", LONG, None],
        }
    )
    answered = frame.llm.summarize("review", by="product", model=short_sighted, max_words=8)
    assert type(answered) is type(frame)
    assert list(answered["product"]) == ["kettle", "lamp", "mug"]
    assert list(answered["review"])[:2] == ["Fast 1.\n\nLoud 4.", f"Dim 2.\n\n{LONG}"]
    assert list(answered["review_count"]) == [2, 2, 0]
    summaries = answered["review_summarize"].to_list()
    assert summaries[0] == "n 1 4" and summaries[1].startswith("n 2 ")
    assert pd.isna(summaries[2])


def test_a_group_needs_its_columns(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"product": ["a"], "review": [3]})
    with pytest.raises(ColumnError, match="'produkt'"):
        frame.astype({"review": str}).llm.summarize("review", by="produkt", model=tiny_llama)
    with pytest.raises(ColumnError, match="not text"):
        frame.llm.summarize("review", by="product", model=tiny_llama)
    counted = frame.astype({"review": str}).assign(review_count=1)
    with pytest.raises(ColumnError, match="the number of texts"):
        counted.llm.summarize("review", by=["product", "review_count"], model=tiny_llama)


@pytest.mark.parametrize(
    "text", [LONG, "word " * 700, "x" * 3000, "房间很干净。汤很热。" * 80, "a\n" * 500]
)
def test_pieces_are_the_whole_text_and_each_fits(tiny_llama: Model, text: str) -> None:
    tiny_llama.context_length = CONTEXT
    task = summarize(tiny_llama, max_words=8)
    template = CompiledTemplate(task.template, tiny_llama.tokenizer)
    cutter = _Cutter(template, CONTEXT - task.max_new_tokens)
    assert not cutter.fits(text)
    pieces = cutter.cut(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    sizes = [cutter.tokens(piece) for piece in pieces]
    assert max(sizes) <= cutter.room
    assert min(sizes) >= cutter.room // 3


def test_cuts_fall_on_the_best_border() -> None:
    text = "One two. Three\n\nfour five six. Seven"
    spans = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
    assert _pieces(text, spans, 5) == ["One two. Three", "four five six. Seven"]
    assert _pieces("One two. Three four", [(0, 3), (4, 8), (9, 14), (15, 19)], 3) == [
        "One two.", "Three four"
    ]  # fmt: skip


def test_encoder_decoders_summarize_as_they_were_trained(t5: Model) -> None:  # noqa: F811
    frame = pd.DataFrame({"text": ["The soup was warm."]})
    assert str(frame.llm.preview("summarize", "text", model=t5)) == (
        "summarize: The soup was warm.</s>"
    )
    bart = tiny_model("seq2seq")
    assert str(frame.llm.preview("summarize", "text", model=bart)) == "The soup was warm."
    answered = frame.llm.summarize("text", model=bart, max_words=5)
    assert answered["text_summarize"].notna().all()
    with pytest.raises(FrameError, match="takes no examples"):
        frame.llm.summarize("text", model=bart, examples=[("a", "b")])


def test_a_style_is_asked_for_and_none_leaves_the_prompt_as_it_is(
    tiny_llama: Model,
) -> None:
    frame = pd.DataFrame({"text": ["A long story."]})
    plain = frame.llm.preview("summarize", "text", model=tiny_llama).text
    styled = frame.llm.preview("summarize", "text", model=tiny_llama, style=" for a child ").text
    assert "Summarize the text in one or two sentences, at most 40 words." in plain
    assert styled == plain.replace("the text in", "the text for a child in")
    for refused in ({"style": " "}, {"style": "as a poem", "instruction": "Sum up."}):
        with pytest.raises(FrameError, match="style"):
            frame.llm.summarize("text", model=tiny_llama, **refused)


def test_half_a_surrogate_beside_a_long_text_fails_its_row_alone(
    short_sighted: Model, asked
) -> None:
    cells = [LONG, "half \ud800", 3, None, "Fast 1."]
    frame = pd.DataFrame({"text": pd.Series(cells, dtype=object)})
    with pytest.warns(UserWarning, match="2 of 5 rows have no answer"):
        answered = frame.llm.summarize("text", model=short_sighted, max_words=8)
    assert answered["text"].tolist() == cells
    assert answered["text_summarize"].notna().tolist() == [True, False, False, False, True]
    errors = answered["text_summarize_error"]
    assert "tokenizer cannot read" in errors[1] and "type int" in errors[2]
    frame["group"] = pd.Series(["a", "b", None, "b", "\udfff"], dtype=object)
    with pytest.raises(ColumnError, match="type int"):
        frame.llm.summarize("text", by="group", model=short_sighted)
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        grouped = frame.drop(2).llm.summarize("text", by="group", model=short_sighted, max_words=8)
    assert grouped["text_summarize"].notna().tolist() == [True, False, True]


def test_names_are_those_of_the_text_unless_the_call_says_otherwise(tiny_llama: Model) -> None:
    grounded, free = summarize(tiny_llama), summarize(tiny_llama, grounded=False)
    assert grounded.parameters()["prose"] == {"max_words": 40, "grounded": True}
    assert free.parameters() != grounded.parameters() and free.template == grounded.template


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("options", [{}, {"by": "group"}], ids=["rows", "groups"])
def test_every_summary_is_a_sentence_within_its_words(kind, options) -> None:
    frame = pd.DataFrame({"text": SENTENCES[:6], "group": ["a", "b", "a", "b", "c", "c"]})
    answered = frame.llm.summarize("text", model=tiny_model(kind), max_words=5, **options)
    for text, summary in zip(answered["text"], answered["text_summarize"], strict=True):
        assert re.search(r"[.!?…。！？][\"'”’)\]」』）]*$", summary) and count_words(summary) <= 5
        known = re.findall(r"[^\W_]+", text.lower())
        assert {n.lower() for n in re.findall(r"\b[A-Z][A-Za-z]+|[0-9]+", summary)} <= {*known}


@pytest.mark.parametrize("module", [pd, pl])
@pytest.mark.parametrize("by", [None, "group"])
def test_evidence_is_the_nearest_sentence_of_the_text(module, by, tiny_llama: Model) -> None:
    frame = module.DataFrame({"text": [LONG[:300], None, LONG[300:500]], "group": ["a", "b", "c"]})
    answered = frame.llm.summarize("text", max_words=5, by=by, evidence=True, model=tiny_llama)
    assert "text_summarize_evidence" in answered.columns
    rows = zip(
        *(answered[name] for name in ("text", "text_summarize", "text_summarize_evidence")),
        strict=True,
    )
    for text, summary, evidence in rows:
        if not isinstance(text, str):
            assert not isinstance(evidence, str)
            continue
        for found in json.loads(evidence):
            assert found["sentence"] in summary
            start, end = found["start"], found["end"]
            assert found["evidence"] == (None if start is None else text[start:end])


def test_evidence_of_an_earlier_call_goes_and_a_column_of_the_users_stays(
    tiny_llama: Model,
) -> None:
    frame = pd.DataFrame({"text": SENTENCES[:2]})
    options = {"max_words": 5, "model": tiny_llama}
    told = frame.llm.summarize("text", evidence=True, **options)
    again = told.llm.summarize("text", **options)
    assert "text_summarize_evidence" not in again.columns
    assert again.llm.report().known == 2
    own = frame.assign(text_summarize_evidence="mine")
    assert (own.llm.summarize("text", **options)["text_summarize_evidence"] == "mine").all()
    with pytest.raises(ColumnError, match="text_summarize_evidence"):
        own.llm.summarize("text", evidence=True, **options)
    scores = frame.llm.summarize("text", evidence=True, keep=("error",), **options)
    assert list(scores.columns) == ["text", "text_summarize_error"]


def test_the_real_model_keeps_its_words_and_names(smollm2: Model) -> None:
    text = (
        "The library in Harlow will stay open until ten from next month. Anna Berg, who runs it, "
        "said that 340 students had asked for longer hours. The council pays for a team of three."
    )
    frame = pd.DataFrame({"text": [text]})
    [summary] = frame.llm.summarize("text", model=smollm2, max_words=15)["text_summarize"]
    assert summary.endswith(".") and 5 <= count_words(summary) <= 16
    known = {*re.findall(r"\w+", text.lower())}
    assert {n.lower() for n in re.findall(r"\b[A-Z]\w+|\d+", summary)} <= known

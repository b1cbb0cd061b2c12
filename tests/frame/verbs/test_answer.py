"""Answers from a text: what is asked, where the answer stands, and when there is none."""

from math import exp

import pandas as pd
import polars as pl
import pytest
import torch

from nbllm.engine.generation import TextGenerator
from nbllm.errors import ArgumentError, FrameError, LabelError, UnsupportedModelError
from nbllm.frame.tasks.span import locate
from nbllm.models.model import Model

TEXTS = [
    "The ferry leaves Hall at nine. Mr Okafor sails it.",
    "房间很干净。服务员在2019年来到北京。",
    None,
]
QUESTIONS = ["Who sails it?", "什么时候？", "What?"]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch):
    """Has the model write what is asked here, by what its prompt holds."""

    def write(said: dict[str, str]) -> None:
        def answers(self: TextGenerator, prompts):
            return [next(t for key, t in said.items() if key in p.text) for p in prompts]

        monkeypatch.setattr(TextGenerator, "__call__", answers)

    return write


def frame_of(module):
    return module.DataFrame({"q": QUESTIONS, "text": TEXTS})


@pytest.mark.parametrize("module", [pd, pl])
def test_an_answer_stands_where_its_offsets_say(module, tiny_llama: Model, writes) -> None:
    writes({"nine": "mr okafor", "北京": "2019年"})
    answered = frame_of(module).llm.answer("q", context_column="text", model=tiny_llama)
    added = ["q_answer" + end for end in ("", "_score", "_start", "_end", "_error", "_run")]
    assert list(answered.columns) == ["q", "text", *added]
    starts, ends = answered["q_answer_start"].to_list(), answered["q_answer_end"].to_list()
    assert TEXTS[0][int(starts[0]) : int(ends[0])] == "Mr Okafor"
    assert TEXTS[1][int(starts[1]) : int(ends[1])] == "2019年"
    assert answered["q_answer"].to_list()[:2] == ["mr okafor", "2019年"]
    assert all(pd.isna(answered[name].to_list()[2]) for name in added)


def test_what_the_model_makes_up_has_no_place(tiny_llama: Model, writes) -> None:
    writes({"nine": "Captain Nemo", "北京": "Unanswerable."})
    answered = frame_of(pd).llm.answer("q", context_column="text", model=tiny_llama)
    assert answered["q_answer"].iloc[0] == "Captain Nemo"
    assert pd.isna(answered["q_answer_start"].iloc[0])
    # Said to be unanswerable: a null, and no error.
    assert pd.isna(answered["q_answer"].iloc[1]) and pd.isna(answered["q_answer_error"].iloc[1])
    assert answered["q_answer_score"].notna().tolist() == [True, True, False]


def test_the_score_is_the_probability_of_not_refusing(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"q": QUESTIONS[:1], "text": TEXTS[:1]})
    asked = {"context_column": "text", "model": tiny_llama}
    score = frame.llm.answer("q", **asked)["q_answer_score"].iloc[0]
    prompt = frame.llm.preview("answer", "q", **asked).prompt
    refusal = tiny_llama.tokenizer(" unanswerable", add_special_tokens=False).input_ids
    ids = torch.tensor([[*prompt.ids, *refusal]])
    with torch.inference_mode():
        logp = tiny_llama.network(ids).logits[0].float().log_softmax(-1)
    log = sum(logp[len(prompt.ids) + n - 1, token].item() for n, token in enumerate(refusal))
    assert score == pytest.approx(1 - exp(log), abs=1e-5)


def test_another_threshold_asks_nothing_anew(tiny_llama: Model, forwards, monkeypatch) -> None:
    asked = {"context_column": "text", "model": tiny_llama, "max_new_tokens": 4}
    open_ = frame_of(pd).llm.answer("q", **asked)
    count = len(forwards)
    closed = frame_of(pd).llm.answer("q", threshold=1.0, **asked)
    assert len(forwards) == count
    assert open_["q_answer"].notna().sum() == 2
    below = open_["q_answer_score"] < 1
    assert closed["q_answer"].isna().iloc[:2].tolist() == below.iloc[:2].tolist()
    assert closed["q_answer_score"].equals(open_["q_answer_score"])


def test_one_question_for_all_rows(tiny_llama: Model) -> None:
    asked = {"question": "Who sails?", "model": tiny_llama}
    shown = str(frame_of(pd).llm.preview("answer", "text", **asked))
    assert shown.endswith(f"Text: {TEXTS[0]}\nQuestion: Who sails?\nAnswer:")
    assert shown.count("Answer: unanswerable") == 1
    answered = frame_of(pd).llm.answer("text", max_new_tokens=4, **asked)
    assert answered["text_answer_score"].notna().tolist() == [True, True, False]
    with pytest.raises(FrameError, match="leave context_column= out"):
        frame_of(pd).llm.answer("q", context_column="text", **asked)


def test_questions_without_a_text(tiny_llama: Model) -> None:
    shown = str(frame_of(pd).llm.preview("answer", "q", model=tiny_llama))
    assert "Answer the question in a few words.\n\nWho sails it?<|im_end|>" in shown
    answered = frame_of(pd).llm.answer("q", model=tiny_llama, max_new_tokens=4)
    assert list(answered.columns[2:]) == ["q_answer", "q_answer_error", "q_answer_run"]
    tiny_llama.tokenizer.chat_template = None
    shown = str(frame_of(pd).llm.preview("answer", "q", model=tiny_llama))
    assert "Answer: Paris\n\n" in shown and shown.endswith("Question: Who sails it?\nAnswer:")


def test_examples_take_the_place_of_the_built_in_ones(tiny_llama: Model) -> None:
    triple = [("Ann swims.", "Who swims?", "Ann")]
    asked = {"context_column": "text", "model": tiny_llama}
    shown = str(frame_of(pd).llm.preview("answer", "q", examples=triple, **asked))
    assert "Text: Ann swims.\nQuestion: Who swims?\nAnswer: Ann\n\nText: The ferry" in shown
    assert shown == str(
        frame_of(pd).llm.preview(
            "answer", "q", examples=pl.DataFrame(triple, orient="row"), **asked
        )
    )
    with pytest.raises(LabelError, match="three strings"):
        frame_of(pd).llm.answer("q", examples=[("Ann swims.", "Ann")], **asked)


def test_the_column_of_texts_is_also_taken_by_its_former_name(tiny_llama: Model) -> None:
    frame, named = frame_of(pd), {"context_column": "text", "model": tiny_llama}
    former = {"context": "text", "model": tiny_llama}
    renamed = r"^context= is now context_column=;"
    with pytest.warns(DeprecationWarning, match=renamed) as warned:
        answered = frame.llm.answer("q", max_new_tokens=2, **former)
    assert warned[0].filename == __file__
    pd.testing.assert_frame_equal(answered, frame.llm.answer("q", max_new_tokens=2, **named))
    with pytest.warns(DeprecationWarning, match=renamed) as warned:
        shown = frame.llm.preview("answer", "q", **former)
    assert str(shown) == str(frame.llm.preview("answer", "q", **named))
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=renamed):
        assert frame.llm.estimate("answer", "q", **former).texts == 2
    with pytest.raises(ArgumentError, match="Give context_column= alone"):
        frame.llm.answer("q", context="text", **named)
    with pytest.raises(FrameError, match="Pass context_column= alone"):
        frame.llm.preview("answer", "q", context="text", **named)


def test_what_cannot_be_asked_is_refused(tiny_llama: Model, tiny_encoder: Model) -> None:
    for options in ({"threshold": 2}, {"question": " "}):
        with pytest.raises(FrameError, match=r"threshold=2|question=' ' says nothing"):
            frame_of(pd).llm.answer("text", model=tiny_llama, **options)
    with pytest.raises(UnsupportedModelError, match="answer asks a causal"):
        frame_of(pd).llm.answer("q", context_column="text", model=tiny_encoder)


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("art", "The party sold art.", "art"),
        ("art", "The party.", None),
        ("Two  bakers", "the two\nbakers", "two\nbakers"),
        ("北京", "他在北京工作", "北京"),
        ("2019", "在2019年", "2019"),
        ("$4.50 (net)", "It is $4.50 (net).", "$4.50 (net)"),
        ("a.c", "abc", None),
        (" ", "abc", None),
    ],
)
def test_where_an_answer_stands(answer: str, text: str, found: str | None) -> None:
    place = locate(answer, text)
    assert (place and text[slice(*place)]) == found

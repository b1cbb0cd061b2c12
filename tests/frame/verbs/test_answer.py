"""Answers from a text: what is asked, where the answer stands, and when there is none."""

import pandas as pd
import polars as pl
import pytest
import torch

from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.generation import TextGenerator
from nbllm.errors import (
    ArgumentError,
    FrameError,
    LabelError,
    ModelError,
    UnsupportedModelError,
)
from nbllm.frame.running.provenance import find_record
from nbllm.frame.tasks.bound_span import locate
from nbllm.frame.tasks.support import CALIBRATION, Support, fit_presence
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
    answered = frame_of(module).llm.answer(
        "q", threshold=0, context_column="text", model=tiny_llama
    )
    added = ["q_answer" + end for end in ("", "_score", "_start", "_end", "_error", "_run")]
    assert list(answered.columns) == ["q", "text", *added]
    starts, ends = answered["q_answer_start"].to_list(), answered["q_answer_end"].to_list()
    assert TEXTS[0][int(starts[0]) : int(ends[0])] == "Mr Okafor"
    assert TEXTS[1][int(starts[1]) : int(ends[1])] == "2019年"
    assert answered["q_answer"].to_list()[:2] == ["mr okafor", "2019年"]
    assert all(pd.isna(answered[name].to_list()[2]) for name in added)


def test_what_the_model_makes_up_has_no_place(tiny_llama: Model, writes) -> None:
    writes({"nine": "Captain Nemo", "北京": "Unanswerable."})
    answered = frame_of(pd).llm.answer("q", threshold=0, context_column="text", model=tiny_llama)
    assert answered["q_answer"].iloc[0] == "Captain Nemo"
    assert pd.isna(answered["q_answer_start"].iloc[0])
    # Said to be unanswerable: a null, and no error.
    assert pd.isna(answered["q_answer"].iloc[1]) and pd.isna(answered["q_answer_error"].iloc[1])
    assert answered["q_answer_score"].notna().tolist() == [True, True, False]


def log_likelihoods(model: Model, head: str, tail: str) -> torch.Tensor:
    """Of each token of the tail, in one pass of the whole without a prefix or a batch."""
    ids = [model.tokenizer(part, add_special_tokens=False).input_ids for part in (head, tail)]
    with torch.inference_mode():
        logits = model.network(torch.tensor([[*ids[0], *ids[1]]])).logits[0].double()
    read = logits[len(ids[0]) - 1 : -1].log_softmax(-1)
    return read[range(len(ids[1])), ids[1]]


@pytest.mark.parametrize("fixed", [False, True])
def test_the_score_is_of_likelihoods(tiny_llama: Model, writes, fixed: bool) -> None:
    writes({"nine": "Mr Okafor"})
    frame, asked = frame_of(pd).head(1), {"model": tiny_llama, "threshold": 0}
    asked |= {"question": QUESTIONS[0]} if fixed else {"context_column": "text"}
    column = "text" if fixed else "q"
    score = frame.llm.answer(column, **asked)[f"{column}_answer_score"].iloc[0]
    prompt = frame.llm.preview("answer", column, **asked).text
    head, end = prompt.split(TEXTS[0])
    tail = f"{end} Mr Okafor\n"
    question = len(tiny_llama.tokenizer(end, add_special_tokens=False).input_ids)
    whole, blank, sentence = (
        log_likelihoods(tiny_llama, head.rstrip(" ") + " " + text, tail)
        for text in (TEXTS[0], "…", "Mr Okafor sails it.")
    )
    lift, sentence_lift = ((x - blank)[:question].mean().item() for x in (whole, sentence))
    support = Support(lift, sentence_lift, whole[question:].sum().item(), 0.0)
    fitted = fitted_offset(tiny_llama, frame, column, asked)
    assert score == pytest.approx(support.score(fitted), abs=1e-4)


def fitted_offset(model: Model, frame, column: str, asked) -> list[float]:
    answered = frame.llm.answer(column, **asked)
    return find_record(answered[f"{column}_answer_run"].iloc[0], answered)["offset"]


def test_the_fit_belongs_to_model_and_prompt(tiny_llama: Model, monkeypatch) -> None:
    fits = []

    def fit(with_answer, without):
        fits.append((list(with_answer), list(without)))
        return fit_presence(with_answer, without)

    monkeypatch.setattr("nbllm.frame.tasks.bound_span.fit_presence", fit)
    asked = {"context_column": "text", "model": tiny_llama, "max_new_tokens": 2}
    frame_of(pd).llm.answer("q", **asked)
    frame_of(pd).iloc[::-1].llm.answer("q", threshold=0.2, **asked)
    assert len(fits) == 1
    count = sum(len(questions) for _, questions in CALIBRATION)
    assert [len(part) for part in fits[0]] == [count, count]
    frame_of(pd).llm.answer("q", instruction="Say it in words of the text.", **asked)
    assert len(fits) == 2 and fits[0] != fits[1]


def test_a_text_that_does_not_make_its_question_likelier_has_no_answer(
    tiny_llama: Model, writes, monkeypatch
) -> None:
    writes({"nine": "Mr Okafor", "北京": "2019年"})
    lifts = {"Mr Okafor": 2.0, "2019年": 0.5}

    def supports(self, prompts, answers):
        return [Support(lifts[words], lifts[words], -3.0, 0.0) for words, *_ in answers]

    monkeypatch.setattr("nbllm.frame.tasks.bound_span.BoundSpanTask._supports", supports)
    monkeypatch.setattr("nbllm.frame.tasks.bound_span.BoundSpanTask._fit", lambda *_: [-1.0, 1.0])
    answered = frame_of(pd).llm.answer("q", context_column="text", model=tiny_llama)
    assert answered["q_answer"].notna().tolist() == [True, False, False]
    assert answered["q_answer_start"].notna().tolist() == [True, False, False]
    assert answered["q_answer_error"].isna().all()
    assert answered["q_answer_score"].iloc[0] > answered["q_answer_score"].iloc[1] > 0


def test_a_score_does_not_depend_on_the_other_rows(tiny_llama: Model) -> None:
    asked = {"context_column": "text", "threshold": 0, "model": tiny_llama, "ledger": False}
    frame = pd.concat([frame_of(pd), frame_of(pd).assign(q="Where?")], ignore_index=True)
    scores = frame.llm.answer("q", max_new_tokens=3, **asked)["q_answer_score"]
    for row in (0, 1, 3):
        alone = frame.iloc[[row]].llm.answer("q", max_new_tokens=3, **asked)
        assert alone["q_answer_score"].iloc[0] == pytest.approx(scores[row], abs=1e-6)


def test_a_score_that_is_no_number_is_the_rows_error(
    tiny_llama: Model, writes, monkeypatch
) -> None:
    writes({"nine": "Mr Okafor", "北京": "2019年"})
    read = CandidateScorer.score_tokens
    last = tuple(tiny_llama.tokenizer(TEXTS[0], add_special_tokens=False).input_ids[-8:])

    def broken(self, prompts, candidates):
        found = read(self, prompts, candidates)
        for prompt, [likelihoods, *_] in zip(prompts, found, strict=True):
            if prompt.ids[-8:] == last:
                likelihoods[-1] = float("nan")
        return found

    monkeypatch.setattr(CandidateScorer, "score_tokens", broken)
    asked = {"context_column": "text", "threshold": 0, "model": tiny_llama, "ledger": False}
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        answered = frame_of(pd).llm.answer("q", **asked)
    assert answered["q_answer_error"].iloc[0] == "the model's output is not a finite number"
    assert answered["q_answer"].iloc[1] == "2019年"


def test_a_fit_on_what_is_no_number_is_refused(tiny_llama: Model, writes, monkeypatch) -> None:
    writes({"nine": "Mr Okafor", "北京": "2019年"})
    read = CandidateScorer.score_tokens

    def broken(self, prompts, candidates):
        return [[row * float("nan") for row in rows] for rows in read(self, prompts, candidates)]

    monkeypatch.setattr(CandidateScorer, "score_tokens", broken)
    asked = {"context_column": "text", "model": tiny_llama, "ledger": False}
    with pytest.raises(ModelError, match="calibration reads fail: the model's output is not"):
        frame_of(pd).llm.answer("q", instruction="Be brief.", **asked)


def test_the_default_model_refuses_the_wrong_text(smollm2: Model) -> None:
    ferry = "The ferry Hedda leaves the port of Lund at nine and takes forty minutes to the island."
    soup = "For the soup, fry two onions in butter, add a litre of stock and simmer for an hour."
    frame = pd.DataFrame(
        {
            "q": ["When does the ferry Hedda leave?", "How long should the soup simmer?"] * 2,
            "text": [ferry, soup, soup, ferry],
        }
    )
    answered = frame.llm.answer("q", context_column="text", model=smollm2)
    assert answered["q_answer"].notna().tolist() == [True, True, False, False]
    assert answered["q_answer_score"].iloc[:2].min() > answered["q_answer_score"].iloc[2:].max()


def test_another_threshold_asks_nothing_anew(tiny_llama: Model, forwards, monkeypatch) -> None:
    asked = {"context_column": "text", "model": tiny_llama, "max_new_tokens": 4}
    open_ = frame_of(pd).llm.answer("q", threshold=0, **asked)
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

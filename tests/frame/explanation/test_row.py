"""Whatever answered a row, and wherever its frame has been, the row can be explained.

Or the reason why not is true.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ProvenanceError
from nbllm.frame.running import provenance
from nbllm.models.model import Model
from tests.conftest import tiny_model

TEXTS = ["The soup was warm.", "We waited an hour.", None, "A quiet film about two brothers."]
OTHERS = ["It was cold.", "Kind staff.", "A plate of dumplings.", "The trailer is better."]
# More than the tiny model's context below, so that it is summarized in pieces.
LONG = "\n\n".join(f"The soup number {n} was warm, and the staff were kind." for n in range(60))
CONTEXT = 256

Ask = Callable[[Any, Model, bool], Any]

VERBS: dict[str, tuple[str, str, Ask]] = {
    "sentiment": (
        "causal",
        "review_sentiment",
        lambda f, m, on: f.llm.sentiment("review", model=m, ledger=on),
    ),
    "sentiment by head": (
        "classifier",
        "review_sentiment",
        lambda f, m, on: f.llm.sentiment("review", model=m, ledger=on),
    ),
    "aspects": (
        "causal",
        "review_sentiment",
        lambda f, m, on: f.llm.sentiment("review", aspects=["food"], model=m, ledger=on),
    ),
    "classify": (
        "causal",
        "review_classify",
        lambda f, m, on: f.llm.classify("review", labels=["food", "film"], model=m, ledger=on),
    ),
    "classify by vectors": (
        "encoder",
        "review_classify",
        lambda f, m, on: f.llm.classify("review", labels=["food", "film"], model=m, ledger=on),
    ),
    "classify several": (
        "causal",
        "review_classify",
        lambda f, m, on: f.llm.classify(
            "review", labels=["a", "b"], multi=True, model=m, ledger=on
        ),
    ),
    "filter": (
        "causal",
        "review_filter",
        lambda f, m, on: f.llm.filter(
            "review", "is about food", model=m, ledger=on, keep=("value", "error", "run")
        ),
    ),
    "extract": (
        "causal",
        "review_extract",
        lambda f, m, on: f.llm.extract("review", {"n": int}, model=m, ledger=on),
    ),
    "summarize": (
        "causal",
        "review_summarize",
        lambda f, m, on: f.llm.summarize("review", max_words=4, model=m, ledger=on),
    ),
    "summarize in pairs": (
        "seq2seq",
        "review_summarize",
        lambda f, m, on: f.llm.summarize("review", max_words=4, model=m, ledger=on),
    ),
    "translate": (
        "causal",
        "review_translate",
        lambda f, m, on: f.llm.translate("review", model=m, ledger=on),
    ),
    "answer": (
        "causal",
        "review_answer",
        lambda f, m, on: f.llm.answer("review", question="Who?", threshold=0, model=m, ledger=on),
    ),
    "prompt": (
        "causal",
        "why",
        lambda f, m, on: f.llm.prompt(
            "Why {review} {number}", into="why", model=m, ledger=on, max_new_tokens=3
        ),
    ),
    "embed": (
        "encoder",
        "review_embed",
        lambda f, m, on: f.llm.embed("review", model=m, ledger=on),
    ),
    "similarity": (
        "encoder",
        "review_similarity",
        lambda f, m, on: f.llm.similarity("review", other="other", model=m, ledger=on),
    ),
    "search": (
        "encoder",
        "review_search",
        lambda f, m, on: f.llm.search("review", "soup", model=m, ledger=on),
    ),
    "recommend": (
        "encoder",
        "review_recommend",
        lambda f, m, on: f.llm.recommend("review", history=[f.index[0]], model=m, ledger=on),
    ),
    "reply": (
        "causal",
        "review_reply",
        lambda f, m, on: f.llm.reply(
            "review",
            sources=["The soup is warm, the film quiet, and nobody waited an hour."],
            intents=["praise", "complaint"],
            max_new_tokens=3,
            model=m,
            ledger=on,
        ),
    ),
}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: tiny_model(kind) for kind in ("causal", "classifier", "encoder", "seq2seq")}


@pytest.fixture(autouse=True)
def this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    another_process(monkeypatch)


@pytest.fixture(autouse=True)
def no_doubt() -> Iterator[None]:
    """What cannot be checked is warned of, and here everything can."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="explain:")
        yield


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_records", "_reports", "_unfiled"):
        monkeypatch.setattr(provenance, name, {})


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"review": TEXTS, "other": OTHERS, "number": [1, 2, 3, 4]}, index=list("abcd")
    )


def explained(frame: Any, output: str, model: Model) -> int:
    """How many rows could be explained: all that have a run."""
    asked = [
        label for label, run in zip(frame.index, frame[f"{output}_run"], strict=True) if run == run
    ]
    for label in asked:
        why = frame.llm.explain(label, output=output, model=model)
        text = why.prompt.text.lower().replace(" ", "")
        if pd.isna(frame.loc[label, "review"]):  # asked by its other column
            continue
        assert frame.loc[label, "review"].lower().replace(" ", "") in text
    return len(asked)


@pytest.mark.filterwarnings("ignore:filter")
@pytest.mark.parametrize("verb", VERBS)
def test_rows_of_runs_with_and_without_the_ledger(verb: str, models) -> None:
    kind, output, ask = VERBS[verb]
    model, frame = models[kind], rows()
    # The rows of the same question: some in the ledger, others not, in either order.
    filed = ask(frame.loc[["a", "c"]], model, True)
    unfiled = ask(frame.loc[["b", "d", "c"]], model, False)
    both = pd.concat([filed, unfiled]) if len(filed) and len(unfiled) else filed
    both = both[~both.index.duplicated()]
    found = explained(both, output, model)
    if verb not in ("filter", "recommend", "search"):  # which leave rows out
        assert found >= 2
    changed = both[both["number"] > 1].merge(
        pd.DataFrame({"number": [4, 2], "extra": ["x", "y"]}), on="number"
    )
    explained(changed, output, model)


@pytest.mark.parametrize("ledger", [True, False])
def test_a_text_that_was_summarized_in_pieces(
    ledger: bool, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_llama.context_length = CONTEXT
    frame = pd.DataFrame({"text": ["Short and kind.", LONG]})
    answered = frame.llm.summarize("text", model=tiny_llama, max_words=8, ledger=ledger)
    why = answered.llm.explain(1, model=tiny_llama)
    read = why.prompt.text
    assert "number 59" not in read and answered["text_summarize"][1] in read
    assert len(why.prompt.ids) <= CONTEXT
    assert "Short and kind." in answered.llm.explain(0, model=tiny_llama).prompt.text
    another_process(monkeypatch)
    if ledger:
        assert answered.llm.explain(1, model=tiny_llama).prompt.text == read
    else:
        with pytest.raises(ProvenanceError, match=r"summarized in pieces.*Ask it again"):
            answered.llm.explain(1, model=tiny_llama)


def test_what_no_record_can_say_is_said(models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["causal"]
    frame = rows().llm.sentiment("review", model=model, ledger=False)
    why = {"into": "why", "model": model, "max_new_tokens": 3}
    frame = frame.llm.prompt("Why {review}", ledger=False, **why)
    another_process(monkeypatch)
    # The ledger has other rows of the same questions, so that it knows them.
    more = rows().assign(review="Another text.").iloc[:1]
    more.llm.sentiment("review", model=model)
    more.llm.prompt("Why {review}", **why)
    with pytest.warns(UserWarning, match="none to the text that row 'b' has now"):
        frame.llm.explain("b", output="review_sentiment", model=model)
    with pytest.warns(UserWarning, match=r"explain: nothing on record says .* row 'b'"):
        frame.llm.explain("b", output="why", model=model)


@pytest.mark.parametrize("keep", [("value", "run"), ("value", "score", "run")])
def test_a_text_that_gets_another_answer_is_not_passed_off(models, keep) -> None:
    model = models["causal"]
    frame = rows().llm.sentiment("review", model=model, ledger=False, keep=keep)
    frame.loc["a", "review"] = "Something else."
    with pytest.raises(ProvenanceError, match=r"row 'a' gets 'negative' .* was changed since"):
        frame.llm.explain("a", model=model)


def test_nor_is_one_that_gets_the_same_answer_with_another_score(models) -> None:
    model = models["causal"]
    frame = rows().llm.sentiment("review", model=model, ledger=False)
    frame.loc["d", "review"] = "We stayed."
    frame["review_sentiment_score"] = 0.99
    with pytest.raises(ProvenanceError, match=r"its answer is 'positive' with 0\.99: .* changed"):
        frame.llm.explain("d", model=model)


def test_a_reply_that_was_not_written_says_why(models) -> None:
    model = models["causal"]
    answered = rows().llm.reply(
        "review", sources=["Nothing alike."], intents=["praise", "complaint"], model=model
    )
    with pytest.raises(ProvenanceError, match=r"no reply was written to this row: .*source"):
        answered.llm.explain("a", model=model)
    with pytest.raises(ProvenanceError, match="its text is missing"):
        answered.llm.explain("c", model=model)


@pytest.mark.parametrize("ledger", [True, False])
def test_a_changed_text_that_gets_the_same_label_is_warned_of(models, ledger: bool) -> None:
    model, output = models["causal"], "review_sentiment"
    changed = rows().assign(review=[text and f"{text} Really." for text in TEXTS])
    frame = changed.llm.sentiment("review", model=model, ledger=False)
    provenance._unfiled.clear()  # as if another process had asked that
    rows().llm.sentiment("review", model=model, ledger=ledger)
    with pytest.warns(UserWarning, match="none to the text that row 'a' has now"):
        frame.llm.explain("a", output=output, model=model)

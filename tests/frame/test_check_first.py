"""What is wrong with a call is said before a model is loaded for it, which may take a minute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import nbllm
import nbllm.models.loader
from nbllm.errors import ColumnError, FrameError, LabelError, NbllmError

Call = Callable[..., Any]

# Each verb on a column, with arguments that are right.
VERBS: dict[str, dict[str, Any]] = {
    "sentiment": {},
    "classify": {"labels": ["food", "film"]},
    "filter": {"predicate": "asks for a refund"},
    "summarize": {},
    "translate": {"to": "German"},
    "answer": {"question": "Who was hurt?"},
    "extract": {"schema": {"dish": str}},
    "prompt": {"into": "told"},
    "embed": {},
    "similarity": {"to": "soup"},
    "search": {"query": "soup"},
    "recommend": {"history": [0]},
    "reply": {"sources": ["Soup is at noon."], "intents": ["soup", "other"]},
    "verify": {"against": "other"},
}


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a model fails the test."""

    def load(*_: Any, **__: Any) -> Any:
        pytest.fail("a model was asked for")

    monkeypatch.setattr(nbllm.models.loader, "loaded", list)
    monkeypatch.setattr(nbllm.models.loader, "load", load)
    for name in ("verb.choose", "verb.choose_encoder", "models.loaded", "models.resolve"):
        monkeypatch.setattr(f"nbllm.frame.calls.{name}", load)
    monkeypatch.setattr("nbllm.frame.verbs.reply.choose_encoder", load)


@pytest.fixture(params=[pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def frame(request: pytest.FixtureRequest) -> Any:
    return request.param(
        {"review": ["A warm soup.", "Cold."], "stars": [5, 1], "other": ["Soup.", "A film."]}
    )


def call(frame: Any, verb: str, column: str, **options: Any) -> Any:
    subject = "{" + column + "}" if verb == "prompt" else column
    return getattr(frame.llm, verb)(subject, **{**VERBS[verb], **options})


@pytest.mark.parametrize("beside", [False, True], ids=["here", "beside"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_column_that_is_missing(frame: Any, verb: str, beside: bool) -> None:
    # Those that rank rows check in the thread, which is as far as they get.
    with pytest.raises(ColumnError, match=r"no column 'reviw'\. Did you mean 'review'"):
        found = call(frame, verb, "reviw", background=beside)
        found.result(10)


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"prompt"}))
def test_a_column_that_is_no_text(frame: Any, verb: str) -> None:
    with pytest.raises(ColumnError, match="not text"):
        call(frame, verb, "stars")


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_is_taken(frame: Any, verb: str) -> None:
    with pytest.raises(ColumnError, match="already has a column 'stars'"):
        call(frame, verb, "review", into="stars")


@pytest.mark.parametrize("verb", VERBS)
def test_a_part_that_is_none(frame: Any, verb: str) -> None:
    with pytest.raises(FrameError, match="keep="):
        call(frame, verb, "review", keep=["valeu"])


@pytest.mark.parametrize("way", ["preview", "estimate"])
@pytest.mark.parametrize("verb", VERBS)
def test_of_a_preview_and_an_estimate(frame: Any, verb: str, way: str) -> None:
    options = {name: value for name, value in VERBS[verb].items() if name != "into"}
    subject = "{reviw}" if verb == "prompt" else "reviw"
    with pytest.raises(ColumnError, match="no column 'reviw'"):
        getattr(frame.llm, way)(verb, subject, **options)


EXAMPLES = {"examples": [("only a text",)]}


@pytest.mark.parametrize(
    ("verb", "options", "error"),
    [
        ("sentiment", EXAMPLES, LabelError),
        ("sentiment", {"examples": [("a text", "no label")]}, LabelError),
        ("sentiment", {"aspects": ["food", "food"]}, LabelError),
        ("sentiment", {"aspects": ["food"], "neutral": True}, LabelError),
        ("classify", {"labels": ["one"]}, LabelError),
        ("classify", {"labels": ["a", " "]}, LabelError),
        ("classify", {"labels": ["a", "b"], **EXAMPLES}, LabelError),
        ("classify", {"labels": ["a", "b"], "examples": [("text", "c")]}, LabelError),
        ("classify", {"labels": {"a": "one", "b": ""}}, LabelError),
        ("classify", {"labels": ["score", "a"], "probabilities": True}, LabelError),
        ("filter", {"predicate": " "}, FrameError),
        ("filter", {"threshold": 2}, FrameError),
        ("filter", EXAMPLES, LabelError),
        ("summarize", {"max_words": 0}, FrameError),
        ("summarize", {"style": " "}, FrameError),
        ("summarize", {"by": "no_column"}, ColumnError),
        ("summarize", EXAMPLES, LabelError),
        ("translate", {"to": " "}, FrameError),
        ("translate", {"max_new_tokens": 0}, FrameError),
        ("translate", EXAMPLES, LabelError),
        ("answer", {"question": " "}, FrameError),
        ("answer", {"threshold": 2}, FrameError),
        ("answer", {"question": None, "context_column": "no_column"}, ColumnError),
        ("answer", EXAMPLES, LabelError),
        ("extract", {"schema": {}}, FrameError),
        ("extract", {"schema": 3}, FrameError),
        ("extract", {"examples": [("text", {"dish": 3})]}, FrameError),
        ("prompt", EXAMPLES, LabelError),
        ("similarity", {"to": " "}, FrameError),
        ("similarity", {"other": "other"}, FrameError),
        ("similarity", {"to": None, "other": "no_column"}, ColumnError),
        ("search", {"query": " "}, FrameError),
        ("search", {"k": 0}, FrameError),
        ("search", {"how": "well"}, FrameError),
        ("recommend", {"history": [7]}, FrameError),
        ("recommend", {"k": 0}, FrameError),
        ("reply", {"sources": []}, FrameError),
        ("reply", {"intents": ["one"]}, LabelError),
        ("reply", {"threshold": 2}, FrameError),
        ("reply", {"k": 0}, FrameError),
        ("reply", EXAMPLES, LabelError),
    ],
)
def test_an_argument_that_no_model_could_take(
    frame: Any, verb: str, options: dict[str, Any], error: type[NbllmError]
) -> None:
    with pytest.raises(error):
        call(frame, verb, "review", **options)


def test_a_template_without_a_column(frame: Any) -> None:
    for template in ("no column", "{review", "{}"):
        with pytest.raises(FrameError, match="the prompt"):
            frame.llm.prompt(template, into="told")


def test_of_a_comparison(frame: Any) -> None:
    for options, error in (
        ({"subject": "reviw"}, ColumnError),
        ({"verb": "classify", "labels": ["one"]}, LabelError),
        ({"verb": "classify", "labels": ["a", "b"], "truth": "other"}, LabelError),
    ):
        with pytest.raises(error):
            nbllm.compare("a", "b", frame, **{"verb": "sentiment", "subject": "review", **options})


def test_of_a_folder(tmp_path: Path) -> None:
    from nbllm.frame.calls.folder import answer_folder

    (tmp_path / "from").mkdir()
    pd.DataFrame({"review": ["A warm soup."]}).to_parquet(tmp_path / "from" / "a.parquet")
    for subject, options, error in (
        ("reviw", {}, ColumnError),
        ("review", {"into": "review"}, ColumnError),
        ("review", {"examples": EXAMPLES["examples"]}, LabelError),
    ):
        with pytest.raises(error):
            answer_folder(
                tmp_path / "from", tmp_path / "to", "sentiment", subject, model=None, **options
            )

"""A user's code, which `make lint` has mypy and pyright check and which nothing runs.

polars ships types; pandas has them as pandas-stubs, which its users may or may not have.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, assert_type

import polars as pl

import nbllm
from nbllm.accessor import FrameAccessor
from nbllm.attention import EncoderDecoderRecording
from nbllm.frame.comparison.result import Comparison
from nbllm.frame.evaluation.base import Evaluation
from nbllm.frame.running.background import Run
from nbllm.frame.running.estimate import RunEstimate, StepsEstimate
from nbllm.frame.running.preview import Preview, StepsPreview
from nbllm.frame.running.report import RunReport
from nbllm.models.estimate.result import MemoryEstimate
from nbllm.registration import SeriesAccessor
from nbllm.widgets.attention.view import AttentionView
from nbllm.widgets.explanation import Explanation
from nbllm.widgets.explorer.view import Explorer


def models() -> nbllm.Model:
    assert_type(nbllm.estimate("smollm2", quantize="nf4"), MemoryEstimate)
    model = assert_type(nbllm.load("smollm2", quantize="int8"), nbllm.Model)
    with nbllm.load() as other:
        assert_type(other, nbllm.Model)
    return model


def verbs(df: pl.DataFrame, model: nbllm.Model) -> None:
    llm = assert_type(nbllm.llm(df), FrameAccessor[pl.DataFrame])
    assert_type(llm.answer("report", question="Who?"), pl.DataFrame)
    assert_type(llm.classify("message", ["a", "b"], multi=True), pl.DataFrame)
    assert_type(llm.embed("text", model="minilm"), pl.DataFrame)
    assert_type(llm.extract("message", {"order": int}), pl.DataFrame)
    assert_type(llm.filter("message", "asks for a refund"), pl.DataFrame)
    assert_type(llm.mask("message"), pl.DataFrame)
    assert_type(llm.prompt("Say {text}", into="said"), pl.DataFrame)
    assert_type(llm.recommend("plot", history=[0]), pl.DataFrame)
    assert_type(llm.reply("message", ["Open at 9."], intents=["hours"]), pl.DataFrame)
    assert_type(llm.search("text", "how do I", k=5), pl.DataFrame)
    assert_type(llm.sentiment("review", model=model, keep=("value", "score")), pl.DataFrame)
    assert_type(llm.similarity("a", "b"), pl.DataFrame)
    assert_type(llm.summarize("article", max_words=25), pl.DataFrame)
    assert_type(llm.translate("review", to="German", engine="ray", workers=2), pl.DataFrame)


def wrong(df: pl.DataFrame) -> None:
    """Each of these is an error to both checkers, which refuse an `ignore` that hides none."""
    llm = nbllm.llm(df)
    llm.sentimant("review")  # type: ignore[attr-defined]
    llm.sentiment("review", neutal=True)  # type: ignore[call-overload]
    llm.summarize("article", max_words="25")  # type: ignore[call-overload]


def beside(df: pl.DataFrame, flag: bool) -> pl.DataFrame:
    run = assert_type(nbllm.llm(df).sentiment("review", background=True), Run[pl.DataFrame])
    assert_type(run.report, RunReport | None)
    either = nbllm.llm(df).sentiment("review", background=flag)
    assert_type(either, pl.DataFrame | Run[pl.DataFrame])
    return run.result(timeout=60)


def series(reviews: pl.Series) -> None:
    llm = assert_type(nbllm.llm(reviews), SeriesAccessor[pl.DataFrame])
    assert_type(llm.sentiment(), pl.DataFrame)
    assert_type(llm.translate(to="French", background=True), Run[pl.DataFrame])


def looked_at(df: pl.DataFrame) -> None:
    llm = nbllm.llm(df)
    assert_type(llm.preview("sentiment", "review", row=3), Preview | StepsPreview)
    assert_type(llm.preview("classify", "message", labels=["a", "b"]), Preview | StepsPreview)
    assert_type(llm.estimate("summarize", "article", max_words=9), RunEstimate | StepsEstimate)
    assert_type(llm.report(), RunReport)
    assert_type(llm.evaluate("label"), Evaluation)
    assert_type(llm.calibrate({0: "positive"}), pl.DataFrame)
    assert_type(llm.corrected({0: "positive"}), pl.DataFrame)
    assert_type(llm.explain(0), Explanation)
    assert_type(llm.explore(truth="label"), Explorer)
    assert_type(nbllm.compare("smollm2", "gemma3-270m", df, "sentiment", "review"), Comparison)


def attention(model: nbllm.Model) -> None:
    recording = nbllm.record(model, "The soup was warm.")
    assert_type(recording, nbllm.Recording | EncoderDecoderRecording)
    assert_type(nbllm.inspect(model, "The soup was warm."), AttentionView)
    assert_type(nbllm.inspect(recording), AttentionView)


def files(model: nbllm.Model) -> None:
    written = nbllm.answer_folder("in", Path("out"), "sentiment", "review", model=model)
    assert_type(written, list[Path])


def own_options(verb: Literal["sentiment"], df: pl.DataFrame, options: dict[str, Any]) -> None:
    """A verb whose name is known only when it runs takes any options."""
    name: str = verb
    assert_type(nbllm.llm(df).preview(name, "review", **options), Preview | StepsPreview)

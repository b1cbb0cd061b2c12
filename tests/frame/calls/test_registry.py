"""A verb of the user's own has everything that nbllm's verbs have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import polars as pl
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import nbllm
from nbllm.accessor import FrameAccessor
from nbllm.errors import FrameError
from nbllm.frame.calls import registry
from nbllm.frame.running.background import Run
from nbllm.models.model import Model
from nbllm.verbs import Verb, label_task, option, text_task

TEXTS = ["A delight from start to finish.", "The parcel arrived broken.", None, "Warm soup."]


@dataclass(frozen=True)
class Options:
    """How a text is rewritten."""

    tone: str = option("The tone of the new text.", "formal", positional=True, was="style")


class Rewrite(Verb[Options]):
    """Rewrite each text in another tone.

    Raises:
        ColumnError: the column is missing.
    """

    name = "rewrite"
    options = Options

    def task(self, model: Model, subject: str, options: Options) -> Any:
        asked = f"Rewrite the text so that it is {options.tone}."
        return text_task(model, self.name, asked, max_new_tokens=4)


@dataclass(frozen=True)
class NoOptions:
    """None."""


class Formality(Verb[NoOptions]):
    """Say whether each text is formal."""

    name = "formality"
    options = NoOptions

    def task(self, model: Model, subject: str, options: NoOptions) -> Any:
        return label_task(model, self.name, "Formal or casual?", ["formal", "casual"])


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {})
    nbllm.register_verb(Rewrite())
    nbllm.register_verb(Formality())
    yield


@pytest.mark.parametrize("library", [pd, pl])
def test_it_answers_and_files_its_answers(
    library: Any, tiny_llama: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = library.DataFrame({"text": TEXTS})
    answered = frame.llm.rewrite("text", model=tiny_llama)
    assert type(answered) is type(frame)
    added = ["text_rewrite", "text_rewrite_error", "text_rewrite_run"]
    assert list(answered.columns) == ["text", *added]
    again = frame.llm.rewrite("text", "formal", model=tiny_llama)
    assert again.llm.report().known == 3 and again.llm.report().computed == 0
    assert list(again["text_rewrite"])[:2] == list(answered["text_rewrite"])[:2]
    other = frame.llm.rewrite("text", tone="cheerful", model=tiny_llama)
    assert other.llm.report().computed == 3


def test_its_argument_is_also_taken_by_a_former_name(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    renamed = r"^style= is now tone=;"
    with pytest.warns(DeprecationWarning, match=renamed):
        former = frame.llm.rewrite("text", style="cheerful", model=tiny_llama)
    present = frame.llm.rewrite("text", tone="cheerful", model=tiny_llama)
    assert present.llm.report().known == 3
    assert list(former["text_rewrite"])[:2] == list(present["text_rewrite"])[:2]


def test_its_format_number_sets_answers_on_file_aside(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    frame.llm.rewrite("text", model=tiny_llama)
    monkeypatch.setattr(Rewrite, "format", 2)
    assert frame.llm.rewrite("text", model=tiny_llama).llm.report().known == 0


def test_preview_estimate_and_background(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    seen = frame.llm.preview("rewrite", "text", tone="short", model=tiny_llama)
    assert "so that it is short" in str(seen) and TEXTS[0] in str(seen)
    taken = frame.llm.estimate("rewrite", "text", model=tiny_llama)
    assert (taken.verb, taken.rows, taken.texts) == ("rewrite", 4, 3)
    run = frame.llm.rewrite("text", model=tiny_llama, background=True)
    assert isinstance(run, Run)
    assert run.result(60)["text_rewrite_run"].notna().sum() == 3
    with pytest.raises(FrameError, match="rewrite takes no tune="):
        frame.llm.preview("rewrite", "text", tune="short")


def test_evaluation_explanation_and_comparison(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": TEXTS, "truth": ["formal", "casual", None, "casual"]})
    answered = frame.llm.formality("text", model=tiny_llama)
    assert set(answered["text_formality"].dropna()) <= {"formal", "casual"}
    assert answered.llm.evaluate("truth").count == 3
    assert answered.llm.explain(0, model=tiny_llama).model is tiny_llama
    rewritten = frame.llm.rewrite("text", model=tiny_llama)
    found = rewritten.assign(right=rewritten["text_rewrite"]).llm.evaluate("right")
    assert {measure.name for measure in found.measures} >= {"ROUGE-1"}
    with pytest.warns(UserWarning, match="the same model"):
        both = nbllm.compare(tiny_llama, tiny_llama, frame, "formality", "text")
    assert both.count == 3


def completed(shell: InteractiveShell, line: str) -> set[str]:
    """What is offered behind a line."""
    with provisionalcompleter():
        return {found.text for found in shell.Completer.completions(line, len(line))}


def test_nothing_of_df_llm_can_be_taken() -> None:
    methods = {name for name in vars(FrameAccessor) if not name.startswith("_")}
    looks = {"preview", "estimate"}  # written out with the verbs
    assert methods | looks == registry.RESERVED


def test_jupyter_completes_it(tiny_llama: Model) -> None:
    shell = InteractiveShell()
    shell.user_ns["df"] = pd.DataFrame({"text": TEXTS})
    assert "rewrite" in completed(shell, "df.llm.rew")
    assert "tone=" in completed(shell, "df.llm.rewrite(to")
    assert "neutral=" in completed(shell, "df.llm.sentiment(neu")
    assert "Rewrite each text" in shell.user_ns["df"].llm.rewrite.__doc__


def test_names_that_cannot_be(tiny_llama: Model) -> None:
    for name in ("sentiment", "explain", "Two words", "", "x" * 21):
        made = type("Odd", (Rewrite,), {"name": name})()
        with pytest.raises(FrameError):
            nbllm.register_verb(made)
    with pytest.raises(FrameError, match="call it"):
        nbllm.register_verb(Rewrite)  # type: ignore[arg-type]


def test_of_a_series(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    of_series = frame["review"].llm.sentiment(model=tiny_llama)
    pd.testing.assert_frame_equal(of_series, frame.llm.sentiment("review", model=tiny_llama))
    of_polars = pl.Series("review", TEXTS).llm.sentiment(model=tiny_llama)
    assert of_polars.columns == list(of_series.columns)
    unnamed = pd.Series(TEXTS).llm.sentiment(model=tiny_llama)
    assert "text_sentiment" in unnamed.columns

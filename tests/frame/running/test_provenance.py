"""A row can be traced to the run that answered it, wherever the frame has been."""

from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import torch

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError, ProvenanceError
from nbllm.frame.explanation.row import explained_row
from nbllm.frame.running import provenance, run_record
from nbllm.models.model import Model

TEXTS = ["The soup was warm.", "We waited an hour.", None, "A quiet film about two brothers."]


@pytest.fixture
def answered(tiny_llama: Model) -> pd.DataFrame:
    frame = pd.DataFrame({"review": TEXTS, "key": [1, 2, 3, 4]}, index=list("abcd"))
    return frame.llm.sentiment("review", model=tiny_llama)


def prompt_of(frame, row: int, model: Model, column: str = "review_sentiment_run") -> str:
    return explained_row(frame, column.removesuffix("_run"), row, model).prompt.text


def as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, as if the frame had been read by a process that did not run it."""
    monkeypatch.setattr(provenance, "_records", {})
    monkeypatch.setattr(provenance, "_reports", {})
    monkeypatch.setattr(provenance, "_unfiled", {})


def test_the_prompt_is_the_one_that_was_run(answered: pd.DataFrame, tiny_llama: Model) -> None:
    shown = answered.llm.preview("sentiment", "review", row="d", model=tiny_llama)
    assert prompt_of(answered, 3, tiny_llama) == str(shown)


def test_after_a_filter_a_merge_and_parquet(
    answered: pd.DataFrame, tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_process(monkeypatch)
    expected = prompt_of(answered, 3, tiny_llama)
    filtered = answered[answered["key"] > 1]
    assert prompt_of(filtered, 2, tiny_llama) == expected
    merged = answered.merge(pd.DataFrame({"key": [4, 1], "extra": ["x", "y"]}), on="key")
    assert merged.attrs == {}
    assert prompt_of(merged, 1, tiny_llama) == expected
    merged.to_parquet(tmp_path / "rows.parquet")
    assert prompt_of(pl.read_parquet(tmp_path / "rows.parquet"), 1, tiny_llama) == expected


def test_parquet_carries_the_record_where_the_ledger_does_not(
    answered: pd.DataFrame, tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_process(monkeypatch)
    expected = prompt_of(answered, 0, tiny_llama)
    answered.to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setenv("NBLLM_LEDGER", str(tmp_path / "none"))
    assert prompt_of(pd.read_parquet(tmp_path / "rows.parquet"), 0, tiny_llama) == expected
    stripped = answered.copy()
    stripped.attrs = {}
    with pytest.raises(ProvenanceError, match=r"not on record.*NBLLM_LEDGER"):
        prompt_of(stripped, 0, tiny_llama)


def test_what_was_installed_is_on_record_and_decides_no_key(
    answered: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = provenance.find_record(answered["review_sentiment_run"].iloc[0], answered)
    assert first["versions"]["torch"] == torch.__version__
    monkeypatch.setattr(run_record, "versions", lambda: {"torch": "9.0"})
    again = answered[["review"]].llm.sentiment("review", model=tiny_llama)
    assert again.llm.report().known == 3
    second = provenance.find_record(again["review_sentiment_run"].iloc[0], again)
    assert second == {**first, "versions": {"torch": "9.0"}}


def test_a_changed_text_is_not_passed_off_as_the_one_answered(
    answered: pd.DataFrame, tiny_llama: Model
) -> None:
    answered.loc["a", "review"] = "Something else."
    with pytest.raises(ProvenanceError, match="changed since"):
        prompt_of(answered, 0, tiny_llama)


def test_a_text_that_is_gone_or_blank_is_said(answered: pd.DataFrame, tiny_llama: Model) -> None:
    with pytest.raises(ColumnError, match="no column 'review'"):
        prompt_of(answered.drop(columns="review"), 0, tiny_llama)
    with pytest.raises(ProvenanceError, match="was not asked"):
        answered.llm.explain("c", model=tiny_llama)
    with pytest.raises(FrameError, match="no row is labelled"):
        answered.llm.explain("z", model=tiny_llama)


def test_explain_opens_the_rows_attention(answered: pd.DataFrame, tiny_llama: Model) -> None:
    view = answered.llm.explain("d", model=tiny_llama)
    recording = view.recording
    [mark] = recording.field_spans
    assert recording.text[recording.spans[mark.start][0] : recording.spans[mark.stop - 1][1]] == (
        " A quiet film about two brothers."
    )
    assert recording.text.endswith("\nSentiment:")


def test_explaining_a_written_answer_shows_it_too(
    answered: pd.DataFrame, tiny_llama: Model
) -> None:
    both = answered.llm.prompt("Why? {review}", into="why", model=tiny_llama, max_new_tokens=3)
    view = both.llm.explain("a", output="why", model=tiny_llama)
    assert [mark.field for mark in view.recording.field_spans] == ["review", "answer"]
    with pytest.raises(ProvenanceError, match="one of review_sentiment, why"):
        both.llm.explain("a")


def test_a_frame_that_nbllm_did_not_answer(tiny_llama: Model) -> None:
    with pytest.raises(ProvenanceError, match="ends in '_run'"):
        pd.DataFrame({"review": ["x"]}).llm.explain(0, model=tiny_llama)


def test_the_report_outlives_the_process(
    answered: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_process(monkeypatch)
    assert answered.llm.report().computed == 3
    mixed = pd.concat([answered, answered.assign(review_sentiment_run="other")])
    with pytest.raises(ProvenanceError, match="2 runs"):
        mixed.llm.report()


def test_the_calibration_texts_are_part_of_the_question(tiny_llama: Model) -> None:
    from dataclasses import replace

    from tests.asking import sentiment

    task = sentiment(tiny_llama)
    other = replace(task, calibration=(*task.calibration, "one more"))
    records = [
        run_record.run_record(t, tiny_llama, {"text": "t"}, "o", limit=100, truncate=False)
        for t in (task, task, other)
    ]
    questions = [record["question"] for record in records]
    assert questions[0] == questions[1] != questions[2]


def test_an_adapter_makes_it_another_question(
    answered: pd.DataFrame, tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a fine-tuned model would be given its base's answers out of the ledger."""
    added = {"adapter": "folder", "adapter_revision": "1a2b", "adapter_merged": "no"}
    known = {**tiny_llama.provenance(), **added}
    monkeypatch.setattr(Model, "provenance", lambda self: known)
    again = answered[["review"]].llm.sentiment("review", model=tiny_llama)
    one, other = (f["review_sentiment_run"].dropna().iloc[0] for f in (answered, again))
    assert one != other
    records = [
        provenance.find_record(run, frame) for run, frame in ((one, answered), (other, again))
    ]
    assert records[0]["question"] != records[1]["question"]

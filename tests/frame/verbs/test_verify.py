"""verify: columns, blank and long texts, any script, explanation, and truth on our own texts."""

import json
from typing import Any

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, UnsupportedModelError
from nbllm.models.model import Model
from tests.conftest import tiny_model

# Written for this project.
ARTICLE = (
    "Hikers near Lake Maren found a rare orchid on Tuesday. Eleven plants are in flower. "
    "The botanical garden has put a fence around the slope. Its director, Ines Park, said that "
    "nobody may visit the place before 1 October."
)
ADDED = ["", "_score", "_sentences", "_error", "_run"]


def frame_of(*summaries: str | None, article: str | None = ARTICLE) -> pd.DataFrame:
    return pd.DataFrame({"article": [article] * len(summaries), "summary": list(summaries)})


def sentences(answered: Any, row: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answered["summary_verify_sentences"][row])
    return found


@pytest.mark.parametrize("module", [pd, pl])
def test_columns_in_both_libraries(module: Any, tiny_llama: Model) -> None:
    frame = frame_of("Eleven plants flower. It rained.", None, "  ")
    given = pl.from_pandas(frame) if module is pl else frame
    answered = given.llm.verify("summary", against="article", model=tiny_llama)
    added = [f"summary_verify{suffix}" for suffix in ADDED]
    assert list(answered.columns) == ["article", "summary", *added]
    rows = answered.to_pandas() if module is pl else answered
    assert rows["summary_verify"].isna().tolist() == [False, True, True]
    assert rows["summary_verify_score"].isna().tolist() == [False, True, True]
    assert rows["summary_verify_error"].isna().all()
    first, second = sentences(answered)
    assert list(first) == [
        "sentence", "verdict", "score", "evidence", "start", "end", "misquoted",
    ]  # fmt: skip
    assert first["sentence"] == "Eleven plants flower."
    assert ARTICLE[first["start"] : first["end"]] == first["evidence"]
    assert second["evidence"] is None and second["verdict"] != "contradicted"
    assert answered["summary_verify_score"][0] == min(first["score"], second["score"])


def test_a_row_does_not_depend_on_the_rows_beside_it(tiny_llama: Model) -> None:
    frame = frame_of("Eleven plants flower.", "Ines Park spoke. She left in May 2019.", "Orchid")
    whole = frame.llm.verify("summary", against="article", model=tiny_llama, ledger=False)
    for row in frame.index:
        alone = frame.loc[[row]].llm.verify(
            "summary", against="article", model=tiny_llama, ledger=False
        )
        assert alone["summary_verify_score"][row] == pytest.approx(
            whole["summary_verify_score"][row], abs=1e-5
        )


def test_another_threshold_asks_nobody_again(tiny_llama: Model) -> None:
    frame = frame_of("Plants flower.")
    frame.llm.verify("summary", against="article", model=tiny_llama)
    strict = frame.llm.verify("summary", against="article", model=tiny_llama, threshold=1.0)
    assert strict.llm.report().known == 1
    loose = frame.llm.verify("summary", against="article", model=tiny_llama, threshold=0.0)
    assert strict["summary_verify"][0] != "supported" == loose["summary_verify"][0]


def test_of_a_long_text_the_nearest_sentences_are_read() -> None:
    model = tiny_model("causal")
    article = "The bank raised its rate again. " * (model.context_length // 8) + ARTICLE
    frame = frame_of("Eleven plants are in flower.", article=article)
    shown = frame.llm.preview("verify", "summary", against="article", model=model)
    assert shown.tokens < model.context_length and "Eleven plants are in" in shown.text
    answered = frame.llm.verify("summary", against="article", model=model)
    [found] = sentences(answered)
    assert article[found["start"] : found["end"]] == "Eleven plants are in flower."
    assert answered["summary_verify_error"].isna().all()
    explained = answered.llm.explain(0, model=model)
    assert explained.prompt.text == shown.text


def test_what_cannot_be_checked_is_an_error_of_its_row(tiny_llama: Model) -> None:
    frame = frame_of("Eleven plants. " * tiny_llama.context_length, "Eleven plants.", "...")
    # A wrong number in it had a score of 0.985.
    frame.loc[3] = [ARTICLE, "十二株正在开花。"]
    with pytest.warns(UserWarning, match="3 of 4 rows"):
        answered = frame.llm.verify("summary", against="article", model=tiny_llama)
    assert "tokens" in answered["summary_verify_error"][0]
    assert "no letter" in answered["summary_verify_error"][2]
    assert "without spaces" in answered["summary_verify_error"][3]
    assert answered["summary_verify"].notna().tolist() == [False, True, False, False]


def test_a_likelihood_that_is_no_number_is_an_error_of_its_row(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbllm.engine.candidates import CandidateScorer

    score = CandidateScorer.score_tokens

    def broken(self: CandidateScorer, prompts: Any, candidates: Any) -> Any:
        return [[one * float("nan") for one in row] for row in score(self, prompts, candidates)]

    monkeypatch.setattr(CandidateScorer, "score_tokens", broken)
    with pytest.warns(UserWarning, match="not a finite number"):
        answered = frame_of("Eleven.").llm.verify("summary", against="article", model=tiny_llama)
    assert answered["summary_verify"].isna().all()


@pytest.mark.parametrize(
    ("article", "summary", "evidence"),
    [
        ("<p>It rained.</p>\n<p>Snow fell.</p>", "<b>Snow</b> fell.", "<p>Snow fell.</p>"),
        ("Rain", "rain", "Rain"),
    ],
    ids=["HTML", "one word"],
)
def test_any_text(article: str, summary: str, evidence: str, tiny_llama: Model) -> None:
    answered = frame_of(summary, article=article).llm.verify(
        "summary", against="article", model=tiny_llama
    )
    [found] = sentences(answered)
    assert found["evidence"] == evidence == article[found["start"] : found["end"]]


def test_bad_arguments_are_refused_before_a_model_runs(tiny_llama: Model) -> None:
    with pytest.raises(ColumnError, match="no column 'text'"):
        frame_of("a").llm.verify("summary", against="text", model=tiny_llama)
    with pytest.raises(TypeError, match="against"):
        frame_of("a").llm.verify("summary", model=tiny_llama)
    with pytest.raises(UnsupportedModelError):
        frame_of("a").llm.verify("summary", against="article", model=tiny_model("encoder"))


def test_evaluation_is_that_of_labels_without_a_score_of_the_label(tiny_llama: Model) -> None:
    frame = frame_of("Eleven plants flower.", "It rained.").assign(
        truth=["supported", "not in the text"]
    )
    answered = frame.llm.verify("summary", against="article", model=tiny_llama)
    found = answered.llm.evaluate("truth")
    assert {"accuracy", "macro-F1"} <= set(found.summary["measure"])
    assert "calibration error" not in set(found.summary["measure"])


TRUE = ["Hikers found a rare orchid near Lake Maren.", "The plants are behind a fence."]
FALSE = {
    "Hikers found a rare orchid in Manchester.": ("contradicted", ["Manchester"]),
    "There are 340 plants in flower.": ("contradicted", ["340"]),
    "Hikers have not found a rare orchid near Lake Maren.": ("contradicted", []),
    "The bank raised its interest rate again.": ("not in the text", []),
}


def test_the_default_model_tells_true_sentences_from_false_ones(smollm2: Model) -> None:
    answered = frame_of(*TRUE, *FALSE).llm.verify("summary", against="article", model=smollm2)
    assert answered["summary_verify"].tolist() == [
        *["supported"] * len(TRUE),
        *(verdict for verdict, _ in FALSE.values()),
    ]
    misquoted = [sentences(answered, row)[0]["misquoted"] for row in range(len(answered))]
    assert misquoted == [*[[]] * len(TRUE), *(words for _, words in FALSE.values())]
    found = answered.llm.explain(len(TRUE), model=smollm2).evidence()
    assert found["evidence"][0].startswith("Hikers near Lake Maren")
    assert 0 < found["share"][0] < found["attention"][0] < 1

"""The sentences of a prompt's answer, and their evidence in its text."""

import math

import pandas as pd
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.frame.explanation.evidence import passages
from nbllm.models.model import Model
from tests.conftest import tiny_model

ARTICLE = "The storm closed the harbour on Monday. Eleven boats were lost."
SUMMARY = "Boats were lost. Zebras grazed."


def test_sentences_and_evidence_are_found_in_the_prompt(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"article": [ARTICLE], "summary": [SUMMARY]})
    answered = frame.llm.verify("summary", against="article", model=tiny_llama)
    why = answered.llm.explain(0, model=tiny_llama)
    text, found = why.prompt.text, passages(why.prompt)
    assert [text[slice(*one.sentence)] for one in found] == ["Boats were lost.", "Zebras grazed."]
    assert [one.evidence and text[slice(*one.evidence)] for one in found] == [
        "Eleven boats were lost.",
        None,
    ]
    assert {text[slice(*one.source)].strip() for one in found} == {ARTICLE}
    table = why.evidence()
    assert table["evidence"].dropna().tolist() == ["Eleven boats were lost."]
    assert 0 < table["attention"][0] < 1 and 0 < table["share"][0] < 1
    assert math.isnan(table["attention"][1]) and table["share"][1] == 0
    assert "Zebras grazed." in why.evidence_html() and "nan" not in why.evidence_html()


def test_a_label_has_no_evidence(tiny_llama: Model) -> None:
    answered = pd.DataFrame({"t": ["A warm soup."]}).llm.sentiment("t", model=tiny_llama)
    why = answered.llm.explain(0, model=tiny_llama)
    assert passages(why.prompt) == [] and why.evidence().empty and why.evidence_html() == ""


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_sentences_of_a_summary_have_evidence(kind: str) -> None:
    model = tiny_model(kind)
    answered = pd.DataFrame({"article": [ARTICLE]}).llm.summarize(
        "article", max_words=4, model=model
    )
    why = answered.llm.explain(0, model=model)
    written = answered["article_summarize"][0]
    assert all(sentence in written for sentence in why.evidence()["sentence"])
    assert "nan" not in why.evidence_html()

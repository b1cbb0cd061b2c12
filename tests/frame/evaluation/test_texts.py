"""Texts against rouge-score and sacrebleu."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import FrameError
from nbllm.frame.evaluation.text_metrics import corpus_metric, first_sentences, row_metric, words
from nbllm.frame.evaluation.texts import TextEvaluation
from nbllm.frame.running.provenance import attach, remember
from nbllm.frame.running.report import RunReport
from tests.frame.evaluation.answered import values, with_record

ARTICLE = "The ferry runs on batteries. It makes 38 crossings a day! Smoke is gone. People sleep."
ANSWERS = ["The ferry has batteries now.", "A ferry runs on coal.", "Nothing"]
RIGHT = ["The ferry now runs on batteries.", "A train runs on coal.", "Something else"]


def answered_by_texts(verb: str, module=pd, answers=ANSWERS, right=RIGHT):
    data = {
        "text": [ARTICLE] * len(right),
        "truth": right,
        "t": answers,
        "t_run": [f"{verb}-test"] * len(right),
    }
    return with_record(module.DataFrame(data), verb, {"max_new_tokens": 9}, "t")


@pytest.mark.parametrize("module", [pd, pl])
def test_summaries_have_rouge_beside_first_sentences(module) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    found = answered_by_texts("summarize", module).llm.evaluate("truth")
    assert isinstance(found, TextEvaluation)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    lead = ["The ferry runs on batteries."] * 3  # as short as the answers
    for key, name in (("rouge1", "ROUGE-1"), ("rouge2", "ROUGE-2"), ("rougeL", "ROUGE-L")):
        expected, plain = (
            np.mean([scorer.score(r, a)[key].fmeasure for r, a in zip(RIGHT, made, strict=True)])
            for made in (ANSWERS, lead)
        )
        value, low, high, base = values(found)[name]
        assert value == pytest.approx(expected) and base == pytest.approx(plain)
        assert low <= value <= high
    assert "first sentences" in repr(found)
    assert [trace.name.split(":")[0] for trace in found.plot().data] == ["answers", "baseline"]


def test_translations_have_sacrebleus_scores_beside_a_copy() -> None:
    import sacrebleu

    found = answered_by_texts("translate").llm.evaluate("truth")
    bleu, chrf = values(found)["BLEU"], values(found)["chrF"]
    assert bleu[0] == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [RIGHT]).score)
    assert chrf[0] == pytest.approx(sacrebleu.corpus_chrf(ANSWERS, [RIGHT]).score)
    assert bleu[3] == pytest.approx(sacrebleu.corpus_bleu([ARTICLE] * 3, [RIGHT]).score)
    assert chrf[1] < chrf[0] < chrf[2]


def test_chinese_is_measured_by_characters() -> None:
    import sacrebleu

    answers, right = ["渡轮现在用电池运行。"], ["渡轮如今用电池运行。"]
    expected = sacrebleu.corpus_bleu(answers, [right], tokenize="zh").score
    assert corpus_metric("bleu", answers, right, interval=False).value == pytest.approx(expected)
    rouge = row_metric("rouge1")
    assert rouge is not None and rouge(answers[0], right[0]) == pytest.approx(7 / 9)
    assert words("Größe 12, 你好!") == ["größe", "12", "你", "好"]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_rows_that_share_nothing_have_an_interval_too(metric: str) -> None:
    """sacrebleu itself raises here: some of its draws have no match, and are of another type."""
    answers = ["Das Haus ist klein und alt", "qqq", "qqq", "qqq"]
    right = ["Das Haus ist klein und alt", "Hm.", "Hm.", "Hm."]
    found = corpus_metric(metric, answers, right, interval=True)
    assert 0 <= found.low < found.value < found.high <= 100


def test_answers_to_questions_are_compared_as_squad_does() -> None:
    exact, f1 = row_metric("exact"), row_metric("token_f1")
    assert exact is not None and f1 is not None
    assert exact("The Eiffel Tower!", "eiffel tower") == 1 and exact("Eiffel", "eiffel tower") == 0
    assert f1("the tall Eiffel tower", "Eiffel Tower") == pytest.approx(0.8)
    assert f1("no", "yes") == 0 and f1("the", "a") == 1
    found = answered_by_texts("answer").llm.evaluate("truth")
    assert list(values(found)) == ["exact match", "token F1"]
    asked = answered_by_texts("answer").llm.evaluate("truth", metrics=["exact", "rougeL"])
    assert list(values(asked)) == ["exact match", "ROUGE-L"]
    with pytest.raises(FrameError, match="no metric 'meteor'"):
        answered_by_texts("answer").llm.evaluate("truth", metrics=["meteor"])


def test_first_sentences_are_about_as_long_as_the_answer() -> None:
    assert first_sentences(ARTICLE, like="Six words are what this has") == (
        "The ferry runs on batteries. It makes 38 crossings a day!"
    )
    assert first_sentences(ARTICLE, like="word " * 99) == ARTICLE
    assert first_sentences("你好。再见。", like="你好") == "你好。"


def test_without_the_text_there_is_no_baseline() -> None:
    found = answered_by_texts("summarize").drop(columns="text").llm.evaluate("truth")
    assert {m.baseline for m in found.measures} == {None} and "baseline is none" in repr(found)
    assert "None" not in found._repr_html_()


def test_answers_from_a_column_of_texts_have_a_baseline_of_its_first_sentences() -> None:
    frame = answered_by_texts("answer").assign(question="What?")
    record = {
        "id": "answer-test",
        "verb": "answer",
        "parameters": {},
        "columns": {"context": "text", "question": "question"},
        "output": "t",
        "question": "0",
    }
    remember(record, RunReport("answer-test", "answer", "t", {}))
    attach(frame, record)
    found = frame.llm.evaluate("truth")
    assert found.baseline_texts == [first_sentences(ARTICLE, like=answer) for answer in ANSWERS]
    assert found.measures[0].baseline == 0

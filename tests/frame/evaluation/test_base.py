"""Evaluations against scikit-learn, rouge-score and sacrebleu, and what they say of a frame."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import metrics

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError, LabelError, ProvenanceError
from nbllm.frame.evaluation.base import LabelEvaluation, TextEvaluation
from nbllm.frame.evaluation.text_metrics import corpus_metric, first_sentences, row_metric, words
from nbllm.frame.running.provenance import attach, remember
from nbllm.frame.running.report import RunReport
from nbllm.models.model import Model
from nbllm.stats import (
    bootstrap_counts,
    calibration_error,
    label_scores,
    proportion,
    reliability,
)

LABELS = ("card", "cash", "<b>other</b>")


def answered_by_labels(module=pd, rows: int = 300):
    """A frame as `classify` returns it, of answers that are right in about 7 of 10 rows."""
    random = np.random.default_rng(0)
    truth = random.choice(3, size=rows, p=[0.6, 0.3, 0.1])
    answer = np.where(random.random(rows) < 0.7, truth, random.integers(3, size=rows))
    data = {
        "text": [f"Text {n}." for n in range(rows)],
        "truth": [LABELS[n] for n in truth],
        "c": [LABELS[n] for n in answer],
        "c_score": random.uniform(0.4, 1.0, size=rows),
        "c_run": ["classify-test"] * rows,
    }
    data["c"][5], data["c_score"][5], data["truth"][7] = None, np.nan, None
    return with_record(module.DataFrame(data), "classify", {"labels": list(LABELS)}, "c")


def with_record(frame, verb: str, parameters: dict, output: str):
    record = {
        "id": f"{verb}-test",
        "verb": verb,
        "parameters": parameters,
        "columns": {"text": "text"},
        "output": output,
        "question": "0",
    }
    remember(record, RunReport(record["id"], verb, output, {}))
    attach(frame, record)
    return frame


def values(evaluation, label=None) -> dict[str, tuple[float, float, float, float]]:
    return {m.name: (*m.value, m.baseline) for m in evaluation.measures if m.label == label}


# -- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_label_measures_are_scikit_learns(module) -> None:
    frame = answered_by_labels(module)
    found = frame.llm.evaluate("truth")
    assert isinstance(found, LabelEvaluation)
    kept = [n for n in range(300) if n not in (5, 7)]
    truth = [frame["truth"][n] for n in kept]
    answer = [frame["c"][n] for n in kept]
    assert (found.count, found.unanswered) == (298, 1)
    overall = values(found)
    assert overall["accuracy"][0] == pytest.approx(metrics.accuracy_score(truth, answer))
    assert overall["macro-F1"][0] == pytest.approx(metrics.f1_score(truth, answer, average="macro"))
    most = ["card"] * len(truth)
    assert overall["accuracy"][3] == pytest.approx(metrics.accuracy_score(truth, most))
    assert overall["macro-F1"][3] == pytest.approx(metrics.f1_score(truth, most, average="macro"))
    assert found.baseline == "always 'card'"
    table = metrics.precision_recall_fscore_support(truth, answer, labels=found.labels)
    plain = metrics.precision_recall_fscore_support(
        truth, most, labels=found.labels, zero_division=0
    )
    for n, label in enumerate(found.labels):
        of = values(found, label)
        for k, name in enumerate(("precision", "recall", "F1")):
            value, low, high, base = of[name]
            assert value == pytest.approx(table[k][n]) and base == pytest.approx(plain[k][n])
            assert 0 <= low < value < high <= 1
    np.testing.assert_array_equal(
        found.counts, metrics.confusion_matrix(truth, answer, labels=found.labels)
    )
    confusion = found.confusion
    assert type(confusion) is type(frame) and list(confusion["truth"]) == list(found.labels)
    assert list(confusion["cash"]) == found.counts[:, found.labels.index("cash")].tolist()


def test_intervals_are_those_of_drawing_rows_again() -> None:
    frame = answered_by_labels()
    found = frame.llm.evaluate("truth")
    truth, answer = np.array(found.right), np.array(found.answers)
    random = np.random.default_rng(9)
    drawn = []
    for _ in range(500):
        rows = random.integers(len(truth), size=len(truth))
        drawn.append(metrics.f1_score(truth[rows], answer[rows], average="macro"))
    _, low, high, _ = values(found)["macro-F1"]
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)
    assert values(found) == values(frame.llm.evaluate("truth"))


def test_the_rows_behind_a_cell_of_the_confusion_matrix() -> None:
    frame = answered_by_labels()
    frame.index = [f"row {n}" for n in range(300)]
    found = frame.llm.evaluate("truth")
    rows = found.rows(truth="card", answer="cash")
    assert len(rows) == found.counts[found.labels.index("card"), found.labels.index("cash")] > 3
    assert set(rows["truth"]) == {"card"} and set(rows["c"]) == {"cash"}
    pd.testing.assert_frame_equal(rows, frame.loc[rows.index])
    judged = frame.dropna()
    assert len(found.rows(answer="cash")) == (judged["c"] == "cash").sum()
    assert len(found.rows()) == 298
    with pytest.raises(LabelError, match="no row has 'cheque'"):
        found.rows(truth="cheque")


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.92, 1.0, 0.55, 0.58, 0.5])
    right = np.array([1, 1, 0, 1, 1, 0, 0], dtype=bool)
    low, high = reliability(confidence, right)
    assert (low.rows, high.rows) == (3, 4)
    assert (low.right, high.right) == pytest.approx((1 / 3, 3 / 4))
    gaps = abs(confidence[4:].mean() - 1 / 3) * 3 + abs(confidence[:4].mean() - 3 / 4) * 4
    assert calibration_error(confidence, right) == pytest.approx(gaps / 7)
    # A score that means what it says has an error that goes to 0 with the rows.
    random = np.random.default_rng(0)
    sure = random.uniform(size=50_000)
    assert calibration_error(sure, random.uniform(size=50_000) < sure) < 0.01


def test_without_a_score_there_is_no_calibration_error() -> None:
    frame = answered_by_labels().drop(columns="c_score")
    found = frame.llm.evaluate("truth")
    assert "calibration error" not in values(found) and found.bins == []
    assert len(found.plot().data) == 1
    assert "calibration error" in values(answered_by_labels().llm.evaluate("truth"))


def test_scores_of_nothing_are_unknown() -> None:
    empty = np.zeros((2, 2), dtype=np.int64)
    assert np.isnan(bootstrap_counts(label_scores, empty, 0.95, 0)).all()


@pytest.mark.parametrize("module", [pd, pl])
def test_the_summary_is_a_frame_of_the_callers_kind(module) -> None:
    frame = answered_by_labels(module)
    summary = frame.llm.evaluate("truth").summary
    assert type(summary) is type(frame)
    assert list(summary.columns) == ["measure", "label", "value", "low", "high", "baseline"]
    assert len(summary) == 3 + 3 * 3


def test_an_evaluation_is_shown_and_nothing_in_it_is_markup() -> None:
    found = answered_by_labels().llm.evaluate("truth")
    assert "298 rows" in repr(found) and "The baseline is always 'card'." in repr(found)
    assert "Left out: 1 with a truth and no answer." in repr(found)
    shown = found._repr_html_()
    assert "&lt;b&gt;other&lt;/b&gt;" in shown and "<b>other" not in shown
    figure = found.plot()
    assert [trace.type for trace in figure.data] == ["heatmap", "scatter", "scatter"]
    assert "<b>other" not in figure.to_json() and sum(figure.data[2].customdata) == 298


def test_what_cannot_be_evaluated_is_said() -> None:
    frame = answered_by_labels()
    with pytest.raises(ColumnError, match="no column 'label'"):
        frame.llm.evaluate("label")
    with pytest.raises(LabelError, match=r"holds 'Text 0\."):
        frame.llm.evaluate("text")
    with pytest.raises(FrameError, match="Leave it out"):
        frame.llm.evaluate("truth", metrics=["bleu"])
    with pytest.raises(FrameError, match="no row has both"):
        frame.assign(truth=None).llm.evaluate("truth")
    with pytest.raises(ProvenanceError, match="not on record"):
        frame.assign(c_run="classify-lost").llm.evaluate("truth")
    with pytest.raises(FrameError, match="nothing to evaluate"):
        frame.assign(c_run=None).llm.evaluate("truth")


def test_a_real_run_is_evaluated(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": ["warm soup", "cold soup", None, "a film"]})
    answered = frame.llm.sentiment("text", model=tiny_llama)
    answered["truth"] = ["positive", "negative", "negative", None]
    found = answered.llm.evaluate("truth")
    right = answered["text_sentiment"][:2] == answered["truth"][:2]
    assert values(found)["accuracy"][0] == right.mean()
    assert (found.count, found.unanswered, found.verb) == (2, 1, "sentiment")


# -- texts -----------------------------------------------------------------------------------

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
    assert found.plain == [first_sentences(ARTICLE, like=answer) for answer in ANSWERS]
    assert found.measures[0].baseline == 0


# -- fields ----------------------------------------------------------------------------------

SCHEMA = {"properties": {"dish": {"type": "string"}, "price": {"type": "number"}}}
DISHES = ['{"dish": "Soup", "price": 3}', '{"dish": "a pie", "price": 4.5}', '{"price": 1}', None]


def with_fields(module, truth, answers=DISHES):
    data = {"text": list("abcd"), "truth": truth, "x": answers, "x_run": ["extract-test"] * 4}
    frame = module.DataFrame(data)
    return with_record(frame, "extract", {"schema": json.dumps(SCHEMA)}, "x")


@pytest.mark.parametrize("module", [pd, pl])
def test_each_field_is_right_or_wrong(module) -> None:
    truth = [
        {"dish": "soup ", "price": 3.0},
        {"dish": "pie", "price": 4.5},
        {"dish": None, "price": 2.0},
        {"dish": "pie", "price": 2.0},
    ]
    for given in (truth, [json.dumps(row) for row in truth]):
        found = with_fields(module, given).llm.evaluate("truth")
        assert (found.count, found.unanswered) == (3, 1)
        expected = {"dish": [True, False, True], "price": [True, True, False]}
        assert {name: hits.tolist() for name, hits in found.hits.items()} == expected
        share = pytest.approx(proportion(2, 3, 0.95))
        assert {m.label: m.value for m in found.measures[1:]} == {"dish": share, "price": share}
        whole = found.measures[0]
        assert (whole.name, whole.value.value) == ("all fields right", 1 / 3)
        assert whole.baseline == 0 and found.measures[1].baseline == 1 / 3
        assert found.rows("price")["text"].to_list() == ["c"]
        assert len(found.plot().data[0].y) == 3 and "accuracy of dish" in repr(found)


def test_fields_that_cannot_be_compared_are_said() -> None:
    for truth, message in (("soup", "is not one"), ('{"dsh": "soup"}', "has 'dsh'")):
        with pytest.raises(FrameError, match=f"object of fields.*{message}"):
            with_fields(pd, [truth] * 4).llm.evaluate("truth")
    found = with_fields(pd, DISHES)
    with pytest.raises(FrameError, match="Leave it out"):
        found.llm.evaluate("truth", metrics=["exact"])
    with pytest.raises(LabelError, match="no field 'dsh'"):
        found.llm.evaluate("truth").rows("dsh")


def test_several_labels_have_the_f1_of_each() -> None:
    random = np.random.default_rng(0)
    truth, answers = random.random((2, 200, 2)) < [0.3, 0.6]

    def lists(table):
        return [[name for name, has in zip("ab", row, strict=True) if has] for row in table]

    frame = pd.DataFrame(
        {
            "truth": lists(truth),
            "c": [json.dumps(row) for row in lists(answers)],
            "c_run": "classify-test",
        }
    )
    with_record(frame, "classify", {"labels": ["a", "b"], "several": "x"}, "c")
    found = frame.llm.evaluate("truth")
    for n, name in enumerate("ab"):
        measured = values(found, name)
        assert measured["accuracy"][0] == (truth[:, n] == answers[:, n]).mean()
        value, low, high, plain = measured["F1"]
        assert value == pytest.approx(metrics.f1_score(truth[:, n], answers[:, n]))
        most = np.full(200, truth[:, n].mean() > 0.5)
        assert plain == metrics.f1_score(truth[:, n], most, zero_division=0) and low < value < high
    assert values(found)["all fields right"][0] == (truth == answers).all(axis=1).mean()


def test_real_runs_of_several_fields_are_evaluated(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": ["warm soup", "a film"]})
    for verb, options in (
        ("sentiment", {"aspects": ["food", "staff"]}),
        ("classify", {"labels": ["x", "y"], "multi": True}),
        ("extract", {"schema": {"dish": str}}),
        ("extract", {"schema": {"entities": list[str], "because": str}}),
    ):
        answered = getattr(frame.llm, verb)("text", model=tiny_llama, **options)
        answered["truth"] = answered[f"text_{verb}"]
        assert answered.llm.evaluate("truth").measures[0].value.value == 1

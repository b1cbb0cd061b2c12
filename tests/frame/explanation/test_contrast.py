"""The label of a row beside the next likely one, as the run itself had them."""

import math
from dataclasses import replace

import pandas as pd
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import row_values
from nbllm.frame.explanation.contrast import contrast
from nbllm.frame.running.provenance import find_record, row_run
from nbllm.frame.running.run_record import recorded_prompt

TEXTS = ["The soup was warm.", "We waited an hour.", "A quiet film about two brothers."]
LABELS = ["service", "service desk", "kitchen"]


def contrast_of(frame, output, row, model):
    record = find_record(row_run(frame, f"{output}_run", row), frame)
    prompt = recorded_prompt(record, row_values(frame, ["review"], row), model)
    return contrast(record, frame, output, row, prompt, model)


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_classifier"])
def test_probabilities_are_those_of_the_run(request, kind) -> None:
    model = request.getfixturevalue(kind)
    frame = pd.DataFrame({"review": TEXTS})
    answered = frame.llm.sentiment("review", model=model, probabilities=True)
    for row in range(len(TEXTS)):
        found = contrast_of(answered, "review_sentiment", row, model)
        assert found.label == answered["review_sentiment"][row] != found.other
        for label, chance in [
            (found.label, found.probability),
            (found.other, found.other_probability),
        ]:
            assert chance == pytest.approx(answered[f"review_sentiment_{label}"][row], abs=1e-5)
    if kind == "tiny_classifier":
        names = model.network.config.id2label
        assert (names[found.target], names[found.against]) == (found.label, found.other)


def test_the_second_of_several_and_where_they_part(tiny_llama) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    answered = frame.llm.classify(
        "review", labels=LABELS, model=tiny_llama, probabilities=True, into="topic"
    )
    for label in LABELS:  # as if: whichever it was, the others are ranked
        answered["topic"] = label
        found = contrast_of(answered, "topic", 0, tiny_llama)
        others = {other: answered[f"topic_{other}"][0] for other in LABELS if other != label}
        assert (found.label, found.other) == (label, max(others, key=others.get))
        begins = tiny_llama.tokenizer.decode(found.shared).strip()
        assert label.startswith(begins) and found.other.startswith(begins)
        assert found.target != found.against
        if {found.label, found.other} == set(LABELS[:2]):
            assert begins == "service"


def test_after_calibration_as_it_was_calibrated(tiny_llama) -> None:
    frame = pd.DataFrame({"review": [f"{text} {n}" for n in range(6) for text in TEXTS]})
    answered = frame.llm.sentiment("review", model=tiny_llama, probabilities=True)
    truth = {row: ("positive", "negative")[row % 3 == 0] for row in range(18)}
    calibrated = answered.llm.calibrate(truth)
    found = contrast_of(calibrated, "review_sentiment", 4, tiny_llama)
    assert found.probability == pytest.approx(calibrated["review_sentiment_score"][4], abs=1e-4)
    assert not math.isclose(found.probability, answered["review_sentiment_score"][4], abs_tol=1e-3)


def test_answers_that_are_no_choice_between_labels(tiny_llama) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    written = frame.llm.prompt("Why? {review}", into="why", model=tiny_llama, max_new_tokens=3)
    assert contrast_of(written, "why", 0, tiny_llama) is None
    several = frame.llm.classify("review", labels=LABELS[::2], multi=True, model=tiny_llama)
    assert contrast_of(several, "review_classify", 0, tiny_llama) is None


def test_an_answer_that_is_missing_or_was_changed(tiny_llama) -> None:
    answered = pd.DataFrame({"review": TEXTS}).llm.sentiment("review", model=tiny_llama)
    answered["review_sentiment"] = ["glad", None, "positive"]
    with pytest.raises(LabelError, match=r"'glad' is none of the labels .*: positive, negative"):
        contrast_of(answered, "review_sentiment", 0, tiny_llama)
    with pytest.raises(FrameError, match="row 1 has no text in 'review_sentiment'"):
        contrast_of(answered, "review_sentiment", 1, tiny_llama)


def test_the_same_tokens_in_another_case_is_the_models_to_refuse(tiny_llama) -> None:
    answered = pd.DataFrame({"review": TEXTS}).llm.sentiment("review", model=tiny_llama)
    record = find_record(row_run(answered, "review_sentiment_run", 0), answered)
    prompt = recorded_prompt(record, (TEXTS[0],), tiny_llama)
    same = {**record["parameters"], "answers": (" x", " x")}
    with pytest.raises(LabelError, match="as the same tokens"):
        contrast(
            {**record, "parameters": same}, answered, "review_sentiment", 0, prompt, tiny_llama
        )
    other = replace(tiny_llama, kind="classifier")  # the run named labels a head does not have
    assert contrast(record, answered, "review_sentiment", 0, prompt, other) is None

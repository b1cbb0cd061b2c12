"""Answers of several fields, each right or wrong."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import metrics

from nbllm.errors import FrameError, LabelError
from nbllm.models.model import Model
from nbllm.stats import proportion
from tests.frame.evaluation.answered import values, with_record

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

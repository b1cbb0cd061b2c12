"""A null of `answer` is an answer, which is right where the truth is an empty text."""

import pandas as pd

import nbllm  # noqa: F401  registers df.llm
from nbllm.models.model import Model


def test_refusals_count(tiny_llama: Model) -> None:
    frame = pd.DataFrame(
        {
            "t": ["Rice fell.", "Hikers found it.", "Nobody came.", "Rain.", None, "Snow."],
            "truth": ["", "Hikers", "", "Rain", "x", None],
        }
    )
    answered = frame.llm.answer("t", question="Who?", model=tiny_llama, threshold=0)
    assert answered["t_answer_error"].isna().all()
    answered["t_answer"] = [None, None, "Somebody", "rain", None, "Snow"]
    found = answered.llm.evaluate("truth")
    assert found.positions == [0, 1, 2, 3] and found.unanswered == 1
    assert found.by_row["exact"].tolist() == [1, 0, 0, 1]
    assert found.by_row["token_f1"].tolist() == [1, 0, 0, 1]
    # Without the column of errors, nobody can tell a refusal from a failure.
    found = answered.drop(columns="t_answer_error").llm.evaluate("truth")
    assert found.positions == [2, 3]


def test_a_row_that_failed_is_no_refusal(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"t": ["Rice fell.", "Rain."], "truth": ["", "Rain"]})
    answered = frame.llm.answer("t", question="Who?", model=tiny_llama, threshold=0)
    answered["t_answer"] = [None, "rain"]
    answered["t_answer_error"] = ["the model wrote nothing", None]
    found = answered.llm.evaluate("truth")
    assert found.positions == [1] and found.unanswered == 1

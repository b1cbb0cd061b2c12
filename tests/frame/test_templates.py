"""Prompts over several columns: blank fields, odd names, and braces."""

from string import Formatter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbllm.engine.prompt import CompiledTemplate
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.verbs.prompt import prompt_columns
from nbllm.models.model import Model
from nbllm.train.examples import answer_examples
from nbllm.train.job import read_job
from nbllm.train.rows import learned_rows
from tests.asking import prompt
from tests.conftest import tiny_model

ALPACA = "{instruction}\n{input}"
NOTHING = [None, float("nan"), pd.NA, "", " \n", "\u200b", "\x00"]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


def written(model: Model, template: str, **cells: str) -> str:
    task = prompt(model, template=template)
    ready = CompiledTemplate(task.template, model.tokenizer)
    [made] = ready.encode([[cells[name] for name in ready.fields]], limit=2000)
    return made.text.partition("user\n")[2].partition("<|im_end|>")[0]


@pytest.mark.parametrize("nothing", NOTHING, ids=ascii)
@pytest.mark.parametrize("template", [ALPACA, "{input}: {instruction}", "a {input} {instruction}"])
def test_a_blank_field_is_an_empty_text(model: Model, template: str, nothing: Any) -> None:
    frame = pd.DataFrame({"instruction": ["Say it.", nothing], "input": [nothing, nothing]})
    wanted = written(model, template, instruction="Say it.", input="")
    preview = frame.llm.preview("prompt", template, model=model)
    assert wanted in str(preview) and preview._repr_html_()
    with pytest.raises(FrameError, match="row 1 has no text in"):
        frame.llm.preview("prompt", template, row=1, model=model)
    assert frame.llm.estimate("prompt", template, model=model).blank == 1
    answered = frame.llm.prompt(template, into="out", model=model, max_new_tokens=2)
    assert answered["out"].notna().tolist() == answered["out_run"].notna().tolist() == [True, False]
    assert wanted in answered.llm.explain(0, model=model).recording.text


@pytest.mark.parametrize("module", [pd, pl])
def test_training_keeps_rows_with_a_blank_field(model: Model, module: Any) -> None:
    """40 of 60 rows like Alpaca's have no input."""
    rows = 60
    frame = module.DataFrame(
        {
            "instruction": [f"Do {n}." for n in range(rows - 1)] + [None],
            "input": [f"with {n}" if n % 3 == 0 else ("" if n % 2 else None) for n in range(rows)],
            "output": [f"Done {n}." for n in range(rows)],
        }
    )
    job = read_job(None, None, ALPACA, "output")
    learned, counts = learned_rows(frame, job.reads, job.answer, any_type=True)
    assert (counts.used, counts.blank) == (rows - 1, 1)
    assert learned[1].texts == ("Do 1.", "") and learned[3].texts == ("Do 3.", "with 3")
    task = prompt(model, template=ALPACA)
    shown = answer_examples(model, task.template, learned[:2], limit=500, truncate=False)
    assert all(example is not None for example in shown)
    assert "Do 1.\n<" in model.tokenizer.decode(shown[1].ids[: shown[1].begin])


@pytest.mark.parametrize("verb", ["similarity", "answer"])
def test_what_compares_two_texts_needs_both(model: Model, verb: str) -> None:
    frame = pd.DataFrame({"a": ["one", "two", None], "b": ["uno", " ", "tres"]})
    asked: dict[str, Any] = (
        {"other": "b", "model": tiny_model("encoder")}
        if verb == "similarity"
        else {"context_column": "b", "model": model, "max_new_tokens": 2}
    )
    answered = getattr(frame.llm, verb)("a", **asked)
    assert answered[f"a_{verb}_run"].notna().tolist() == [True, False, False]


def test_a_row_reads_the_same_whether_others_have_a_number_or_not(model: Model) -> None:
    whole = pd.DataFrame({"n": [3, 4], "x": [1.5, 2.0]})
    some = pd.DataFrame({"n": [3, None], "x": [1.5, None]})  # floats, then
    for frame in (whole, some, some.astype("float32"), pl.from_pandas(some)):
        assert "3 at 1.5" in str(frame.llm.preview("prompt", "{n} at {x}", model=model))
    answered = some.llm.prompt("{n} at {x}", into="out", model=model, max_new_tokens=2)
    assert "3 at 1.5" in answered.llm.explain(0, model=model).recording.text


NAMES = ["a:b", "b!r", "c d", "d.e", "e[0]", "", "f\n", "0", ">10", '"q"', "é", "name!r:>9"]


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_a_column_of_any_name_can_be_named(model: Model, name: str) -> None:
    assert prompt_columns("Say {" + name + "}.") == [name]
    frame = pd.DataFrame({name: ["soup"], "other": ["tea"]})
    assert "Say soup." in str(frame.llm.preview("prompt", "Say {" + name + "}.", model=model))
    job = read_job(None, None, name, "other")
    assert job.reads == (name,)


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{{", "}}", "a } b {c}", "{a{b}}", "{a}}", "{{}", "no column"]
)
def test_braces_that_name_no_column_are_explained(template: str) -> None:
    with pytest.raises(FrameError, match=r"a brace itself as \{\{ or \}\}"):
        prompt_columns(template)


@pytest.mark.parametrize("name", ["{{", "}", "a{b", "a}b", "{", "{}"])
def test_a_column_with_a_brace_in_its_name_has_to_be_renamed(name: str) -> None:
    with pytest.raises(FrameError, match="has a brace has to be renamed first"):
        read_job(None, None, name, "answer")


def test_json_in_a_prompt_is_told_of_braces(model: Model) -> None:
    frame = pd.DataFrame({"text": ["soup"]})
    with pytest.raises(ColumnError, match=r"a brace itself is written \{\{ or \}\}"):
        frame.llm.prompt('Write {"dish": "name"} of {text}', into="out", model=model)
    with pytest.raises(ColumnError, match=r"no column 'text:>10'. Did you mean 'text'"):
        frame.llm.prompt("{text:>10}", into="out", model=model)


PIECES = ["a", "{{", "}}", "{x}", "{y z}", " ", "\n", ":", "!"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES)))
def test_it_reads_what_str_format_would(model: Model, pieces: list[str]) -> None:
    template = "".join(pieces) + "{x}"
    wanted = template.format_map({"x": "<x>", "y z": "<y z>"})
    fields = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    assert prompt_columns(template) == list(dict.fromkeys(fields))
    assert written(model, template, **{"x": "<x>", "y z": "<y z>"}) == wanted


def test_a_column_that_comes_twice_is_written_twice(model: Model) -> None:
    frame = pd.DataFrame({"a": ["one", "two"], "b": ["x", "y"]})
    asked = frame.llm.prompt("{a} {b} {a}", into="o", model=model, max_new_tokens=2)
    assert asked["o_error"].isna().all()
    assert "two y two" in asked.llm.explain(1, model=model).prompt.text


def test_numbers_of_numpy_are_read_too(model: Model) -> None:
    frame = pd.DataFrame({"n": np.array([2, 3], dtype=np.int8), "t": ["a", None]})
    assert "2 a" in str(frame.llm.preview("prompt", "{n} {t}", model=model))

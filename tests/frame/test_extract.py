"""What extraction asks and how it reads answers; that answers are valid is the grammar's test."""

import datetime
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import narwhals as nw
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel, Field

import nbllm  # noqa: F401  registers df.llm
from nbllm.engine.prompt import CompiledTemplate
from nbllm.errors import FrameError, LabelError, UnsupportedModelError
from nbllm.frame.columns import is_missing
from nbllm.frame.tasks.extract import extract, fields, parse, read_schema
from nbllm.models.model import Model


class Maker(BaseModel):
    name: str


class Purchase(BaseModel):
    product: str = Field(description="what was bought")
    price: float | None
    color: Literal["red", "blue"]
    pieces: int = 1
    day: datetime.date
    makers: list[Maker]
    maker: Maker


class Tree(BaseModel):
    name: str
    children: list["Tree"]


SHORT = {"product": str, "price": float | None, "color": Literal["red", "blue"]}
ANSWER = (
    '{"product":"pan","price":3,"color":"red","pieces":2.0,"day":"2026-01-02",'
    '"makers":[{"name":"Ä"}],"maker":{"name":"B"}}'
)


def shown(model: Model, **arguments: Any) -> str:
    task = extract(model, **arguments)
    prompt = CompiledTemplate(task.template, model.tokenizer).encode([["A red pan."]], limit=2000)
    return prompt[0].text


def test_a_pydantic_model_gives_a_column_a_field() -> None:
    schema = read_schema(Purchase)
    assert fields(schema) == {
        "product": nw.String,
        "price": nw.Float64,
        "color": nw.String,
        "pieces": nw.Int64,
        "day": nw.String,
        "makers": nw.String,
        "maker": nw.String,
    }
    Purchase.model_validate_json(ANSWER)
    assert parse(ANSWER, schema) == {
        "product": "pan",
        "price": 3.0,
        "color": "red",
        "pieces": 2,
        "day": "2026-01-02",
        "makers": '[{"name":"Ä"}]',
        "maker": '{"name":"B"}',
    }
    assert type(parse(ANSWER, schema)["pieces"]) is int
    assert type(parse(ANSWER, schema)["price"]) is float


def test_three_ways_to_say_the_same() -> None:
    class Said(BaseModel):
        product: str
        price: float | None
        color: Literal["red", "blue"]

    assert read_schema(SHORT) == read_schema(Said) == read_schema(Said.model_json_schema())
    assert read_schema(read_schema(SHORT)) == read_schema(SHORT)


def test_a_description_is_a_text_field_and_any_name_is_a_field() -> None:
    schema = read_schema({"unit price": "per piece", "title": Annotated[int, Field(ge=0)]})
    assert schema["properties"]["unit price"] == {"type": "string", "description": "per piece"}
    assert schema["properties"]["title"] == {"type": "integer", "minimum": 0}


def test_a_field_left_out_has_its_default() -> None:
    schema = read_schema(Purchase)
    answer = {k: v for k, v in json.loads(ANSWER).items() if k != "pieces"}
    assert parse(json.dumps(answer), schema)["pieces"] == 1
    bare = read_schema({"type": "object", "properties": {"a": {"type": "string"}}})
    assert parse("{}", bare) == {"a": None}


@pytest.mark.parametrize(
    ("part", "dtype", "value", "kept"),
    [
        ({"type": ["integer", "null"]}, nw.Int64, None, None),
        ({"enum": [1, 2]}, nw.Int64, 2, 2),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, nw.Float64, 2, 2.0),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, nw.String, 2, "2"),
        ({"type": "array", "items": {"type": "string"}}, nw.String, ["a"], '["a"]'),
        ({"const": True}, nw.Boolean, True, True),
    ],
)
def test_each_type_has_its_column(part: Any, dtype: Any, value: Any, kept: Any) -> None:
    schema = read_schema({"type": "object", "properties": {"x": part}})
    assert fields(schema) == {"x": dtype}
    assert parse(json.dumps({"x": value}), schema) == {"x": kept}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "names no fields"),
        ({"type": "object"}, "names no fields"),
        ({"type": "object", "properties": {}}, "names no fields"),
        ({"properties": {"x": {"type": "object"}}}, "names no fields"),
        ({"x": dict[str, int]}, "names no fields"),
        (["a"], "schema is a list"),
        (str, "schema is a type"),
        ({"x": 3}, "cannot be read"),
        ({1: str}, "1 is no name"),
        (Tree, "inside of itself"),
        ({"properties": {"x": {"$ref": "#/$defs/no"}}}, "which is not in it"),
        ({"properties": {"x": {"$ref": "http://a/b"}}}, "which is not in it"),
        ({"properties": {"x": {"not": {}}}}, "no grammar can be made"),
        ({"properties": {"x": "text"}}, "is no schema"),
        ({"type": "array", "properties": {"x": {}}}, "no object with named fields"),
    ],
)
def test_what_is_no_schema_says_why(schema: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        read_schema(schema)


def test_an_instruct_model_is_shown_fields_and_examples_as_turns(tiny_llama: Model) -> None:
    examples = [("A blue pot for 3.", {"price": 3, "product": "pot", "color": "blue"})]
    schema = {**SHORT, "product": "what was bought"}
    text = shown(tiny_llama, schema=schema, examples=examples)
    assert "- product (text): what was bought\n" in text
    assert "- price (number or null)\n" in text
    assert '- color ("red" or "blue")\n' in text
    assert '<|im_start|>assistant\n{"product":"pot","price":3,"color":"blue"}<|im_end|>' in text
    assert text.endswith("Text: A red pan.<|im_end|>\n<|im_start|>assistant\n")


def test_a_base_model_continues_a_plain_prompt(tiny_llama: Model) -> None:
    tiny_llama.tokenizer.chat_template = None
    examples = [("A blue pot.", {"product": "pot", "price": None, "color": "blue"})]
    text = shown(tiny_llama, schema=SHORT, examples=examples, instruction="Read.")
    assert text.removeprefix("<|im_start|>").startswith("Read.\n- product")
    assert text.endswith(
        'Text: A blue pot.\nJSON:\n{"product":"pot","price":null,"color":"blue"}\n\n'
        "Text: A red pan.\nJSON:\n"
    )


@pytest.mark.parametrize(
    "example",
    [
        ("A pot.", {"product": "pot", "price": "dear", "color": "blue"}),
        ("A pot.", {"product": "pot"}),
        ("A pot.", {"product": "pot", "price": 1, "color": "blue", "more": 1}),
        ("A pot.", "pot"),
        ("A pot.",),
    ],
)
def test_an_example_that_does_not_fit_is_refused(tiny_llama: Model, example: Any) -> None:
    with pytest.raises(FrameError, match=r"the (fields of the )?example"):
        extract(tiny_llama, schema=SHORT, examples=[example])


def test_the_order_of_fields_is_part_of_the_question(tiny_llama: Model) -> None:
    one = extract(tiny_llama, schema={"a": str, "b": str}).parameters()
    other = extract(tiny_llama, schema={"b": str, "a": str}).parameters()
    assert json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def test_an_encoder_cannot_extract(tiny_encoder: Model) -> None:
    with pytest.raises(UnsupportedModelError):
        extract(tiny_encoder, schema=SHORT)


def test_a_task_answers_rows_in_columns(tiny_llama: Model) -> None:
    task = extract(tiny_llama, schema=SHORT, max_new_tokens=60)
    asked = task.on(tiny_llama, 1000)
    answers = asked(asked.encode([("A red pan for 3.",), ("Blue.",)], truncate=False))
    columns = task.values(answers, None)
    assert [output.suffix for output in task.outputs] == ["", "_product", "_price", "_color"]
    assert [len(column) for column in columns] == [2, 2, 2, 2]
    assert columns[0] == answers and set(columns[3]) <= {"red", "blue"}


@pytest.mark.parametrize("module", [pd, pl])
def test_a_frame_gets_a_column_a_field(tiny_llama: Model, module: Any, tmp_path: Path) -> None:
    frame = module.DataFrame({"note": ["A red pan for 3.", None, "Blue."]})
    schema = {"count": int, "new": bool, "price": float, "color": Literal["red", "blue"]}
    answered = frame.llm.extract("note", schema, model=tiny_llama, max_new_tokens=80, ledger=False)
    answered.to_parquet(tmp_path / "a") if module is pd else answered.write_parquet(tmp_path / "a")
    for each in (answered, module.read_parquet(tmp_path / "a")):
        columns = {
            name: nw.from_native(each, eager_only=True)[f"note_extract_{name}"].to_list()
            for name in (*schema, "error")
        }
        for name, kind in (("count", int), ("new", bool), ("price", float), ("color", str)):
            first, blank, last = columns[name]
            assert isinstance(first, kind) and isinstance(last, kind) and is_missing(blank)
    for row in (0, 2):
        written = nw.from_native(answered, eager_only=True)["note_extract"][row]
        assert json.loads(written)["count"] == columns["count"][row]
    assert answered.llm.explain(2, model=tiny_llama).recording.text.endswith(written)


@pytest.mark.parametrize("name", ["error", "run"])
def test_a_field_called_as_a_column_of_the_run_is_refused(tiny_llama: Model, name: str) -> None:
    frame = pd.DataFrame({"note": ["A red pan for 3."]})
    with pytest.raises(LabelError, match=f"'{name}' wants the column note_extract_{name}"):
        frame.llm.extract("note", {name: int}, model=tiny_llama)

"""What extraction asks and how it reads answers; that answers are valid is the grammar's test."""

import datetime
import enum
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel, Field

import nbllm  # noqa: F401  registers df.llm
from nbllm.engine.prompt import CompiledTemplate
from nbllm.engine.structured.grammar import JsonGrammar, accepts
from nbllm.errors import FrameError, LabelError, UnsupportedModelError
from nbllm.frame.columns import is_missing
from nbllm.frame.running.provenance import find_record
from nbllm.frame.running.record_schema import record_fault
from nbllm.frame.tasks.fields import field_dtypes, normalize_schema, parse_answer
from nbllm.models.model import Model
from tests.asking import extract
from tests.conftest import tiny_model


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
    task = extract(model, grounded=False, **arguments)
    prompt = CompiledTemplate(task.template, model.tokenizer).encode([["A red pan."]], limit=2000)
    return prompt[0].text


def test_a_pydantic_model_gives_a_column_a_field() -> None:
    schema = normalize_schema(Purchase)
    assert field_dtypes(schema) == {
        "product": nw.String,
        "price": nw.Float64,
        "color": nw.String,
        "pieces": nw.Int64,
        "day": nw.String,
        "makers": nw.String,
        "maker": nw.String,
    }
    Purchase.model_validate_json(ANSWER)
    assert parse_answer(ANSWER, schema) == {
        "product": "pan",
        "price": 3.0,
        "color": "red",
        "pieces": 2,
        "day": "2026-01-02",
        "makers": '[{"name":"Ä"}]',
        "maker": '{"name":"B"}',
    }
    assert type(parse_answer(ANSWER, schema)["pieces"]) is int
    assert type(parse_answer(ANSWER, schema)["price"]) is float


def test_three_ways_to_say_the_same() -> None:
    class Said(BaseModel):
        product: str
        price: float | None
        color: Literal["red", "blue"]

    assert (
        normalize_schema(SHORT)
        == normalize_schema(Said)
        == normalize_schema(Said.model_json_schema())
    )
    assert normalize_schema(normalize_schema(SHORT)) == normalize_schema(SHORT)


def test_a_description_is_a_text_field_and_any_name_is_a_field() -> None:
    schema = normalize_schema({"unit price": "per piece", "title": Annotated[int, Field(ge=0)]})
    assert schema["properties"]["unit price"] == {"type": "string", "description": "per piece"}
    assert schema["properties"]["title"] == {"type": "integer", "minimum": 0}


def test_a_field_left_out_has_its_default() -> None:
    schema = normalize_schema(Purchase)
    answer = {k: v for k, v in json.loads(ANSWER).items() if k != "pieces"}
    assert parse_answer(json.dumps(answer), schema)["pieces"] == 1
    bare = normalize_schema({"type": "object", "properties": {"a": {"type": "string"}}})
    assert parse_answer("{}", bare) == {"a": None}


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
    schema = normalize_schema({"type": "object", "properties": {"x": part}})
    assert field_dtypes(schema) == {"x": dtype}
    assert parse_answer(json.dumps({"x": value}), schema) == {"x": kept}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


NAMED = {**closed(name={"type": "string"}), "required": ["name"]}


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        # Types that are named.
        ("int", {"type": "integer"}),
        ("integer", {"type": "integer"}),
        (" float ", {"type": "number"}),
        ("number", {"type": "number"}),
        ("str", {"type": "string"}),
        ("string", {"type": "string"}),
        ("bool", {"type": "boolean"}),
        ("date", {"type": "string", "format": "date"}),
        ("datetime.datetime", {"type": "string", "format": "date-time"}),
        ("int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Optional[float]", {"anyOf": [{"type": "number"}, {"type": "null"}]}),
        ("list[str]", {"type": "array", "items": {"type": "string"}}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        # Descriptions.
        ("the number of the order", {"type": "string", "description": "the number of the order"}),
        ("int or float", {"type": "string", "description": "int or float"}),
        ("red | blue", {"type": "string", "description": "red | blue"}),
        # Parts of a JSON schema.
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 1}),
        ({"type": ["integer", "null"]}, {"type": ["integer", "null"]}),
        ({"enum": ["red", "blue"]}, {"enum": ["red", "blue"]}),
        ({"const": True}, {"const": True}),
        ({"anyOf": [{"type": "null"}, {"const": 1}]}, {"anyOf": [{"type": "null"}, {"const": 1}]}),
        ({"type": "string", "description": "a word"}, {"type": "string", "description": "a word"}),
        ({"properties": {"name": {"type": "string"}}}, closed(name={"type": "string"})),
        # Fields inside.
        ({"name": str}, NAMED),
        ({"name": "str"}, NAMED),
        ({"name": {"type": "string"}}, NAMED),
        ({"type": str}, {**closed(type={"type": "string"}), "required": ["type"]}),
        (list[Maker], {"type": "array", "items": NAMED}),
    ],
    ids=str,
)  # fmt: skip
def test_each_way_to_say_a_field(kind: Any, part: Any) -> None:
    schema = normalize_schema({"x": kind, "y": int})
    assert schema == {**closed(x=part, y={"type": "integer"}), "required": ["x", "y"]}
    deeper = normalize_schema({"outer": {"x": kind, "y": int}})
    assert deeper["properties"]["outer"] == schema
    JsonGrammar(schema, tiny_model("causal").tokenizer, max_new_tokens=200)


@pytest.mark.parametrize(
    "kind",
    [
        "list", "dict", "list[thing]", "dict[str, int]", "Literal['a', 'b']", "timedelta", "Any",
        "", "  ", "\u200b", {}, {"type": "int"}, {"type": "text", "description": "a word"},
        {"title": "a title"}, {"type": ["int"]}, {"enum": "red"}, [], [str], ["red", "blue"], 3,
        1.5, b"x", {"a"}, ..., (1, 2), np.int64, np.dtype("int64"), type, dict, bytes,
        {"x": {"y": {}}}, {1: str}, {"$ref": "#/$defs/no"}, {"type": "string", "format": "binary"},
        {"not": {}}, {"type": "object"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_field_says_why(kind: Any) -> None:
    with pytest.raises(FrameError) as refused:
        normalize_schema({"x": kind, "y": int})
    assert len(str(refused.value)) > 30


def test_a_schema_of_no_object_is_not_taken_for_fields() -> None:
    with pytest.raises(FrameError, match="no object with named fields"):
        normalize_schema({"type": "string"})
    fields_too = normalize_schema({"type": "what kind of thing", "size": int})
    assert list(fields_too["properties"]) == ["type", "size"]
    for named in (
        {"type": "string", "size": int},
        {"items": {"name": str, "price": float}},
        {"items": {"name": "what was bought"}, "default": "a word"},
        {"properties": {"area": float}},
        {"enum": "which of them"},
        {"required": bool, "pattern": "of the cloth"},
    ):
        assert list(normalize_schema(named)["properties"]) == list(named)
    inner = normalize_schema({"order": {"items": {"name": str}}})["properties"]["order"]
    assert list(inner["properties"]) == ["items"]
    book = {"title": "of the book", "description": "what it is about", "format": "hard or soft"}
    assert list(normalize_schema(book)["properties"]) == list(book)


@pytest.mark.parametrize(
    "kind",
    [
        datetime.timedelta, datetime.date, datetime.time, datetime.datetime, uuid.UUID, Decimal,
        {"type": "string", "format": "email"}, {"type": "string", "format": "ipv4"},
        {"type": "string", "pattern": "^(ab)+c$"}, {"type": "string", "pattern": r"^\d{3}-\d{4}$"},
        list[datetime.timedelta],
    ],
    ids=str,
)  # fmt: skip
def test_each_format_can_be_written_to_its_end(kind: Any) -> None:
    schema = normalize_schema({"x": kind})
    grammar = JsonGrammar(schema, tiny_model("causal").tokenizer, max_new_tokens=60)
    assert accepts(schema, grammar.tokenizer.decode_str(grammar.shortest_completion))


def test_a_pattern_without_an_end_is_not_laid_at_the_models_door(tiny_llama: Model) -> None:
    schema = normalize_schema({"x": {"type": "string", "pattern": "^[PQ][^0]+Z$"}})
    with pytest.raises(FrameError, match=r"no end was found.*pattern") as refused:
        JsonGrammar(schema, tiny_llama.tokenizer, max_new_tokens=60)
    assert "another model" not in str(refused.value)


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        (int, np.int64(3), "3"),
        (int, pd.Series([3])[0], "3"),
        (float, np.float32(2.5), "2.5"),
        (bool, np.bool_(True), "true"),
        (str, np.str_("soup"), '"soup"'),
        (list[int], np.array([1, 2]), "[1,2]"),
        (list[int], (1, np.int8(2)), "[1,2]"),
        (float | None, float("nan"), "null"),
        (float | None, pd.NA, "null"),
        (str | None, pd.NaT, "null"),
        (datetime.date, datetime.date(2026, 1, 2), '"2026-01-02"'),
        (datetime.date, np.datetime64("2026-01-02"), '"2026-01-02"'),
        (str, datetime.date(2026, 1, 2), '"2026-01-02"'),
        (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4), '"2026-01-02T03:04:00Z"'),
        (datetime.datetime, pd.Timestamp("2026-01-02 03:04"), '"2026-01-02T03:04:00Z"'),
        (datetime.datetime, np.datetime64("2026-01-02T03:04", "ns"), '"2026-01-02T03:04:00Z"'),
        (datetime.datetime, pd.Timestamp("2026-01-02 03:04+01:00"), '"2026-01-02T03:04:00+01:00"'),
        (datetime.time, datetime.time(3, 4), '"03:04:00Z"'),
        (Literal["red", "blue"], Color.RED, '"red"'),
        ({"name": str}, {"name": np.str_("B")}, '{"name":"B"}'),
        (Maker, Maker(name="B"), '{"name":"B"}'),
    ],
)
def test_the_values_of_examples_as_frames_hold_them(
    tiny_llama: Model, kind: Any, value: Any, written: str
) -> None:
    text = shown(tiny_llama, schema={"x": kind}, examples=[("A pot.", {"x": value})])
    assert '<|im_start|>assistant\n{"x":' + written + "}<|im_end|>" in text


@pytest.mark.parametrize(
    "value",
    [datetime.timedelta(1), np.timedelta64(1, "D"), np.timedelta64(1, "ns"), b"x", {"a"},
     float("inf"), 1j, object(), pd.Timedelta(1, "D")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_that_json_has_not_is_refused(tiny_llama: Model, value: Any) -> None:
    for kind in (str, float | None, datetime.timedelta):
        with pytest.raises(FrameError, match="which JSON cannot hold"):
            extract(tiny_llama, schema={"x": kind}, examples=[("A pot.", {"x": value})])


def test_an_example_may_be_an_object_of_the_model(tiny_llama: Model) -> None:
    as_dict = shown(tiny_llama, schema=Maker, examples=[("By B.", {"name": "B"})])
    assert shown(tiny_llama, schema=Maker, examples=[("By B.", Maker(name="B"))]) == as_dict


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "names no fields"),
        ({"type": "object"}, "names no fields"),
        ({"type": "object", "properties": {}}, "names no fields"),
        ({"properties": {"x": {"type": "object"}}}, "names no fields"),
        ({"x": dict[str, int]}, "names no fields"),
        (["a"], "schema=.* names no fields"),
        (str, "schema=.* names no fields"),
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
        normalize_schema(schema)


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
    task = extract(tiny_llama, schema=SHORT, max_new_tokens=60, grounded=False)
    asked = task.bind(tiny_llama, 1000)
    answers = asked(asked.encode([("A red pan for 3.",), ("Blue.",)], truncate=False))
    columns = task.decode(answers, None)
    assert [output.suffix for output in task.outputs] == ["", "_product", "_price", "_color"]
    assert [len(column) for column in columns] == [2, 2, 2, 2]
    assert columns[0] == answers and set(columns[3]) <= {"red", "blue"}


@pytest.mark.parametrize("grounded", [True, False])
@pytest.mark.parametrize("module", [pd, pl])
def test_a_frame_gets_a_column_a_field(
    tiny_llama: Model, module: Any, grounded: bool, tmp_path: Path
) -> None:
    frame = module.DataFrame({"note": ["A red pan for 3.", None, "2 blue."]})
    schema = {"count": int, "new": bool, "price": float, "color": Literal["red", "blue"]}
    answered = frame.llm.extract(
        "note", schema, model=tiny_llama, max_new_tokens=80, grounded=grounded, ledger=False
    )
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
    shown = answered.llm.explain(2, model=tiny_llama).recording.text
    assert shown.endswith("Text: 2 blue." if grounded else written)


@pytest.mark.parametrize("name", ["error", "run"])
def test_a_field_called_as_a_column_of_the_run_is_refused(tiny_llama: Model, name: str) -> None:
    frame = pd.DataFrame({"note": ["A red pan for 3."]})
    with pytest.raises(LabelError, match=f"'{name}' wants the column note_extract_{name}"):
        frame.llm.extract("note", {name: int}, model=tiny_llama)


def test_a_decimal_is_a_number() -> None:
    assert normalize_schema({"price": Decimal})["properties"]["price"] == {"type": "number"}


def test_the_record_of_several_fields_is_valid(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"text": ["My order 4711 came late to Leeds."]})
    answered = frame.llm.extract("text", {"order": str, "city": str}, model=tiny_llama)
    record = find_record(answered["text_extract_run"].iloc[0], answered)
    assert len(record["offset"]) == 2
    assert record_fault(record) is None

"""Fields that are spans of the text, one of a set of values, or null."""

import datetime
import json
from math import exp
from typing import Any, Literal

import pandas as pd
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.engine.prompt import CompiledTemplate, Prompt
from nbllm.errors import FrameError, LabelError
from nbllm.frame.columns import is_missing
from nbllm.frame.tasks import bound_grounded
from nbllm.frame.tasks.fields import FieldsTask, normalize_schema
from nbllm.frame.tasks.grounded import GroundedTask, grounded_template
from nbllm.frame.tasks.grounded_fields import can_be_grounded
from nbllm.models.model import Model
from tests.asking import extract

TEXTS = [
    "My order 113542 of 3 red pans cost 40.5 euros.",
    "Nothing to report",
    'She wrote "none", twice.',
    "送货到上海，谢谢。",
]
SCHEMA = {
    "order_id": str | None,
    "buyer": str,
    "pieces": int | None,
    "price": float,
    "color": Literal["red", "blue"],
    "urgent": bool | None,
}


def rows(model: Model, texts: list[str], schema: Any, **options: Any) -> list[dict[str, Any]]:
    frame = pd.DataFrame({"t": texts})
    answered = frame.llm.extract("t", schema, model=model, ledger=False, **options)
    assert answered["t_extract_error"].isna().all()
    return [json.loads(answer) for answer in answered["t_extract"]]


def test_no_value_is_invented(tiny_llama: Model) -> None:
    for text, row in zip(TEXTS, rows(tiny_llama, TEXTS, SCHEMA), strict=True):
        assert list(row) == list(SCHEMA)
        for name in ("order_id", "buyer"):
            assert row[name] is None or row[name] in text
        assert row["buyer"] is not None  # null is not offered
        assert row["pieces"] in (None, 113542, 3)
        # Null is not offered, and is all there is where the text has no number.
        assert row["price"] in ((113542, 3, 40.5) if text == TEXTS[0] else (None,))
        assert row["color"] in ("red", "blue") and row["urgent"] in (True, False, None)


def test_null_is_what_calibration_says(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"order_id": str | None, "buyer": str}
    monkeypatch.setattr(bound_grounded, "MARGIN", 1000.0)
    assert all(row["order_id"] is None for row in rows(tiny_llama, TEXTS, schema))
    monkeypatch.setattr(bound_grounded, "MARGIN", -1000.0)
    assert all(row["order_id"] is not None for row in rows(tiny_llama, TEXTS, schema))
    # The margin is part of the question, so that answers on file are not reused.
    margin = extract(tiny_llama, schema=schema).parameters()
    monkeypatch.setattr(bound_grounded, "MARGIN", 3.0)
    assert extract(tiny_llama, schema=schema).parameters() != margin


def test_a_row_is_answered_as_alone(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound_grounded, "MOST_STARTS", 4)  # long texts are read in two passes
    together = rows(tiny_llama, TEXTS, SCHEMA)
    assert together == [rows(tiny_llama, [text], SCHEMA)[0] for text in TEXTS]
    assert together[::-1] == rows(tiny_llama, TEXTS[::-1], SCHEMA)


def test_fewer_starts_keep_the_likeliest_span(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = extract(tiny_llama, schema={"buyer": str})
    bound = task.bind(tiny_llama, 1000)
    prompts = bound.encode([(" ".join(TEXTS[:2]),)], truncate=False)
    candidates = bound._candidates(" ".join(TEXTS[:2]), any_span=False)
    monkeypatch.setattr(bound_grounded, "MOST_STARTS", 3)
    bound._prune(prompts, [candidates])
    assert len(bound._starts(candidates[0])) == 3
    words, start, end, _, share = bound(prompts)[0][0]
    assert prompts[0].source[start:end] == words and share <= 0


def test_a_text_that_is_cut_gives_no_span_of_what_was_not_read(tiny_llama: Model) -> None:
    task = extract(tiny_llama, schema={"buyer": str})
    own = CompiledTemplate(task.template, tiny_llama.tokenizer).own_length
    bound = task.bind(tiny_llama, own + 6)
    [prompt] = bound.encode([("one two three four five " * 9 + "Zoltan",)], truncate=True)
    assert prompt.source and ("one two three four five " * 9).startswith(prompt.source)


def test_a_span_is_the_value_of_one_field(tiny_llama: Model) -> None:
    def values(*answers: Any, **kinds: Any) -> tuple[dict[str, Any], list[float]]:
        schema = normalize_schema(kinds)
        asked = GroundedTask(
            "extract", grounded_template(tiny_llama, schema, None, []), schema, True
        )
        columns = asked.decode([list(answers)], [0.0] * len(kinds))
        return json.loads(columns[0][0]), [column[0] for column in columns[2::2]]

    first, second = ["66-4012", 8, 15, 2.0, 0.0], ["booking 66-4012", 0, 15, 3.0, 0.0]
    apart = ["Leeds", 19, 24, 1.0, 0.0]
    nullable = {"a": str | None, "b": str | None, "c": str | None}
    found, scores = values(first, second, apart, **nullable)
    assert found == {"a": None, "b": "booking 66-4012", "c": "Leeds"}
    # Odds of e to 1 for the other field.
    assert scores[0] == pytest.approx(1 / (1 + exp(-1)))
    assert values(first, second, apart, **nullable | {"a": str})[0]["a"] == "66-4012"
    assert values(first, ["66-4012", 8, 15, 1.0, 0.0], apart, **nullable)[0]["b"] is None


def test_scores_on_request(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"t": [*TEXTS, None]})
    schema = {"order_id": str | None, "color": Literal["red", "blue"], "price": float | None}
    answered = frame.llm.extract("t", schema, model=tiny_llama, scores=True, ledger=False)
    for name in schema:
        scores = answered[f"t_extract_{name}_score"]
        assert scores[:4].between(0, 1).all() and is_missing(scores[4])
    assert (answered["t_extract_color_score"][:4] >= 0.5).all()
    assert answered["t_extract_price_score"][1] == 1  # a text without a number
    plain = frame.llm.extract("t", schema, model=tiny_llama, ledger=False)
    assert not [name for name in plain.columns if name.endswith("score")]
    assert plain["t_extract"].equals(answered["t_extract"])
    with pytest.raises(FrameError, match="generated"):
        frame.llm.extract("t", schema, model=tiny_llama, grounded=False, scores=True)
    with pytest.raises(LabelError, match="color_score"):
        frame.llm.extract("t", {**schema, "color_score": str}, model=tiny_llama, scores=True)


@pytest.mark.parametrize(
    ("part", "can"),
    [
        (str, True), (str | None, True), (int, True), (float | None, True), (bool | None, True),
        (datetime.date | None, True), (Literal["a", "b"] | None, True),
        ({"enum": ["a", None]}, True),
        ({"const": 1}, True), ({"type": ["string", "null"]}, True), ("what was bought", True),
        ({"type": "string", "pattern": "^a"}, True), ({"type": "integer", "minimum": 1}, True),
        (list[str], False), ({"name": str}, False), (datetime.datetime, False), (int | str, False),
        ({"type": "string", "format": "email"}, False),
        ({"type": "integer", "multipleOf": 5}, False),
        ({"enum": ["none", "a"]}, False), ({"enum": ["1", 1]}, False),
        ({"enum": ['"', "a"]}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_be_read_from_a_text(tiny_llama: Model, part: Any, can: bool) -> None:
    schema = {"x": part, "y": str}
    assert can_be_grounded(normalize_schema(schema)) == can
    assert isinstance(extract(tiny_llama, schema=schema), GroundedTask if can else FieldsTask)
    assert isinstance(extract(tiny_llama, schema=schema, grounded=False), FieldsTask)


def test_bounds_dates_and_defaults(tiny_llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Bought 3 pans on 4 June 2026 for 250 euros"
    schema = {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "many": {"type": "integer", "minimum": 10},
            "word": {"type": "string", "pattern": "^p"},
            "pieces": {"type": "integer", "default": 1},
        },
        "required": ["day", "many", "word"],
    }
    monkeypatch.setattr(bound_grounded, "MARGIN", 1000.0)
    frame = pd.DataFrame({"t": [text]})
    answered = frame.llm.extract("t", schema, model=tiny_llama, ledger=False)
    row = json.loads(answered["t_extract"][0])
    assert row["day"] == "2026-06-04" and row["many"] in (2026, 250)
    assert row["word"].startswith("pans")
    assert "pieces" not in row and answered["t_extract_pieces"][0] == 1


def test_fields_of_like_names_are_told_apart(tiny_llama: Model) -> None:
    [row] = rows(tiny_llama, TEXTS[:1], {"order_id": str, "order id": str, "detail": str})
    assert all(value in TEXTS[0] for value in row.values())


def test_examples_and_descriptions_are_in_the_prompt(tiny_llama: Model) -> None:
    schema = {"order_id": {"type": "string", "description": "of the shop"}, "new": bool | None}
    task = extract(
        tiny_llama,
        schema=schema,
        examples=[("It is A7.", {"order_id": "A7", "new": True})],
        instruction="Read.",
    )
    prompt = CompiledTemplate(task.template, tiny_llama.tokenizer).encode([["x"]], limit=2000)[0]
    assert isinstance(prompt, Prompt)
    assert 'Text: It is A7.\nThe order id (of the shop) is "A7".\n\n' in prompt.text
    assert 'Text: It is A7.\nThe new is "yes".\n\n' in prompt.text
    assert "Read.\n\nText: " in prompt.text and prompt.text.endswith("Text: x")


@pytest.mark.parametrize(
    "value",
    [None, [], [[1.0, 2.0]], [["x", 0, 1, 0.0], [0.0, 0.0]], [["x", 0, 1, "y", 0.0], [0.0, 0.0]],
     [["x", 0.5, 1, 0.0, 0.0], [0.0, 0.0]], [[None, 0, 1, 0.0, 0.0], [0.0, 0.0]],
     [["x", 0, 1, 0.0, 0.0], [0.0]]],
    ids=str,
)  # fmt: skip
def test_what_is_no_answer_on_file(tiny_llama: Model, value: Any) -> None:
    task = extract(tiny_llama, schema={"a": str, "b": bool})
    assert task.is_answer([["x", 0, 1, 0.0, -0.5], [0.0, 0.0]])
    assert task.is_answer([[None] * 5, [0.0, 0.0]])
    assert not task.is_answer(value)


def test_what_rounding_could_decide_is_asked_alone(tiny_llama: Model) -> None:
    bound = extract(tiny_llama, schema={"a": str | None, "b": bool}).bind(tiny_llama, 1000)
    sure, near = ["x", 0, 1, 9.0, -0.01], ["x", 0, 1, 0.5, -0.01]
    rival, absent = ["x", 0, 1, 9.0, -0.6], ["x", 0, 1, -9.0, -0.6]
    for span, choice, close in [
        (sure, [0.0, 9.0], False), (near, [0.0, 9.0], True), (rival, [0.0, 9.0], True),
        (absent, [0.0, 9.0], False), (sure, [0.0, 0.1], True), ([None] * 5, [0.0, 9.0], False),
    ]:  # fmt: skip
        assert bound._is_close([span, choice], 0.16) == close

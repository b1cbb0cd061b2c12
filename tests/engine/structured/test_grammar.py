"""JSON of a schema from random models, read by jsonschema and not by what wrote it."""

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
import torch

from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import CompiledTemplate, Part, Prompt, plain
from nbllm.engine.structured.grammar import JsonGrammar, accepts, check_schema
from nbllm.errors import FrameError, UnsupportedModelError
from nbllm.models.model import Model

WORDS = "The soup was cold and nobody came. Er kam spät an. 房间很干净。 "


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
SCHEMAS = {
    "text": record(x=TEXT),
    "three": record(
        product=TEXT,
        price={"anyOf": [{"type": "number"}, {"type": "null"}]},
        color={"enum": ["red", "blue", 'a "quoted" one']},
    ),
    "numbers": record(
        n={"type": "integer"},
        x={"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        y={"type": "integer", "maximum": -5},
        z={"type": "number", "exclusiveMaximum": 0, "minimum": -1},
        yes={"type": "boolean"},
    ),
    "list": record(tags={"type": "array", "items": TEXT, "minItems": 2}, last=TEXT),
    "nested": record(
        items={
            "type": "array",
            "items": record(name=TEXT, sizes={"type": "array", "items": {"type": "integer"}}),
        },
        maker=record(name=TEXT, since={"type": ["integer", "null"]}),
    ),
    "forms": record(
        day={"type": "string", "format": "date"},
        code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        long={"type": "string", "minLength": 7},
    ),
    "optional": {**record(a=TEXT, b={"type": "integer"}), "required": ["b"]},
    "unicode": record(**{"größe": TEXT, "二": {"enum": ["大", "小"]}}),
}


def prompts_of(model: Model, texts: list[str]) -> tuple[tuple[int, ...], list[Prompt]]:
    parts = [Part("text", "Extract this: "), Part("field", "text")]
    compiled = CompiledTemplate(plain(model.tokenizer, parts), model.tokenizer)
    return compiled.prefix_ids, compiled.encode([[text] for text in texts], limit=2000)


def shortest(model: Model, schema: Mapping[str, Any]) -> int:
    return len(JsonGrammar(schema, model.tokenizer, max_new_tokens=2000).shortest_completion)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("spare", [0, 1, 40])
def test_a_random_model_writes_valid_json_in_any_budget(
    tiny_llama: Model, schema: dict[str, Any], spare: int
) -> None:
    prefix, prompts = prompts_of(tiny_llama, [WORDS[n:] for n in range(4)])
    budget = shortest(tiny_llama, schema) + spare
    answers = TextGenerator(tiny_llama, prefix, max_new_tokens=budget, schema=schema)(prompts)
    for answer in answers:
        jsonschema.validate(json.loads(answer), schema, cls=jsonschema.Draft202012Validator)
        assert answer == answer.encode().decode()


def test_with_room_the_random_model_decides_what_is_written(tiny_llama: Model) -> None:
    prefix, prompts = prompts_of(tiny_llama, [WORDS[n:] for n in range(4)])
    schema = SCHEMAS["three"]
    answers = TextGenerator(tiny_llama, prefix, max_new_tokens=80, schema=schema)(prompts)
    assert len(set(answers)) > 1
    assert all(len(answer) > len('{"product":"","price":0,"color":"red"}') for answer in answers)


def test_a_row_says_in_a_batch_what_it_says_alone(tiny_llama: Model) -> None:
    prefix, prompts = prompts_of(tiny_llama, ["one", WORDS, WORDS * 3])
    generator = TextGenerator(tiny_llama, prefix, max_new_tokens=40, schema=SCHEMAS["three"])
    assert generator(prompts) == [generator([prompt])[0] for prompt in prompts]


def test_the_likeliest_allowed_token_is_written(tiny_llama: Model) -> None:
    grammar = JsonGrammar(SCHEMAS["three"], tiny_llama.tokenizer, max_new_tokens=60)
    constraint = grammar.constraint(1, filler=2)
    ids = tiny_llama.tokenizer('{"product":"so', add_special_tokens=False).input_ids
    wider = len(tiny_llama.tokenizer) + 5  # networks pad their vocabulary
    for token in ids:
        scores = torch.zeros(1, wider)
        scores[0, token], scores[0, -1] = 5.0, 9.0
        assert constraint(torch.empty(0), scores).argmax().item() == token
    assert constraint.texts() == ['{"product":"so']


def test_not_a_number_in_the_scores_still_gives_json(tiny_llama: Model) -> None:
    grammar = JsonGrammar(SCHEMAS["three"], tiny_llama.tokenizer, max_new_tokens=60)
    constraint = grammar.constraint(2, filler=2)
    scores = torch.full((2, len(tiny_llama.tokenizer)), torch.nan)
    scores[1] = -torch.inf
    for _ in range(60):
        constraint(torch.empty(0), scores)
    for answer in constraint.texts():
        jsonschema.validate(json.loads(answer), SCHEMAS["three"])


def test_numbers_fit_a_column(tiny_llama: Model) -> None:
    """A model that repeats a digit does so to the end, which Int64 would not hold."""
    grammar = JsonGrammar(SCHEMAS["numbers"], tiny_llama.tokenizer, max_new_tokens=300)
    constraint = grammar.constraint(1, filler=2)
    nine = tiny_llama.tokenizer("9", add_special_tokens=False).input_ids[0]
    scores = torch.zeros(1, len(tiny_llama.tokenizer))
    scores[0, nine] = 1.0
    for _ in range(300):
        constraint(torch.empty(0), scores)
    assert json.loads(constraint.texts()[0])["n"] == 10**15 - 1


def test_one_field_leaves_room_to_the_others(tiny_llama: Model) -> None:
    """A model that never ends a string fills the first one only up to its share."""
    schema = record(a=TEXT, b=TEXT)
    grammar = JsonGrammar(schema, tiny_llama.tokenizer, max_new_tokens=200)
    constraint = grammar.constraint(1, filler=2)
    the = tiny_llama.tokenizer(" the", add_special_tokens=False).input_ids[0]
    scores = torch.zeros(1, len(tiny_llama.tokenizer))
    scores[0, the] = 1.0
    for _ in range(200):
        constraint(torch.empty(0), scores)
    answer = json.loads(constraint.texts()[0])
    assert 390 < len(answer["a"]) <= 400
    assert len(answer["b"]) > 100


def test_no_room_for_any_answer_is_said_before_the_run(tiny_llama: Model) -> None:
    least = shortest(tiny_llama, SCHEMAS["three"])
    with pytest.raises(FrameError, match=f"takes {least} tokens, and max_new_tokens={least - 1}"):
        TextGenerator(tiny_llama, (), max_new_tokens=least - 1, schema=SCHEMAS["three"])


def test_a_tokenizer_that_cannot_write_json_is_refused() -> None:
    from tests.conftest import word_tokenizer

    with pytest.raises(UnsupportedModelError):
        JsonGrammar(record(größe=TEXT), word_tokenizer(), max_new_tokens=60)


@pytest.mark.parametrize(
    "part",
    [
        {"not": {"type": "string"}},
        {"type": "foo"},
        {"type": "array", "items": TEXT, "uniqueItems": True},
        {"type": "string", "format": "isbn"},
        {"type": "string", "minLength": 5, "maxLength": 2},
    ],
)
def test_what_no_grammar_can_hold_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(FrameError, match="no grammar can be made of the schema"):
        check_schema(record(x=part))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('{"product":"a","price":null,"color":"red"}', True),
        ('{"product":"a","price":null,"color":"green"}', False),
        ('{"product":"a","price":null}', False),
        ('{"product":"a","price":null,"color":"red"', False),
        ("[]", False),
    ],
)
def test_a_text_is_checked_against_a_schema(text: str, fits: bool) -> None:
    assert accepts(SCHEMAS["three"], text) is fits

"""The TypeScript half of the widget protocol is what the generator makes of the Python half."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NotRequired, TypedDict, get_type_hints, is_typeddict

import pytest

from nbllm.widgets.protocol import attention, explorer

SCRIPT = Path(__file__).parents[2] / "tools" / "generate_protocol.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protocol", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_file_is_what_the_generator_writes(generator: ModuleType) -> None:
    written = generator.TARGET.read_text(encoding="utf-8")
    assert written == generator.typescript(), "run python tools/generate_protocol.py"


class Other(TypedDict):
    a: int


Named = Literal["x", "y"]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, "string"),
        (float, "number"),
        (bool, "boolean"),
        (Any, "unknown"),
        (int | None, "number | null"),
        (list[str], "string[]"),
        (list[str | None], "(string | null)[]"),
        (list[list[str | None]], "((string | null)[])[]"),
        (tuple[str, int], "[string, number]"),
        (dict[str, dict[str, int]], "Record<string, Record<string, number>>"),
        (Literal["a", 1], '"a" | 1'),
        (list[Named], "Named[]"),
        (Other | None, "Other | null"),
    ],
)
def test_a_type(generator: ModuleType, hint: Any, expected: str) -> None:
    assert generator._type(hint, {Other: "Other", Named: "Named"}) == expected


def test_a_type_without_a_translation_is_refused(generator: ModuleType) -> None:
    with pytest.raises(TypeError, match="bytes"):
        generator._type(bytes, {})


class Message(TypedDict):
    """What it
    says."""

    needed: int
    other: NotRequired[list[Other]]


def test_a_field_that_may_be_missing_is_optional(generator: ModuleType) -> None:
    assert generator._interface("Message", Message, {Other: "Other"}) == (
        "/** What it says. */\n"
        "export interface Message {\n  needed: number;\n  other?: Other[];\n}\n"
    )


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        (attention.AttentionAnswers, attention.AttentionRequest),
        (explorer.ExplorerAnswers, explorer.ExplorerRequest),
    ],
)
def test_each_kind_of_request_has_an_answer(answers: Any, requests: Any) -> None:
    kinds = [get_type_hints(one)["kind"].__args__ for one in requests.__args__]
    assert [kind for [kind] in kinds] == list(get_type_hints(answers))


def test_all_messages_are_written(generator: ModuleType) -> None:
    for module in generator.MODULES:
        found = {name for name, value in vars(module).items() if is_typeddict(value)}
        assert {name for name in found - {"NoContent"} if name[0] != "_"} <= set(module.__all__)

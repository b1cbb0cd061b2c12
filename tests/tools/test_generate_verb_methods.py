"""The written-out methods are what the verbs say, and every argument is documented."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from nbllm.accessor import FrameAccessor
from nbllm.frame.calls.registry import built_in, find_verb

SCRIPT = Path(__file__).parents[2] / "tools" / "generate_verb_methods.py"


def test_the_file_is_what_the_verbs_make(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("generate_verb_methods", SCRIPT)
    assert spec and spec.loader
    generator = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, generator)  # where its dataclasses look for it
    spec.loader.exec_module(generator)
    written = generator.TARGET.read_text(encoding="utf-8")
    assert written == generator.formatted(generator.source()), f"run python tools/{SCRIPT.name}"


@pytest.mark.parametrize("name", [name for name in dir(FrameAccessor) if not name.startswith("_")])
def test_every_argument_is_in_the_docstring(name: str) -> None:
    method = getattr(FrameAccessor, name)
    documented = inspect.getdoc(method) or ""
    _, _, arguments = documented.partition("Args:")
    for parameter in list(inspect.signature(method).parameters)[1:]:
        assert f"    {parameter}: " in arguments, parameter


@pytest.mark.parametrize("name", built_in())
def test_signatures_are_those_of_the_options(name: str) -> None:
    verb = find_verb(name)
    parameters = inspect.signature(getattr(FrameAccessor, name)).parameters
    options = [*inspect.signature(verb.options).parameters]
    assert set(parameters) == {"self", verb.subject, *options, *verb.settings}

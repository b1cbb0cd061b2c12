"""The written-out methods are what the verbs say, and every argument is documented."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from nbllm.accessor import FrameAccessor
from nbllm.frame.calls.registry import built_in, find_verb

ROOT = Path(__file__).parents[2]
# Where a verb's name stands for something else, or is an example in a message.
SPELLED = {
    "nbllm/frame/comparison/runs.py",  # what is compared where nothing is said
    "nbllm/train/",  # what a model may be trained for
}


def test_the_file_is_what_the_verbs_make() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tools')\n"
        "from generate_verb_methods import TARGET, formatted, source\n"
        "assert TARGET.read_text(encoding='utf-8') == formatted(source()), "
        "'run python tools/generate_verb_methods.py'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


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

"""The public names of nbllm.attention: all there, none in the way of a module, none heavy."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nbllm.attention


@pytest.mark.parametrize("name", nbllm.attention.__all__)
def test_every_public_name_is_there(name) -> None:
    assert not isinstance(getattr(nbllm.attention, name), ModuleType)
    # A module of that name would take its place as soon as it is imported.
    assert not (Path(nbllm.attention.__file__).parent / f"{name}.py").exists()


def test_what_is_listed_is_what_is_found() -> None:
    assert nbllm.attention.__all__ == sorted(nbllm.attention._WHERE)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = nbllm.attention.no_such_name


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = "import nbllm.attention, sys; print({'torch', 'pandas', 'numpy'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"

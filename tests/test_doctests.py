"""The examples in docstrings do what they say.

`pytest --doctest-modules nbllm` would do, but each worker of xdist would import the whole package
to collect them.
"""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import nbllm

PACKAGE = Path(nbllm.__file__).parent


def _dotted(path: Path) -> str:
    inside = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(inside.parts).removesuffix(".__init__")


SOURCES = {_dotted(path): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
WITH_EXAMPLES = sorted(name for name, source in SOURCES.items() if ">>> " in source)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_do_what_they_say(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLLM_DATA", raising=False)  # a user's data sets come before ours
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = 0
    for documented in doctest.DocTestFinder().find(import_module(module)):
        found += len(documented.examples)
        for example in documented.examples:  # those that need a model are read, not run
            compile(example.source, documented.name, "exec")
        runner.run(documented)
    assert runner.summarize(verbose=False).failed == 0
    written = len(re.findall(r"^ *>>> ", SOURCES[module], re.MULTILINE))
    assert found == written, "an example that doctest does not find is never run"

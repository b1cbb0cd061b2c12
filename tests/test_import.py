"""`import nbllm` is cheap, and `df.llm` is there in either order of imports."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

HEAVY = {"torch", "transformers", "pandas", "polars", "plotly", "anywidget", "IPython", "numpy"}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "nbllm says what it decides, and libraries below it say nothing"
    return done.stdout.strip()


def test_import_takes_at_most_100_ms() -> None:
    # Processor time, and the best of several: what else the machine is doing is not nbllm's.
    timed = (
        "import time; start = time.process_time(); import nbllm; print(time.process_time() - start)"
    )
    assert min(float(python(timed)) for _ in range(5)) <= 0.100


def test_import_loads_nothing_heavy() -> None:
    loaded = json.loads(python("import json, sys, nbllm; print(json.dumps(list(sys.modules)))"))
    assert HEAVY.isdisjoint(name.partition(".")[0] for name in loaded)


@pytest.mark.parametrize("frames", ["pandas", "polars"])
@pytest.mark.parametrize("nbllm_first", [True, False])
def test_accessor_is_there_whichever_was_imported_first(frames: str, nbllm_first: bool) -> None:
    order = ["nbllm", frames] if nbllm_first else [frames, "nbllm"]
    said = python(
        f"import {order[0]}\nimport {order[1]}\n"
        f"frame = {frames}.DataFrame({{'text': ['fine']}})\n"
        f"print(callable(frame.llm.sentiment))"
    )
    assert said == "True"


def test_every_public_name_is_there() -> None:
    missing = python(
        "import nbllm; print([n for n in nbllm.__all__ if getattr(nbllm, n, None) is None])"
    )
    assert missing == "[]"


def test_transformers_comes_in_without_its_talk_by_either_way() -> None:
    # The names above begin with those of nbllm.attention; the verbs have a way of their own.
    assert python("from nbllm import compare; print(compare.__name__)") == "compare"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AssertionError, match="has no attribute 'no_such_name'"):
        python("import nbllm; nbllm.no_such_name")

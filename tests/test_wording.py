"""No message says "1 rows" or "a encoder": counts and articles have one function each."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbllm
from nbllm.wording import (
    byte_size,
    counted,
    duration,
    rate,
    rough_duration,
    with_article,
)

PACKAGE = Path(nbllm.__file__).parent

NOUNS = re.compile(
    r"^ (?:more |long |blank |special )?"
    r"(?:answers|batches|bytes|cells|columns|dimensions|duplicates|files|heads|items|keys|labels|languages|layers|levels|others|parts|queries|rows|runs|steps"
    r"|targets|texts|tokens|users|values|weights|workers)\b"
)
# What stands before such a word without being a count of it, or is never one.
NO_COUNTS = {
    "job.model",  # "… answers"
    "task.verb",
    "common['verb']",
    "last",  # "2 blank and 3 failed rows"
    "layers",  # as a card shows it
    "max_words",  # in a prompt, which stays as it is
    "name",  # "query tokens"
    "byte_size(self.cache)",  # "2 MB of …"
    "plan.quantize",  # "int8 weights"
    "model.name",  # "… answers with"
    "verb",  # the same
    "_count(self.parameters)",  # "1.2 million weights"
    "len(special)",  # three
}
# What follows "a " and never begins with a vowel.
NO_VOWEL = {"subject"}


def parts(path: Path) -> Iterator[tuple[ast.JoinedStr, ast.expr, ast.expr]]:
    """Each two neighbours within an f-string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            for one, other in zip(node.values, node.values[1:], strict=False):
                yield node, one, other


def test_counts_agree_with_their_nouns() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node, one, other in parts(path):
            if not isinstance(one, ast.FormattedValue) or not isinstance(other, ast.Constant):
                continue
            said = ast.unparse(one.value)
            if said in NO_COUNTS or said.startswith("counted("):
                continue
            if NOUNS.match(str(other.value)):
                wrong.append(f"{path}:{node.lineno}: {{{said}}}{other.value}")
    assert wrong == []


def test_articles_agree_with_what_follows() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node, one, other in parts(path):
            if not isinstance(one, ast.Constant) or not isinstance(other, ast.FormattedValue):
                continue
            if (
                re.search(r"\b[Aa]n? $", str(one.value))
                and ast.unparse(other.value) not in NO_VOWEL
            ):
                wrong.append(f"{path}:{node.lineno}: {one.value}{{{ast.unparse(other.value)}}}")
    assert wrong == []


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12345, "12,345 rows")]
)
def test_a_count(number: int, said: str) -> None:
    assert counted(number, "row") == said


def test_a_plural_of_its_own() -> None:
    assert [counted(n, "query", "queries") for n in (1, 2)] == ["1 query", "2 queries"]
    assert [counted(n, "row has", "rows have") for n in (1, 2)] == ["1 row has", "2 rows have"]


@pytest.mark.parametrize("per_second", [1e-4, 1e-3, 0.01, 0.09, 0.1, 1, 99.95, 1e5])
def test_a_rate_is_never_said_to_be_nothing(per_second: float) -> None:
    number, unit = rate(per_second, "rows").split()
    seconds = {"rows/s": 1, "rows/min": 60, "rows/h": 3600}[unit]
    assert float(number.replace(",", "")) / seconds == pytest.approx(per_second, rel=0.5)


def test_an_article() -> None:
    said = [with_article(kind) for kind in ("encoder", "classifier", "int", "ndarray")]
    assert said == ["an encoder", "a classifier", "an int", "a ndarray"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(512, "512 B"), (90_868_376, "91 MB"), (999_999_999, "1000 MB"), (16.06e9, "16.1 GB")],
)
def test_bytes_are_written_in_powers_of_a_thousand(count: float, text: str) -> None:
    assert byte_size(count) == text


def test_lengths_of_time() -> None:
    told = [duration(s) for s in (0.04, 9.94, 9.96, 59.6, 120, 3599.6, 7265)]
    assert told == ["0.0 s", "9.9 s", "10 s", "1 min", "2 min", "1 h 0 min", "2 h 1 min"]
    rough = [rough_duration(s) for s in (0.4, 1.2, 89, 91, 5399, 5401)]
    assert rough == ["less than a second", "1 s", "89 s", "2 min", "90 min", "1.5 h"]

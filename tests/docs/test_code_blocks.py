"""What the pages tell a reader to type works."""

from __future__ import annotations

import ast
import operator
import os
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import nbllm
from nbllm import cli
from tests.docs.pages import NEEDS, PAGES, ROOT, Block, blocks, name

pytestmark = pytest.mark.long

BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"python", "ipython", "console", "powershell", "text"}
SHELLS = {"console", "powershell"}
# Programs that are not ours: what they are given is theirs to judge.
FOREIGN = {"apt-get", "git", "jupyter", "pip", "py", ".venv/Scripts/activate"}
FOREIGN |= {f".venv/bin/{program}" for program in ("mypy", "playwright", "ruff")}


def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def _executed(page: Path) -> list[Block]:
    chosen = [block for block in blocks(page) if block.language in ("python", "ipython")]
    return [block for block in chosen if block.needs is None]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_block_is_checked_or_says_what_it_needs(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.needs is None or block.needs in NEEDS


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "python" and block.needs],
    ids=lambda block: block.place,
)
def test_what_is_not_executed_names_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbllm"):
            module = import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Attribute) and (dotted := ast.unparse(node)).startswith("nbllm."):
            assert operator.attrgetter(dotted.removeprefix("nbllm."))(nbllm) is not None


def test_every_fence_is_part_of_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), name(page)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES[1:] if _executed(page)],  # README.md has the real model, below
    ids=name,
)
def test_a_page_runs_from_its_first_block_to_its_last(
    page: Path, request: pytest.FixtureRequest
) -> None:
    """Blocks of a page share their names, as the cells of a notebook do."""
    if any(block.language == "ipython" for block in _executed(page)):
        shell = request.getfixturevalue("shell")
        for block in _executed(page):
            shell.run_cell(block.code).raise_error()
    else:
        _run(_executed(page))


def _run(code: list[Block]) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in code:
        # So that a traceback shows the line of the page.
        padded = "\n" * (block.line - 1) + block.code
        exec(compile(padded, str(block.page), "exec"), namespace)
    return namespace


def test_the_table_of_the_readme_is_what_its_code_gives(smollm2: object) -> None:
    page = ROOT / "README.md"
    answered = _run(_executed(page))["answered"]
    rows = re.findall(r"^\| (\d) \|(.*)\|(.*)\|(.*)\|$", page.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(answered)
    for index, review, label, score in rows:
        row = answered.loc[int(index)]
        if not review.strip():
            assert row[["review", "review_sentiment", "review_sentiment_score"]].isna().all()
            continue
        assert (row.review, row.review_sentiment) == (review.strip(), label.strip())
        # bf16, which not every processor has, rounds to two digits.
        assert row.review_sentiment_score == pytest.approx(float(score), abs=0.02)


def _lines(block: Block) -> list[list[str]]:
    """The commands of a block as words, without comments."""
    code = block.code.replace("\\", "/")  # as Windows writes paths
    found = [shlex.split(line, comments=True) for line in code.splitlines()]
    return [words for words in found if words]


def _check_command(words: list[str]) -> None:
    """Fail for a command of ours that there is not."""
    program, *rest = words
    if program == "make":
        named = [word for word in rest if "=" not in word]
        assert set(named) <= _targets(), f"there is no such target: {named}"
    elif program == "nbllm":
        try:
            cli._parser().parse_args(rest)
        except SystemExit:  # as argparse ends what it cannot read
            pytest.fail(f"there is no such command: {shlex.join(words)}")
    elif program.endswith("python"):
        script = next((word for word in rest if word.endswith(".py")), None)
        assert script is None or (ROOT / script).is_file()
    else:
        assert program in FOREIGN, f"nothing checks {program}"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in SHELLS], ids=lambda block: block.place
)
def test_commands_exist(block: Block) -> None:
    for words in _lines(block):
        _check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page: Path) -> None:
    for command in re.findall(r"`((?:make|nbllm) [a-z][^`|]*)`", page.read_text(encoding="utf-8")):
        _check_command(shlex.split(command))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"NBLLM_[A-Z_]+", page.read_text(encoding="utf-8")))
    folders = [ROOT / folder for folder in ("nbllm", "tests", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in [*files, ROOT / "Makefile"])
    assert {variable for variable in named if variable not in code} == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name(page)} links to {link}, which is not there"
        if heading:
            assert heading in _headings(target), f"{name(page)} links to {link}"


def _headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.parent == ROOT / "docs" and page.name != "README.md":
            assert f"]({page.name})" in index, f"docs/README.md does not name {page.name}"
        elif page.parent == ROOT:
            assert f"]({os.path.relpath(page, ROOT / 'docs')})" in index


def test_the_readme_is_read_in_two_minutes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "`make test`" in text or "make test " in text

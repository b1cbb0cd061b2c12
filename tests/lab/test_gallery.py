"""The curated notebooks: their list, and copies that never leave the folder or overwrite."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nbformat
import pytest
from jupyter_server.services.contents import fileio

from nbllm.cli import main
from nbllm.errors import GalleryError
from nbllm.lab import gallery
from nbllm.lab.gallery import (
    CuratedNotebook,
    copy_notebook,
    curated_notebooks,
    find_notebook,
    read_notebook,
)
from tests.lab.conftest import Running, as_json, is_root

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def write(folder: Path, name: str, *cells: tuple[str, str]) -> None:
    made = [
        nbformat.v4.new_markdown_cell(text)
        if kind == "markdown"
        else nbformat.v4.new_code_cell(
            text, execution_count=3, outputs=[nbformat.v4.new_output("stream", text="old")]
        )
        for kind, text in cells
    ]
    folder.mkdir(exist_ok=True)
    text = nbformat.writes(nbformat.v4.new_notebook(cells=made))
    (folder / name).write_text(text, encoding="utf-8")


def test_all_curated_notebooks_introduce_themselves() -> None:
    here = curated_notebooks()
    assert [notebook.name for notebook in here] == sorted(
        path.name for path in NOTEBOOKS.glob("*.ipynb")
    )
    for notebook in here:
        assert notebook.title and not notebook.title.startswith("#"), notebook
        assert len(notebook.summary) > 80 and "\n" not in notebook.summary, notebook
        assert notebook.minutes is not None and 1 <= notebook.minutes <= 60, notebook


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# Why?\n\nBecause\nof this.\n\n*About 12 minutes on a laptop.*",
            ("Why?", "Because of this.", 12),
        ),
        ("# Why?\n\nIn about a minute: yes.", ("Why?", "In about a minute: yes.", 1)),
        ("# Why?", ("Why?", "", None)),
        ("", ("10_a", "", None)),
        ("no heading", ("no heading", "", None)),
    ],
)
def test_the_first_cell_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(gallery, "_WHEEL", tmp_path)
    write(tmp_path, "10_a.ipynb", ("markdown", text), ("markdown", "# Not this\n\nAbout 9 minutes"))
    assert curated_notebooks() == [CuratedNotebook("10_a.ipynb", *expected)]


@pytest.mark.parametrize("name", ["10_sentiment.ipynb", "10_sentiment", "sentiment"])
def test_a_notebook_is_found_by_what_people_type(name: str) -> None:
    assert find_notebook(name).name == "10_sentiment.ipynb"


def test_the_command_lists_and_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["notebooks"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(curated_notebooks())
    [sentiment] = [line for line in listed if line.startswith("10_sentiment.ipynb ")]
    assert sentiment.endswith("(1 min)")
    monkeypatch.chdir(tmp_path)
    for expected in ("10_sentiment.ipynb", "10_sentiment-1.ipynb", "10_sentiment-2.ipynb"):
        assert main(["notebooks", "sentiment"]) == 0
        assert capsys.readouterr().out.strip() == expected
        (tmp_path / expected).write_text("mine")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}
    assert main(["notebooks", "sentiment", "--to", "no-such-folder"]) == 1
    assert "Name an existing folder" in capsys.readouterr().err
    assert main(["notebooks", "sentimant"]) == 1
    assert "There are: 00_quickstart.ipynb, 01_tokens.ipynb" in capsys.readouterr().err


def test_a_copy_is_the_notebook_without_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "_WHEEL", tmp_path / "gallery")
    write(tmp_path / "gallery", "10_a.ipynb", ("markdown", "# Schön?"), ("code", "1 + 1"))
    path = copy_notebook("a", tmp_path)
    nbformat.validate(made := nbformat.read(path, as_version=4))
    assert made.cells[0].source == "# Schön?"
    assert (made.cells[1].outputs, made.cells[1].execution_count) == ([], None)
    with pytest.raises(GalleryError, match="There is no curated notebook"):
        read_notebook("../10_a.ipynb")


def test_a_clean_notebook_is_copied_byte_for_byte(tmp_path: Path) -> None:
    path = copy_notebook("reasons", tmp_path)
    assert path.read_bytes() == (NOTEBOOKS / "31_reasons.ipynb").read_bytes()


# -- over the server --------------------------------------------------------------------------


@pytest.fixture
def folder(server: Running, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of one test below the server's root."""
    path = server.root / f"of-{request.node.name.partition('[')[0]}"
    path.mkdir(exist_ok=True)
    yield path


def copied(page: httpx.Client, folder: Any, name: str = "10_sentiment.ipynb") -> httpx.Response:
    return page.post(f"nbllm/notebooks/{name}/copy", json={"folder": folder})


def everything(server: Running) -> set[Path]:
    return {path for path in server.root.parent.rglob("*") if path.suffix == ".ipynb"}


def test_the_list_is_what_the_files_say(page: httpx.Client) -> None:
    told = as_json(page.get("nbllm/notebooks"))
    assert [CuratedNotebook(**notebook) for notebook in told] == curated_notebooks()
    assert set(told[0]) == {"name", "title", "summary", "minutes"}


def test_a_copy_never_overwrites(page: httpx.Client, folder: Path) -> None:
    for expected in ("10_sentiment.ipynb", "10_sentiment-1.ipynb", "10_sentiment-2.ipynb"):
        assert as_json(copied(page, folder.name), 201) == {"path": f"{folder.name}/{expected}"}
        made = json.loads((folder / expected).read_text(encoding="utf-8"))
        assert made == read_notebook("10_sentiment.ipynb")
        (folder / expected).write_text("mine")
    assert [path.read_text() for path in folder.glob("*.ipynb")] == ["mine"] * 3


def test_two_who_click_at_once_get_two_copies(page: httpx.Client, folder: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: copied(page, folder.name), range(6)))
    paths = {as_json(answer, 201)["path"] for answer in answers}
    assert len(paths) == 6 == len(list(folder.glob("*.ipynb")))


def test_a_copy_goes_to_the_root_and_to_folders_of_any_name(
    page: httpx.Client, server: Running, folder: Path
) -> None:
    assert as_json(copied(page, ""), 201)["path"] == "10_sentiment.ipynb"
    (server.root / "10_sentiment.ipynb").unlink()
    for name in ("with space", "äöü 你好", "100%", "a..b", "deep/er", "trailing/"):
        (folder / name).mkdir(parents=True)
        path = as_json(copied(page, f"{folder.name}/{name}"), 201)["path"]
        assert path == f"{folder.name}/{name.strip('/')}/10_sentiment.ipynb"
        assert (server.root / path).is_file()


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../10_sentiment.ipynb", "../../pyproject.toml", "./10_sentiment.ipynb"),
        *("demo.py", "10_sentiment", "nothing.ipynb", "/etc/passwd", "10_sentiment.ipynb/x"),
        *("10_sentiment.ipynb\0", "..\\10_sentiment.ipynb", "100%"),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_other_names_are_refused(
    page: httpx.Client, server: Running, name: str, twice: bool
) -> None:
    before = everything(server)
    quoted = quote(name, safe="").replace(".", "%2e")
    if twice:
        quoted = quoted.replace("%", "%25")
    as_json(copied(page, "", quoted), 404)
    assert everything(server) == before


@pytest.mark.parametrize(
    "folder",
    [
        *("..", "../..", "a/../..", "../{root}", "{root}/.."),
        *("/", "/etc", "//etc", "{absolute}", "..\\x", "\\etc", "a\0b"),
    ],
)
def test_folders_outside_are_refused(page: httpx.Client, server: Running, folder: str) -> None:
    before = everything(server)
    asked = folder.format(root=server.root.name, absolute=server.root)
    said = as_json(copied(page, asked), 400)["message"]
    assert "below the server's own" in said
    assert everything(server) == before


@pytest.mark.parametrize("folder", ["%2e%2e", "..%2f..", "%252e%252e", "no-such", "no/such"])
def test_a_folder_that_is_not_there_is_said(
    page: httpx.Client, server: Running, folder: str
) -> None:
    # A folder comes as JSON, where %2e%2e is a name of six characters and nothing else.
    before = everything(server)
    said = as_json(copied(page, folder), 404)["message"]
    assert said == f"There is no folder {folder!r}. Create it first, or choose another."
    assert everything(server) == before


def test_a_file_is_no_folder(page: httpx.Client, folder: Path) -> None:
    (folder / "file").write_text("")
    as_json(copied(page, f"{folder.name}/file"), 404)


@pytest.mark.parametrize("hidden", [".hidden", "a/.hidden", ".hidden/b"])
def test_a_hidden_folder_is_refused(page: httpx.Client, folder: Path, hidden: str) -> None:
    (folder / hidden).mkdir(parents=True, exist_ok=True)
    assert "is hidden" in as_json(copied(page, f"{folder.name}/{hidden}"), 400)["message"]
    assert list(folder.rglob("*.ipynb")) == []


@pytest.mark.parametrize("body", ["", "{", "[]", "1", "{}", '{"folder": 1}', '{"folder": null}'])
def test_a_body_without_a_folder_is_refused(page: httpx.Client, body: str) -> None:
    answer = page.post("nbllm/notebooks/10_sentiment.ipynb/copy", content=body)
    assert as_json(answer, 400)["message"]


def test_a_folder_that_cannot_be_written_is_said(
    page: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_root():  # for whom no folder is read-only

        def refused(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied", str(folder))

        # Of the server's writing of files, which it finds before Python's own.
        monkeypatch.setattr(fileio, "open", refused, raising=False)
    else:
        folder.chmod(0o555)
    try:
        said = as_json(copied(page, folder.name), 403)["message"]
    finally:
        folder.chmod(0o755)
    assert said.startswith(f"10_sentiment.ipynb could not be copied to the folder '{folder.name}'")
    assert said.endswith("Choose a folder that you may write to.")
    assert list(folder.glob("*.ipynb")) == []


def test_a_link_that_leads_outside_is_followed_only_as_the_server_does(
    page: httpx.Client, server: Running, folder: Path, tmp_path: Path
) -> None:
    # The user's own link: JupyterLab opens and saves below it as well.
    os.symlink(tmp_path, folder / "link")
    mine = as_json(copied(page, f"{folder.name}/link"), 201)["path"]
    saved = page.put(
        f"api/contents/{folder.name}/link/other.txt",
        json={"type": "file", "format": "text", "content": ""},
    )
    assert saved.status_code == 201 and mine.endswith("link/10_sentiment.ipynb")

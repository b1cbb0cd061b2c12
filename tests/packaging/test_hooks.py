"""`make hooks` lets git check each commit, as it is staged."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLEAN = '"""A module."""\n\nX = 1\n'


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, whose hook `make hooks` has installed."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-such-file"))
    for variable in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(variable, raising=False)  # which git sets where a hook runs the tests
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".githooks", folder / ".githooks")
    (folder / "widgets").mkdir()
    (folder / ".gitignore").write_text(".venv\n")
    ruff = shutil.which("ruff", path=ROOT / ".venv" / "bin") or shutil.which("ruff")
    assert ruff is not None, "ruff comes with the extra `dev`"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "ruff").symlink_to(ruff)
    assert run(folder, "git", "init", "--quiet").returncode == 0
    run(folder, "git", "config", "user.name", "A tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    # The environment is there, whatever its date.
    done = run(folder, "make", "--old-file=setup", "hooks")
    assert done.returncode == 0, done.stderr
    return folder


def commit(folder: Path) -> "subprocess.CompletedProcess[str]":
    return run(folder, "git", "commit", "--quiet", "--message", "A change")


def test_a_clean_commit_passes(repository: Path) -> None:
    (repository / "module.py").write_text(CLEAN)
    run(repository, "git", "add", ".")
    done = commit(repository)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [("import os\n", "F401"), (CLEAN + "Y  =  1\n", "pre-commit: not formatted")],
)
def test_a_fault_that_is_staged_is_refused(repository: Path, source: str, said: str) -> None:
    (repository / "module.py").write_text(source)
    run(repository, "git", "add", ".")
    (repository / "module.py").write_text(CLEAN)  # what is not staged hides nothing
    done = commit(repository)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_what_is_not_staged_is_not_checked(repository: Path) -> None:
    (repository / "module.py").write_text(CLEAN)
    run(repository, "git", "add", ".")
    (repository / "module.py").write_text("import os\n")
    done = commit(repository)
    assert done.returncode == 0, done.stderr


def test_without_an_environment_it_says_what_to_do(repository: Path) -> None:
    (repository / ".venv" / "bin" / "ruff").unlink()
    run(repository, "git", "add", ".")
    done = commit(repository)
    assert done.returncode != 0
    assert "'make setup' installs it" in done.stderr

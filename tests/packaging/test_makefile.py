"""What `make` says to a machine that cannot build the environment."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "widgets").mkdir()
    return tmp_path


def test_help_lists_the_commands(checkout: Path) -> None:
    said = make(checkout, "help").stdout
    for target in ("setup", "lab", "demo", "test", "lint", "hooks", "bench", "clean"):
        assert f"make {target} " in said


def test_an_old_python_is_refused(checkout: Path) -> None:
    done = make(checkout, "setup", "PYTHON=false")
    assert done.returncode != 0
    assert "nbllm needs Python 3.11 or newer; false is older, or not there." in done.stderr


def test_no_python_is_said(checkout: Path) -> None:
    done = make(checkout, "setup", "PYTHON=")
    assert done.returncode != 0
    assert "nbllm needs Python 3.11 or newer, and none is on PATH" in done.stderr

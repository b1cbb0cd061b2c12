"""The folder that nbllm writes to."""

from pathlib import Path

import platformdirs
import pytest

from nbllm.home import home


def test_nbllm_home_moves_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    assert not home().exists()


def test_a_tilde_and_a_relative_path_become_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBLLM_HOME", "there")
    assert home() == tmp_path / "there"
    monkeypatch.setenv("NBLLM_HOME", "~/models")
    assert home() == Path.home() / "models"


def test_without_it_the_users_cache_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLLM_HOME", raising=False)
    assert home() == Path(platformdirs.user_cache_dir("nbllm", appauthor=False))

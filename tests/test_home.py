"""The folder that nbllm writes to, which is its user's alone."""

import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from nbllm.home import home, private_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


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


def test_what_is_made_is_for_its_user_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    made = private_folder(tmp_path / "there" / "a" / "b")
    assert made == private_folder(made) and made.is_dir()
    assert mode(tmp_path / "there") == 0o755  # as whoever made it wanted it
    assert mode(tmp_path / "there" / "a") == mode(made) == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        private_folder(tmp_path / "file")


def test_all_that_nbllm_writes_is_its_users_alone(
    tmp_path: Path,
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_folder("causal")
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBLLM_LEDGER")
    monkeypatch.delenv("NBLLM_ACTIVITY")
    before = os.umask(0o022)
    try:
        _write_all(folder)
    finally:
        os.umask(before)
    written = {path.relative_to(home()).parts[0] for path in home().iterdir()}
    assert written >= {"activity", "ledger.sqlite", "models", "training"}
    assert mode(home()) == 0o700
    for path in home().rglob("*"):
        private = [mode(p) & 0o077 == 0 for p in (path, *path.parents) if p.is_relative_to(home())]
        assert any(private[:-1]), path  # not by its home alone, which may be a shared one


def _write_all(folder: Path) -> None:
    """What writes into nbllm's home: jobs, ledger, hashes, weights, trainings."""
    import pandas as pd

    import nbllm
    from nbllm.models.fetch.cache import cache_folder
    from nbllm.models.fetch.prepared import Manifest, prepared
    from nbllm.train.folder import RunFolder

    with nbllm.load(folder, quantize="none") as model:
        frame = pd.DataFrame({"review": ["good", "bad"] * 4, "label": ["positive", "negative"] * 4})
        frame.llm.sentiment("review", model=model)
        known = Manifest(str(folder), model.revision, None)
        prepared(cache_folder() / "int8-float32-x-v1", lambda staging: _write(staging) or known)
    run = RunFolder(None, "finetune", {"asked": 1}, resume=False)
    with run.claimed():
        run.finish({"done": True})


def _write(staging: Path) -> None:
    (staging / "x.json").write_text("{}")

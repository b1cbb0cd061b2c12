"""A broken settings file of the panel does not take JupyterLab down."""

import json
from pathlib import Path

import pytest
from jupyterlab_server.settings_utils import get_settings

from nbllm.lab.settings_file import set_aside_if_broken, settings_file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path / "settings"))
    path = settings_file()
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    """Where JupyterLab would find the schema."""
    schema = tmp_path / "schemas" / "nbllm" / "plugin.json"
    schema.parent.mkdir(parents=True)
    schema.write_text(json.dumps({"type": "object", "properties": {}}))
    return str(tmp_path / "schemas")


@pytest.mark.parametrize("broken", ["{ this is no JSON", "[" * 100_000, "\x00"])
def test_a_broken_file_is_kept_under_another_name_and_jupyterlab_answers(
    path: Path, schemas: str, broken: str
) -> None:
    path.write_text(broken)
    assert set_aside_if_broken(path) == path.with_suffix(".broken")
    assert path.with_suffix(".broken").read_text() == broken
    answer, _ = get_settings("", schemas, str(path.parents[1]))
    assert [(one["id"], one["settings"]) for one in answer["settings"]] == [("nbllm:plugin", {})]


def test_bytes_of_another_encoding_are_broken(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{")
    assert set_aside_if_broken(path) == path.with_suffix(".broken")


@pytest.mark.parametrize("sound", ["", "{}", '// as JupyterLab writes it\n{"area": "right",}'])
def test_a_sound_file_stays(path: Path, sound: str) -> None:
    path.write_text(sound)
    assert set_aside_if_broken(path) is None
    assert path.read_text() == sound


def test_no_file_is_nothing_to_do(path: Path) -> None:
    assert set_aside_if_broken(path) is None
    assert list(path.parent.iterdir()) == []

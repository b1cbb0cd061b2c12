"""A folder of activity that one test has to itself."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty, and not yet created."""
    path = tmp_path / "activity"
    monkeypatch.setenv("NBLLM_ACTIVITY", str(path))
    return path

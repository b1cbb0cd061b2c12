"""What the tests of training share: rows that a tiny model can learn, and a home of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

GOOD = ["The soup was warm", "good film", "kind staff", "a quiet delight"]
BAD = ["Terrible service", "cold meal", "an hour of waiting", "rude staff"]


@pytest.fixture(autouse=True)
def nbllm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NBLLM_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NBLLM_HOME", str(folder))
    return folder


@pytest.fixture
def reviews() -> pd.DataFrame:
    """40 reviews of two labels, every text another one, and words that tell them apart."""
    texts = [f"{text} {n}" for n in range(5) for text in GOOD + BAD]
    return pd.DataFrame(
        {"text": texts, "label": (["positive"] * 4 + ["negative"] * 4) * 5},
        index=[f"row {n}" for n in range(40)],
    )

"""A world in which the models that the pages name are tiny ones on this disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbllm.models import in_memory, loader
from nbllm.models.fetch import sources
from nbllm.models.fetch.sources import Fetched
from nbllm.models.kind import Kind
from nbllm.train import base
from tests.conftest import tiny_network
from tests.notebook.conftest import shell

__all__ = ["shell"]

# Every model that a page loads where it is executed, by its name there.
KINDS: dict[str, Kind] = {
    "smollm2": "causal",
    "gemma3-270m": "causal",
    "Qwen/Qwen2.5-0.5B-Instruct": "causal",
    "path/to/folder": "causal",
    "path/to/model-Q4_K_M.gguf": "causal",
    "minilm": "encoder",
}


@pytest.fixture(scope="module")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """A tiny model of each kind, as a folder of safetensors."""
    folders: dict[Kind, Path] = {}
    for kind in sorted(set(KINDS.values())):
        folders[kind] = tmp_path_factory.mktemp("models") / kind
        network, tokenizer = tiny_network(kind)
        network.save_pretrained(folders[kind])
        tokenizer.save_pretrained(folders[kind])
    return folders


@pytest.fixture
def reader(
    tiny_folders: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str | Path], Fetched]]:
    """Who follows a page in an empty folder, with tiny models under the names that it uses.

    Only fetching is replaced: `nbllm.load` reads, quantizes and announces what it is given.
    """
    fetch = sources.fetch

    def fetch_tiny(
        name: str | Path, revision: str | None = None, accept_license: bool = False
    ) -> Fetched:
        kind = KINDS.get(str(name))
        return fetch(name if kind is None else tiny_folders[kind], revision)

    for module in (loader, base):
        monkeypatch.setattr(module, "fetch", fetch_tiny)
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBLLM_DATA", raising=False)
    before = in_memory.loaded()
    here = Path.cwd()
    os.chdir(tmp_path)
    yield fetch_tiny
    os.chdir(here)
    for model in in_memory.loaded():
        if model not in before:
            model.unload()

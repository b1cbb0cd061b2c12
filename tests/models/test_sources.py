"""Names that become folders, and those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from nbllm.errors import UnknownModelError, UnsupportedModelError
from nbllm.models.sources import fetch


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smolm2", "Did you mean 'smollm2'"),
        ("MiniLM-L6", "Did you mean 'minilm'"),
        ("./nowhere", "folder with config.json"),
        ("missing.gguf", r"a \.gguf file"),
        ("a/b/c", "'owner/name'"),
        ("xyzzy", "smollm2, minilm"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_the_other_ways(
    name: str, says: str
) -> None:
    with pytest.raises(UnknownModelError, match=says):
        fetch(name)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["config.json", "pytorch_model.bin"], "only as pickle.*runs whatever code.*safetensors"),
        (["adapter_config.json", "adapter_model.safetensors"], "adapter, not a whole model"),
        (["model.Q4_1.gguf"], "holds GGUF files. Give the path of the one"),
        (["model.safetensors"], "has no config.json"),
        (["config.json"], r"has no \*\.safetensors"),
        ([], "has no config.json"),
    ],
)
def test_a_folder_that_cannot_be_loaded_says_what_it_lacks(
    folder_with: Callable[..., Path], files: list[str], says: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        fetch(folder_with(*files))


def test_a_pickle_file_is_refused(folder_with: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedModelError, match="does not load pickle"):
        fetch(folder_with("pytorch_model.bin") / "pytorch_model.bin")


def test_the_revision_of_a_folder_follows_weights_and_configuration(
    tiny_folder: Callable[[str], Path],
) -> None:
    folder = tiny_folder("causal")
    first = fetch(folder).revision
    assert fetch(folder).revision == first

    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    second = fetch(folder).revision
    assert second != first

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert fetch(folder).revision not in (first, second)


def test_a_revision_that_is_not_there_is_refused(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("causal")
    revision = fetch(folder).revision
    assert fetch(folder, revision).revision == revision
    with pytest.raises(UnknownModelError, match=f"revision {revision}, not 0000"):
        fetch(folder, "0000")


def test_weights_are_hashed_once(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbllm.models import identity

    folder = tiny_folder("causal")
    fetch(folder)
    hashed: list[str] = []
    real = identity.sha256
    monkeypatch.setattr(identity, "sha256", lambda p: hashed.append(p.name) or real(p))
    fetch(folder)
    assert "config.json" in hashed
    assert "model.safetensors" not in hashed


def test_the_licence_is_read_from_the_model_card(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("encoder")
    assert fetch(folder).licence is None
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert fetch(folder).licence == "mit"
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert fetch(folder).licence is None

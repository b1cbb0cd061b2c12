"""Models of the Hugging Face hub, against a hub on the loopback interface."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model

from nbllm.errors import DownloadError, UnknownModelError, UnsupportedModelError
from nbllm.models.configuration import kind_of, read_configuration
from nbllm.models.fetch.sources import fetch, fetch_adapter, fetch_configuration
from nbllm.models.loader import load, reload
from tests.conftest import tiny_network
from tests.models.gguf_files import configuration, network, write_gguf

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


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that nbllm would have waited, which pass at once."""
    seconds: list[float] = []
    monkeypatch.setattr("nbllm.models.fetch.hub.time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def repository(hub: Any, tiny_folder: Callable[[str], Path]) -> Any:
    """The repository some/model: a tiny classifier under an MIT licence."""
    folder = tiny_folder("classifier")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    publish(hub, folder, also=EXTRA)
    return hub


def publish(hub: Any, folder: Path, also: list[str] | None = None) -> None:
    """Serve a folder as some/model; of the files in `also` nothing but the names."""
    contents = {
        f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()
    }
    announce(hub, [*contents, *(also or [])], {n: len(c) for n, c in contents.items()})
    for name, content in contents.items():
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        hub.serve(
            f"/some/model/resolve/{COMMIT}/{name}",
            content,
            headers={"ETag": etag, "X-Repo-Commit": COMMIT},
        )


def announce(hub: Any, files: list[str], sizes: Mapping[str, int] | None = None) -> None:
    siblings = [{"rfilename": f, "size": (sizes or {}).get(f)} for f in files]
    page = {"id": "some/model", "sha": COMMIT, "siblings": siblings}
    for path in ("", "/revision/main", f"/revision/{COMMIT}"):
        hub.serve(f"/api/models/some/model{path}", json.dumps(page), "application/json")
    tree = [
        {"type": "file", "path": f, "size": (sizes or {}).get(f, 1), "oid": "0" * 40} for f in files
    ]
    hub.serve(f"/api/models/some/model/tree/{COMMIT}", json.dumps(tree), "application/json")


def asked_for(hub: Any) -> set[str]:
    return {path.partition(f"resolve/{COMMIT}/")[2] for path, _ in hub.asked} - {""}


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


def test_a_token_that_is_refused_says_so(hub: Any) -> None:
    hub.serve(
        "/api/models/some/model",
        "{}",
        "application/json",
        status=401,
        headers={"X-Error-Message": "Invalid credentials in Authorization header"},
    )
    with pytest.raises(DownloadError, match=r"refused some/model .*\(401\).*hf auth login"):
        fetch("some/model")


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(
    repository: Any, waited: list[float]
) -> None:
    page = repository.answers["/api/models/some/model"]
    page.refusals = [(503, {}), (429, {"Retry-After": "7"})]
    assert fetch("some/model").revision == COMMIT
    assert waited == [1.0, 7.0]


def test_a_file_that_is_refused_for_a_moment_is_asked_for_again(
    repository: Any, waited: list[float]
) -> None:
    file = repository.answers[f"/some/model/resolve/{COMMIT}/config.json"]
    file.refusals = [(503, {})]
    assert fetch("some/model").revision == COMMIT
    assert waited == [1.0]


def soon(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "says"),
    [(lambda: "600", "again in 600 seconds"), (lambda: soon(3600), r"again in 3,[56]\d\d sec")],
    ids=["seconds", "date"],
)
def test_a_hub_that_asks_to_wait_for_long_is_not_waited_for(
    hub: Any, waited: list[float], header: Callable[[], str], says: str
) -> None:
    hub.serve("/api/models/some/model", "", status=429, headers={"Retry-After": header()})
    with pytest.raises(DownloadError, match=says):
        fetch("some/model")
    assert waited == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_hub_that_stays_busy_is_given_up_on(hub: Any, waited: list[float], status: int) -> None:
    hub.serve("/api/models/some/model", "", status=status)
    with pytest.raises(DownloadError, match=str(status)):
        fetch("some/model")
    assert len(waited) == 2


def test_a_hub_that_is_down_leaves_what_was_fetched_before(repository: Any) -> None:
    folder = fetch("some/model", COMMIT).folder
    repository.serve(f"/api/models/some/model/revision/{COMMIT}", "", status=503)
    assert fetch("some/model", COMMIT).folder == folder
    refuse(repository, f"/api/models/some/model/revision/{COMMIT}", 403, "GatedRepo")
    with pytest.raises(DownloadError, match="gated"):
        fetch("some/model", COMMIT)


def test_a_cut_download_goes_on_where_it_stopped(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # huggingface_hub goes on from the last whole chunk, of which the real ones have 10 MB.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    path = f"/some/model/resolve/{COMMIT}/model.safetensors"
    repository.answers[path].cut_after = 1000
    assert load("some/model", quantize="none").kind == "classifier"
    assert (path, "bytes=1000-") in repository.asked


def test_files_that_have_arrived_are_not_fetched_again(repository: Any) -> None:
    path = f"/some/model/resolve/{COMMIT}/model.safetensors"
    whole = repository.answers.pop(path)
    with pytest.raises(DownloadError):
        fetch("some/model")
    repository.answers[path] = whole
    repository.asked.clear()
    fetch("some/model")
    assert "model.safetensors" in asked_for(repository)
    assert "tokenizer.json" not in asked_for(repository)


def test_a_disk_that_is_too_small_is_found_before_the_weights_are_fetched(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nbllm.models.fetch.cache.shutil.disk_usage", lambda _: SimpleNamespace(free=1e6)
    )
    with pytest.raises(DownloadError, match=r"Fetching some/model needs .*HF_HOME"):
        fetch("some/model")
    assert asked_for(repository) == set()


def test_a_disk_that_fills_up_says_so(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nbllm.models.fetch.hub.snapshot_download", full)
    with pytest.raises(DownloadError, match=r"disk was full.*HF_HOME"):
        fetch("some/model")


@pytest.fixture
def sharded(hub: Any, tmp_path: Path) -> Any:
    """some/model in shards, with a shard of another index beside them."""
    network, tokenizer = tiny_network("causal")
    folder = tmp_path / "sharded"
    network.save_pretrained(folder, max_shard_size="100kB")
    tokenizer.save_pretrained(folder)
    publish(hub, folder, also=["model-00001-of-00099.safetensors"])
    return hub


def test_a_sharded_checkpoint_comes_with_its_shards_alone(sharded: Any) -> None:
    model = load("some/model", quantize="none", dtype="fp32")
    ids = torch.arange(3, 9)[None]
    with torch.inference_mode():
        expected = tiny_network("causal")[0](ids).logits
        torch.testing.assert_close(model.network(ids).logits, expected)
    assert "model-00001-of-00099.safetensors" not in asked_for(sharded)
    assert len([n for n in asked_for(sharded) if n.endswith(".safetensors")]) > 1


def test_a_shard_that_is_not_there_is_named(sharded: Any) -> None:
    index = f"/some/model/resolve/{COMMIT}/model.safetensors.index.json"
    stated = json.loads(sharded.answers[index].body)
    stated["weight_map"]["model.norm.weight"] = "model-lost.safetensors"
    sharded.answers[index].body = json.dumps(stated).encode()
    with pytest.raises(UnsupportedModelError, match=r"lacks model-lost\.safetensors"):
        fetch("some/model")


def test_a_checkpoint_both_whole_and_in_shards_comes_whole(
    hub: Any, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("causal")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    publish(hub, folder, also=["b.safetensors"])
    assert (fetch("some/model").folder / "model.safetensors").is_file()
    assert "b.safetensors" not in asked_for(hub)


def test_the_files_of_every_kind_of_tokenizer_come_along(
    hub: Any, tiny_folder: Callable[[str], Path]
) -> None:
    folder = tiny_folder("causal")
    kinds = {"spiece.model", "source.spm", "target.spm", "vocab.json", "merges.txt",
             "sentencepiece.bpe.model", "tokenizer.model", "added_tokens.json"}  # fmt: skip
    for name in kinds:
        (folder / name).write_text("{}")
    publish(hub, folder)
    assert kinds <= {f.name for f in fetch("some/model").folder.iterdir()}


def test_a_configuration_comes_without_weights(repository: Any) -> None:
    fetched = fetch_configuration("some/model")
    assert (fetched.source, fetched.revision, fetched.licence) == ("hub:some/model", COMMIT, "mit")
    assert kind_of(read_configuration(fetched), "some/model") == "classifier"
    assert not [n for n in asked_for(repository) if n.endswith(".safetensors")]
    assert fetch("some/model").folder == fetched.folder
    assert (fetched.folder / "model.safetensors").is_file()


def test_an_adapter_of_the_hub(hub: Any, tmp_path: Path) -> None:
    network, _ = tiny_network("causal")
    folder = tmp_path / "adapter"
    get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    publish(hub, folder, also=["training_args.bin", "checkpoint-1/adapter_model.safetensors"])
    fetched = fetch_adapter("some/model", revision=COMMIT)
    assert (fetched.source, fetched.revision) == ("hub:some/model", COMMIT)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= asked_for(hub)
    assert "training_args.bin" not in asked_for(hub)
    with pytest.raises(UnsupportedModelError, match=r"adapter, not a whole.*adapter='some/model'"):
        fetch("some/model")


def test_an_adapter_in_pickle_is_refused(hub: Any) -> None:
    announce(hub, ["adapter_config.json", "adapter_model.bin"])
    with pytest.raises(UnsupportedModelError, match="adapter only as pickle"):
        fetch_adapter("some/model")
    assert asked_for(hub) == set()


@pytest.fixture
def packed(hub: Any, tmp_path: Path) -> Any:
    """some/model with GGUF files alone."""
    folder = tmp_path / "packed"
    (folder / "Q8").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: llama3.1\n---\n")
    write_gguf(network(configuration("llama")), folder / "Q8" / "tiny.gguf", "llama")
    publish(hub, folder, also=["other.gguf"])
    return hub


def test_a_repository_of_gguf_lists_them(packed: Any) -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"\(Q8/tiny\.gguf, other\.gguf\).*'some/model/Q8/tiny\.gguf'"
    ):
        fetch("some/model")


def test_a_gguf_file_of_the_hub_is_fetched_and_converted(
    packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("some/model/Q8/tiny.gguf", quantize="none")
    assert (model.kind, model.context_length, model.licence) == ("causal", 512, "llama3.1")
    assert (model.source, model.revision) == ("hub:some/model/Q8/tiny.gguf", COMMIT)
    assert "other.gguf" not in asked_for(packed)
    assert reload(model.provenance()) is model

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = fetch("some/model/Q8/tiny.gguf", revision=COMMIT)
    assert again.revision == COMMIT


def test_the_configuration_of_a_gguf_file_of_the_hub_comes_from_its_header(
    packed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/some/model/resolve/{COMMIT}/Q8/tiny.gguf"
    monkeypatch.setattr("nbllm.models.fetch.sources.LONGEST_HEADER", 20_000)
    fetched = fetch_configuration("some/model/Q8/tiny.gguf")
    assert (fetched.source, fetched.revision) == ("hub:some/model/Q8/tiny.gguf", COMMIT)
    assert fetched.licence == "mit"
    assert [ranged for asked, ranged in packed.asked if asked == path] == ["bytes=0-19999"]
    whole = fetch("some/model/Q8/tiny.gguf").folder
    assert (fetched.folder / "config.json").read_text() == (whole / "config.json").read_text()


def test_a_gguf_file_that_is_not_there_is_answered_with_those_that_are(packed: Any) -> None:
    with pytest.raises(UnknownModelError, match=r"no file 'x\.gguf'.*Q8/tiny\.gguf, other"):
        fetch("some/model/x.gguf")

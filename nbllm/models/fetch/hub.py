"""Models of the Hugging Face hub: only the files that are needed, and only safetensors or GGUF."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar, cast

from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
)

from nbllm.errors import (
    DownloadError,
    ModelError,
    NbllmError,
    UnknownModelError,
    UnsupportedModelError,
)
from nbllm.models.fetch.cache import explained_when_full, require_space
from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.fetch.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    INDEX,
    WEIGHTS,
    refuse_unless_adapter,
    refuse_unless_safetensors,
    shards,
    weight_files,
)

__all__ = [
    "fetch_adapter_files", "fetch_file", "fetch_head", "fetch_snapshot", "fetch_texts",
    "from_cache_alone", "is_cached",
]  # fmt: skip

_T = TypeVar("_T")

# huggingface_hub speaks through httpx up to its version 1 and through httpx2 from 2 on.
_HTTPError = cast("type[Exception]", HfHubHTTPError.__mro__[1])

# Repositories hold the same weights in many forms (onnx, consolidated, fp16); wanted are those
# that from_pretrained reads and the small files around them: configurations, and tokenizers
# as JSON, word lists or SentencePiece (.model and, for Marian, .spm).
_TEXTS = re.compile(r"[^/]+\.(json|txt|jinja|model|spm|py)|1_Pooling/config\.json|README\.md")

_TRANSIENT = (429, 500, 502, 503, 504)
_WAITS = (1.0, 3.0)  # seconds before the second and the third try
# Whether the hub is not to be asked, as if it were out of reach.
_unasked: ContextVar[bool] = ContextVar("_unasked", default=False)

_PATIENCE = 20.0  # seconds that the hub may ask to wait; if it asks for more, the user is told


def fetch_snapshot(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a hub's repository on this disk, and its commit.

    Without network, what an earlier call left in the hub's cache is taken.

    Args:
        name: `owner/name`.
        revision: a branch, tag or commit.

    Raises:
        UnknownModelError: there is no such repository or revision.
        DownloadError: it is gated, the network fails or the disk is too small.
        UnsupportedModelError: its weights are not safetensors.
    """

    def wanted(info: ModelInfo) -> list[str]:
        files = _texts(name, info)
        return [*files, *([WEIGHTS] if WEIGHTS in _files(info) else _shards(name, info))]

    def is_whole(folder: Path) -> bool:
        return all(file.is_file() for file in weight_files(folder))

    return _fetch(name, revision, wanted, "config.json", is_whole)


def fetch_texts(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a repository with its small files but not its weights, and its commit.

    Args:
        name: `owner/name`.
        revision: a branch, tag or commit.

    Raises:
        NbllmError: as `fetch_snapshot` does.
    """
    return _fetch(name, revision, lambda info: _texts(name, info), "config.json")


def fetch_adapter_files(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a LoRA adapter's repository on this disk, and its commit.

    Args:
        name: `owner/name`.
        revision: a branch, tag or commit.

    Raises:
        NbllmError: as `fetch_snapshot` does.
    """

    def wanted(info: ModelInfo) -> list[str]:
        files = _files(info)
        refuse_unless_adapter(_where(name), files)
        return [f for f in files if f in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "README.md")]

    return _fetch(name, revision, wanted, ADAPTER_WEIGHTS)


def fetch_file(name: str, filename: str, revision: str | None) -> tuple[Path, str]:
    """Return one file of a hub's repository on this disk, and the commit.

    Args:
        name: `owner/name`.
        filename: its path in the repository.
        revision: a branch, tag or commit.

    Raises:
        NbllmError: as `fetch_snapshot` does.
    """

    def wanted(info: ModelInfo) -> list[str]:
        return [_present(name, filename, info), *({"README.md"} & set(_files(info)))]

    folder, commit = _fetch(name, revision, wanted, filename)
    return folder / filename, commit


def fetch_head(name: str, filename: str, revision: str | None, count: int, target: Path) -> str:
    """Write the beginning of a hub's file, and return the commit.

    Args:
        name: `owner/name`.
        filename: its path in the repository.
        revision: a branch, tag or commit.
        count: bytes to fetch.
        target: is written as long as the whole file, but what follows is a hole that takes no room.

    Raises:
        NbllmError: as `fetch_snapshot` does.
    """
    try:
        info = _info(name, revision)
        url = hf_hub_url(name, _present(name, filename, info), revision=info.sha)
        asked = {**build_hf_headers(), "Range": f"bytes=0-{count - 1}"}
        with get_session().stream("GET", url, headers=asked, follow_redirects=True) as response:
            hf_raise_for_status(response)
            with target.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    if file.tell() >= count:  # the server may not know ranges
                        break
                # "bytes 0-99/1234" where it knows them, after RFC 9110.
                whole = response.headers.get("Content-Range", "").rpartition("/")[2]
                if whole.isdigit():
                    file.truncate(int(whole))
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except _FAILURES as error:
        raise _explained(name, revision, error) from error
    return str(info.sha)


@contextmanager
def from_cache_alone() -> Iterator[None]:
    """Have this thread use the hub's cache and ask no network while the context is open."""
    before = _unasked.set(True)
    try:
        yield
    finally:
        _unasked.reset(before)


def is_cached(name: str, filename: str, commit: str) -> bool:
    """Return whether a file of a repository at a commit is in the hub's cache.

    Args:
        name: `owner/name`.
        filename: its path in the repository.
        commit: in full.
    """
    try:
        return _cached_path(name, filename, commit) is not None
    except HFValidationError:
        return False


def _fetch(
    name: str,
    revision: str | None,
    wanted: Callable[[ModelInfo], list[str]],
    landmark: str,
    is_whole: Callable[[Path], bool] = Path.is_dir,
) -> tuple[Path, str]:
    """The folder of a repository with the files that `wanted` names, and its commit.

    Where the hub cannot be reached, what is in its cache is taken if `landmark` is there and
    the folder `is_whole`.
    """
    disk = Path(constants.HF_HUB_CACHE)
    try:
        info = _info(name, revision)
        files = wanted(info)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        missing = (f for f in files if _cached_path(name, f, info.sha) is None)
        require_space(disk, sum(sizes[f] for f in missing), f"Fetching {name}", "HF_HOME")
        with explained_when_full(f"the download of {name}", disk, "HF_HOME"):
            folder = Path(
                _patiently(lambda: snapshot_download(name, revision=info.sha, allow_patterns=files))
            )
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except _FAILURES as error:
        found = _cached_path(name, landmark, revision) if _is_outage(error) else None
        if found is None:
            raise _explained(name, revision, error) from error
        folder = found.parents[len(PurePosixPath(landmark).parts) - 1]
        if not is_whole(folder):
            raise _explained(name, revision, error) from error
    return folder, folder.name


def _info(name: str, revision: str | None) -> ModelInfo:
    if _unasked.get():
        raise OfflineModeIsEnabled(f"{name} is taken from the cache alone")
    return _patiently(
        lambda: HfApi().model_info(name, revision=revision, timeout=30.0, files_metadata=True)
    )


def _files(info: ModelInfo) -> list[str]:
    return [file.rfilename for file in info.siblings or []]


def _where(name: str) -> str:
    return f"{name} on the Hugging Face hub"


def _texts(name: str, info: ModelInfo) -> list[str]:
    files = _files(info)
    refuse_unless_safetensors(_where(name), files, name)
    return [file for file in files if _TEXTS.fullmatch(file)]


def _shards(name: str, info: ModelInfo) -> list[str]:
    """The files that a sharded checkpoint's index names."""
    index = _patiently(lambda: hf_hub_download(name, INDEX, revision=info.sha))
    named = shards(Path(index))
    if absent := sorted(set(named) - set(_files(info))):
        raise UnsupportedModelError(
            f"{_where(name)} lacks {', '.join(absent)}, which its {INDEX} names. Take another "
            "revision, or ask its publisher for the rest."
        )
    return named


def _present(name: str, filename: str, info: ModelInfo) -> str:
    files = _files(info)
    if filename in files:
        return filename
    alike = ", ".join(f for f in files if f.endswith(PurePosixPath(filename).suffix))
    raise UnknownModelError(
        f"{_where(name)} has no file {filename!r}. Of that kind it has {alike or 'none'}."
    )


def _cached_path(name: str, filename: str, revision: str | None) -> Path | None:
    found = try_to_load_from_cache(name, filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _patiently(call: Callable[[], _T]) -> _T:
    """Return the result of `call`, tried again where the hub is busy and will not be for long."""
    for wait in _WAITS:
        try:
            return call()
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            answer = _answer(error)
            if answer is None or answer.response.status_code not in _TRANSIENT:
                raise
            asked = _retry_after(answer)
            if asked > _PATIENCE:
                raise
            time.sleep(max(wait, asked))
    return call()


def _answer(error: BaseException | None) -> HfHubHTTPError | None:
    """Return the hub's answer that is behind an error, if it answered at all."""
    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error


def _retry_after(answer: HfHubHTTPError) -> float:
    """Seconds that the hub asks to wait; its header holds seconds or a date (RFC 9110)."""
    stated = answer.response.headers.get("Retry-After", "")
    if stated.isdigit():
        return float(stated)
    try:
        return (parsedate_to_datetime(stated) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


_FAILURES = (HFValidationError, OfflineModeIsEnabled, LocalEntryNotFoundError, _HTTPError, OSError)


def _is_outage(error: Exception) -> bool:
    """Return whether the hub is out of reach for now, and did not refuse."""
    answer = _answer(error)
    if answer is None:
        return not isinstance(error, HFValidationError)
    return answer.response.status_code in _TRANSIENT


def _explained(name: str, revision: str | None, error: Exception) -> ModelError:
    """Return an error that says what went wrong with a repository, and what to do."""
    answer = _answer(error)
    status = answer.response.status_code if answer is not None else None
    if isinstance(answer, GatedRepoError):
        return DownloadError(
            f"{name} is gated: accept its terms on https://huggingface.co/{name}, then log in "
            "with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(answer, RevisionNotFoundError):
        return UnknownModelError(
            f"{name} has no revision {revision!r} on the hub. Give a branch, tag or commit."
        )
    if isinstance(answer, RepositoryNotFoundError) or isinstance(error, HFValidationError):
        return UnknownModelError(
            f"The Hugging Face hub has no model {name!r}, or it is private. Check the spelling "
            "of 'owner/name'; for a private one log in with `hf auth login` or set HF_TOKEN. "
            f"Models that need no hub: {', '.join(CATALOG)}."
        )
    if answer is not None and status in (401, 403):
        return DownloadError(
            f"The Hugging Face hub refused {name} to the token it was sent ({status}). Log in "
            "anew with `hf auth login`, or set HF_TOKEN to one that may read it."
        )
    if answer is not None and status == 429:
        wait = _retry_after(answer)
        when = f"in {wait:,.0f} seconds" if wait > 0 else "in some minutes"
        return DownloadError(
            f"The Hugging Face hub limits how often it is asked (429), and was asked for {name} "
            f"too soon. Call again {when}; it allows more to those who log in (`hf auth login`)."
        )
    if answer is not None:
        return DownloadError(
            f"The Hugging Face hub failed on {name}: {str(answer).splitlines()[0]} Files "
            "that have arrived whole are kept; call again later."
        )
    return DownloadError(
        f"{name} is not on this machine and the Hugging Face hub could not be reached "
        f"({type(error.__cause__ or error).__name__}). Other ways: a folder with config.json and "
        f"*.safetensors, a .gguf file, or a model from the package index: {', '.join(CATALOG)}."
    )

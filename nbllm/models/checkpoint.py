"""The files of a checkpoint: which make up its weights, and whether they are all there and whole.

Looked at are names and headers alone, so that this costs milliseconds however large they are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection
from pathlib import Path

from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.wording import counted

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "INDEX",
    "PICKLES",
    "PICKLE_ADVICE",
    "WEIGHTS",
    "refuse_damaged",
    "refuse_unless_adapter",
    "refuse_unless_safetensors",
    "shards",
    "weight_files",
]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLE_ADVICE = (
    "nbllm does not load pickle, since opening one runs whatever code is in it: ask the "
    "publisher for safetensors, or convert it where you trust it with `save_pretrained`."
)


def refuse_unless_safetensors(where: str, files: Collection[str], base: str) -> None:
    """Raise UnsupportedModelError unless `files` are those of a model in safetensors.

    `base` is the folder or repository as `load` takes it.
    """
    if "config.json" in files and (WEIGHTS in files or INDEX in files):
        return
    packed = sorted(file for file in files if file.endswith(".gguf"))
    if ADAPTER_CONFIG in files:
        problem = (
            "holds an adapter, not a whole model. Load the model that it was trained on, with "
            f"adapter={base!r}"
        )
    elif any(file.endswith(PICKLES) for file in files):
        problem = f"holds its weights only as pickle. {PICKLE_ADVICE.rstrip('.')}"
    elif packed:
        shown = ", ".join(packed[:20]) + (", …" if len(packed) > 20 else "")
        problem = f"holds GGUF files ({shown}). Name the one to load, as in '{base}/{packed[0]}'"
    elif "config.json" not in files:
        problem = "has no config.json. Give a folder as `save_pretrained` writes it"
    else:
        problem = f"has neither {WEIGHTS} nor {INDEX}. Give a folder as `save_pretrained` writes it"
    raise UnsupportedModelError(f"{where} {problem}.")


def refuse_unless_adapter(where: str, files: Collection[str]) -> None:
    """Raise UnsupportedModelError unless `files` are those of an adapter in safetensors."""
    if ADAPTER_CONFIG in files and ADAPTER_WEIGHTS in files:
        return
    if ADAPTER_CONFIG in files and any(file.endswith(PICKLES) for file in files):
        problem = f"holds its adapter only as pickle. {PICKLE_ADVICE.rstrip('.')}"
    elif "config.json" in files:
        problem = "holds a whole model, not an adapter. Give it to load() as its first argument"
    else:
        problem = (
            f"holds no adapter: an adapter is a folder with {ADAPTER_CONFIG} and "
            f"{ADAPTER_WEIGHTS}, as peft's `save_pretrained` writes it"
        )
    raise UnsupportedModelError(f"{where} {problem}.")


def shards(index: Path) -> list[str]:
    """The names of the files that a sharded checkpoint's index lists.

    Raises ModelError where the index cannot be read.
    """
    try:
        named: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted(set(named.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{index} is damaged: it does not list which file holds which weights. Fetch it again."
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """The files that `from_pretrained` reads the weights of a folder from."""
    whole = folder / WEIGHTS
    index = folder / INDEX
    if whole.is_file() or not index.is_file():
        return [whole]
    return [folder / name for name in shards(index)]


def refuse_damaged(folder: Path, files: Collection[Path]) -> None:
    """Raise ModelError where a safetensors file is not there, is cut off or ends too late."""
    for file in files:
        if problem := _problem(file):
            raise ModelError(
                f"The weights in {folder} are damaged: {file.name} {problem}. Remove the "
                "folder and fetch the model again."
            )


def _problem(file: Path) -> str | None:
    """What is wrong with a file, after https://huggingface.co/docs/safetensors (Format)."""
    if not file.is_file():
        return "is missing"
    size = file.stat().st_size
    with file.open("rb") as opened:
        prefix = opened.read(8)
        if len(prefix) < 8:
            return f"is cut off after {counted(size, 'byte')}"
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            return f"is cut off after {counted(size, 'byte')}, or is no safetensors file"
        try:
            header = json.loads(opened.read(length))
            ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "has a header that cannot be read"
    promised = 8 + length + max(ends, default=0)
    return None if size == promised else f"has {counted(size, 'byte')}, and its header {promised:,}"

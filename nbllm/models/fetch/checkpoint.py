"""The files of a checkpoint: which hold its weights, and whether they are complete and intact."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeGuard

from nbllm.checks import shown
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.storage.json_file import read_object
from nbllm.wording import counted

__all__ = [
    "ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "INDEX", "PICKLES", "PICKLE_ADVICE", "WEIGHTS",
    "refuse_damaged", "refuse_unless_adapter", "refuse_unless_safetensors", "shards",
    "weight_files",
]  # fmt: skip

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PICKLE_ADVICE = (
    "nbllm does not load pickle, since opening one runs whatever code is in it: ask the "
    "publisher for safetensors, or convert it where you trust it with `save_pretrained`."
)

# Bytes, with room for 200,000 tensors. safetensors' own bound is 100 MB, which take seconds.
_MOST_OF_HEADER = 25_000_000
_MOST_DIMENSIONS = 16
_PLAIN_NAME = re.compile(r"(?!\.)[^/\\:\0]{1,255}\.safetensors")
_BITS = {  # of one number, after safetensors' Dtype
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def refuse_unless_safetensors(where: str, files: Collection[str], base: str) -> None:
    """Refuse files that are not those of a model in safetensors.

    Args:
        where: names the place in the message.
        files: the names of its files.
        base: the folder or repository as `load` takes it.

    Raises:
        UnsupportedModelError: saying what is missing, or pickled.
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
    """Refuse files that are not those of an adapter in safetensors.

    Args:
        where: names the place in the message.
        files: the names of its files.

    Raises:
        UnsupportedModelError: saying what is missing, or pickled.
    """
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
    """Return the names of the files that a sharded checkpoint's index lists.

    Each is the plain name of a file beside the index: text from elsewhere must not choose what
    else of this disk is read. What the file of that name is a link to does not matter. The hub's
    cache keeps all files as links into a folder of its own, and a link was made by whoever
    put the folder there, not by what is written in it.

    Args:
        index: the file model.safetensors.index.json.

    Raises:
        ModelError: the index cannot be read, or names anything else.
    """
    listed = read_object(index, error=ModelError, max_bytes=_MOST_OF_HEADER).get("weight_map")
    named = set(listed.values()) if _is_text_to_text(listed) else set()
    if not named:
        raise ModelError(
            f"{index} is damaged: it does not list which file holds which weights. Fetch it again."
        )
    for name in sorted(named):
        if not _PLAIN_NAME.fullmatch(name):
            raise ModelError(
                f"{index} names {shown(name)} as a file of weights, which is no name of a "
                "*.safetensors file in its own folder. Nothing was read; do not load this model "
                "unless you know who changed it."
            )
    return sorted(named)


def weight_files(folder: Path) -> list[Path]:
    """Return the files from which `from_pretrained` reads the weights of a folder.

    Args:
        folder: the model's.
    """
    whole = folder / WEIGHTS
    index = folder / INDEX
    if whole.is_file() or not index.is_file():
        return [whole]
    return [folder / name for name in shards(index)]


def refuse_damaged(folder: Path, files: Collection[Path]) -> None:
    """Refuse safetensors files that are missing, cut off or too long.

    Args:
        folder: the model's.
        files: those that it needs.

    Raises:
        ModelError: naming the file.
    """
    for file in files:
        if problem := _problem(file):
            raise ModelError(
                f"The weights in {folder} are damaged: {file.name} {problem}. Remove the "
                "folder and fetch the model again."
            )


def _problem(file: Path) -> str | None:
    """Say what is wrong with a file, after https://huggingface.co/docs/safetensors (Format)."""
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
        if length > _MOST_OF_HEADER:
            return f"has a header of {counted(length, 'byte')}, which no model needs"
        content = opened.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError):
        return "has a header that cannot be read"
    return _header_problem(header, size, 8 + length)


def _header_problem(header: Any, size: int, begin: int) -> str | None:
    """What is wrong with the header of a file of `size` bytes, whose weights lie from `begin` on.

    Tensors fill those bytes one after another: a gap could hide anything, and what overlaps is
    read twice.
    """
    if not isinstance(header, dict):
        return "has a header that cannot be read"
    places = []
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        place = _place(tensor)
        if place is None:
            return f"has a header that does not say what the weights {shown(name)} are"
        places.append(place)
    end = 0
    for start, stop in sorted(places):
        if start != end:
            return "has a header whose weights overlap, or leave gaps"
        end = stop
    promised = begin + end
    return None if size == promised else f"has {counted(size, 'byte')}, and its header {promised:,}"


def _place(tensor: Any) -> tuple[int, int] | None:
    """Return where a tensor's bytes lie, from its header entry; None where that makes no sense."""
    if not isinstance(tensor, dict):
        return None
    shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
    bits = _BITS.get(tensor["dtype"]) if isinstance(tensor.get("dtype"), str) else None
    if bits is None or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        return None
    start, stop = offsets
    fits = len(shape) <= _MOST_DIMENSIONS and 8 * (stop - start) == math.prod(shape) * bits
    return (start, stop) if fits else None


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )


def _is_text_to_text(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())

"""Hashes of weights: the key by which answers are told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nbllm.models.fetch.cache import cache_folder
from nbllm.storage.json_file import find_object
from nbllm.storage.locked_json import update_json

__all__ = ["folder_sha256", "remembered_sha256", "sha256"]

# Files beside the weights that decide what a model answers.
_DECISIVE = (
    "1_Pooling/config.json", "adapter_config.json", "added_tokens.json", "chat_template.jinja",
    "config.json", "generation_config.json", "merges.txt", "modules.json",
    "sentence_bert_config.json", "sentencepiece.bpe.model", "source.spm",
    "special_tokens_map.json", "spiece.model", "target.spm", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "training.json", "vocab.json", "vocab.txt",
)  # fmt: skip


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Return the sha256 of a file in hex, remembered by its path, size and time of change.

    Weights of several gigabytes take seconds to hash, and they are hashed at every load.

    Args:
        path: the file.
    """
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    memory = cache_folder() / "hashes.json"
    known = (find_object(memory) or {}).get(key)
    if isinstance(known, str):
        return known
    digest = sha256(path)
    update_json(memory, {key: digest})
    return digest


def folder_sha256(folder: Path) -> str:
    """Return one sha256 of a model's folder: its safetensors, configuration and tokenizer.

    Args:
        folder: the model's.
    """
    weights = sorted(folder.glob("*.safetensors"))
    decisive = [folder / name for name in _DECISIVE if (folder / name).is_file()]
    digest = hashlib.sha256()
    for file in weights:
        digest.update(f"{file.name} {remembered_sha256(file)}\n".encode())
    for file in decisive:
        digest.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()

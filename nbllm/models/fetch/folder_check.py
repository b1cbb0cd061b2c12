"""Checks the files of models and adapters of unknown origin, before anything is built of them."""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from nbllm.checks import shown
from nbllm.errors import ModelError, UnsupportedModelError
from nbllm.models.fetch.checkpoint import ADAPTER_CONFIG, INDEX, WEIGHTS
from nbllm.storage.json_file import read_json, read_object, read_text
from nbllm.wording import counted

__all__ = ["check_adapter_folder", "check_configuration", "check_model_folder"]

_OBJECTS = (
    "added_tokens.json", "config.json", "generation_config.json", "sentence_bert_config.json",
    "special_tokens_map.json", "tokenizer_config.json",
)  # fmt: skip
# They are read by tokenizers themselves, and the largest vocabularies take 40 MB.
_VOCABULARIES = (
    "merges.txt", "sentencepiece.bpe.model", "source.spm", "spiece.model", "target.spm",
    "tekken.json", "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt",
)  # fmt: skip
_MOST_OF_VOCABULARY = 150_000_000  # bytes
_MOST_OF_TEMPLATE = 1_000_000  # bytes
_MODULES = "modules.json"

# How many of each a network may have. To build one takes a millisecond a layer, and the deepest
# that were published have fewer than 200 layers, 17,000 experts and 700,000 labels.
_COUNTS = {
    re.compile(r"layers?$|^n_?layers?|^num_.*layers?|blocks$|block_count$|depth$"): 512,
    re.compile(r"experts$|expert_count$"): 20_000,
    re.compile(r"^num_labels$"): 1_000_000,
}
# Lists may count from the end, and so may one layer, as in `vision_feature_layer`: -2.
_NEVER_NEGATIVE = re.compile(
    r"^n_?(layers?|heads?)$|^(num|encoder|decoder)_.*(layers|heads|experts)$"
)
_MOST = 2**53  # beyond it not even JSON's numbers are exact


def check_model_folder(folder: Path) -> None:
    """Refuse a model's folder that holds what no model needs.

    Args:
        folder: the model's.

    Raises:
        ModelError: a file is missing, of another kind, too large, or does not hold what it has to.
        UnsupportedModelError: its configuration states what no network has.
    """
    _check_files(folder)
    for name in _OBJECTS:
        if _is_there(folder / name):
            fields = read_object(folder / name, error=ModelError)
            if name == "config.json":
                check_configuration(fields, str(folder / name))
            if name == "tokenizer_config.json":
                _check_template(fields.get("chat_template"), folder / name)
    for file in (folder / name for name in _VOCABULARIES):
        if file.is_file() and (size := file.stat().st_size) > _MOST_OF_VOCABULARY:
            raise ModelError(
                f"{file} has {counted(size, 'byte')}, which no vocabulary needs, and is not read. "
                "Fetch it again, or ask whoever wrote it."
            )
    for template in (*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")):
        read_text(template, error=ModelError, max_bytes=_MOST_OF_TEMPLATE)
    if _is_there(folder / _MODULES):
        _check_modules(folder)
    if _is_there(folder / ADAPTER_CONFIG) and any(_is_there(folder / n) for n in (WEIGHTS, INDEX)):
        raise UnsupportedModelError(
            f"{folder} holds a whole model and an adapter ({ADAPTER_CONFIG}), and does not say "
            "whether the one is meant to change the other. Move the adapter's files to a folder of "
            "their own, and load the model with adapter=that folder, or without."
        )


def check_adapter_folder(folder: Path) -> None:
    """Refuse an adapter's folder that holds what no adapter needs.

    Args:
        folder: the adapter's.

    Raises:
        ModelError: a file is of another kind, too large, or does not hold what it has to.
    """
    _check_files(folder)
    fields = read_object(folder / ADAPTER_CONFIG, error=ModelError)
    for key, value in _values(fields):
        _check_number(key, value, str(folder / ADAPTER_CONFIG))


def check_configuration(fields: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration that states what no network has, at any depth of it.

    Args:
        fields: what a config.json holds.
        where: what the message calls it.

    Raises:
        UnsupportedModelError: naming the field.
    """
    for key, value in _values(fields):
        _check_number(key, value, where)
        if isinstance(value, int) and value < 0 and _NEVER_NEGATIVE.search(key):
            raise UnsupportedModelError(
                f"{where} states {key}={value:,}, and a network has none or some. Check the file."
            )
        for pattern, most in _COUNTS.items():
            if isinstance(value, int) and value > most and pattern.search(key):
                raise UnsupportedModelError(
                    f"{where} states {key}={value:,}, and nbllm builds no network of more than "
                    f"{most:,} of these. Check the file, or load another model."
                )
        # Code that transformers fetches from the hub, and runs.
        if key.endswith("_implementation") and isinstance(value, str) and "/" in value:
            raise UnsupportedModelError(
                f"{where} states {key}={shown(value)}, which is code on the Hugging Face hub. "
                "nbllm does not run it; remove the field to compute as usual."
            )
        if key == "transformers_weights" and value not in (None, WEIGHTS, INDEX):
            raise UnsupportedModelError(
                f"{where} names {shown(value)} as its weights, and nbllm reads {WEIGHTS} or the "
                f"files that {INDEX} lists. Remove the field, and call the weights so."
            )


def _check_template(template: Any, file: Path) -> None:
    """Refuse a chat template that is no text, and no list of texts by their names."""
    if template is None or isinstance(template, str):
        return
    named = template.items() if isinstance(template, dict) else _pairs(template)
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in named):
        raise ModelError(
            f"{file} states chat_template={shown(template)}, which is no template. Check the file."
        )


def _pairs(templates: Any) -> list[tuple[Any, Any]]:
    """Names and texts of what was saved as [{"name": ..., "template": ...}]."""
    listed = templates if isinstance(templates, list) else [templates]
    return [
        (one.get("name"), one.get("template")) if isinstance(one, dict) else (None, None)
        for one in listed
    ]


def _check_number(key: str, value: Any, where: str) -> None:
    # A range may be open, as in Mamba's `time_step_limit`: [0.0, Infinity].
    open_ended = value == math.inf and key.endswith("_limit")
    if isinstance(value, float) and not math.isfinite(value) and not open_ended:
        raise UnsupportedModelError(
            f"{where} states {key}={value}, which is no number. Check the file."
        )
    if isinstance(value, int) and abs(value) > _MOST:
        raise UnsupportedModelError(
            f"{where} states {key}={shown(value)}, which is too large for any size. Check the file."
        )


def _values(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value at any depth that holds no others, with the nearest name above it."""
    waiting: list[tuple[str, Any]] = list(fields.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += ((str(inner), deeper) for inner, deeper in value.items())
        elif isinstance(value, (list, tuple)):
            waiting += ((key, deeper) for deeper in value)
        else:
            yield key, value


def _check_files(folder: Path) -> None:
    """Refuse what would block whoever opens it, or never end: a FIFO, a socket, a device."""
    for file in folder.iterdir():
        try:
            mode = file.stat().st_mode
        except OSError:  # a link to nothing, which only matters where something reads it
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ModelError(
                f"{file} is not a regular file, which a model has no use for. Remove it."
            )
        if stat.S_ISDIR(mode) and file.suffix in (".json", ".safetensors"):
            raise ModelError(f"{file} is a folder, and a model has a file there. Remove it.")


def _is_there(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _check_modules(folder: Path) -> None:
    """Check the modules of a sentence encoder, whose folders modules.json names."""
    file = folder / _MODULES
    listed = read_json(file, error=ModelError)
    for module in listed if isinstance(listed, list) else [listed]:
        named = module if isinstance(module, dict) else {}
        path = named.get("path")
        if not isinstance(named.get("type"), str) or not isinstance(path, str):
            raise ModelError(f"{file} does not list modules by type and path. Fetch it again.")
        if not _is_inside(path):
            raise ModelError(
                f"{file} names {shown(path)} as a folder of its own, and it lies elsewhere. "
                "Nothing was read; do not load this model unless you know who changed it."
            )
        if _is_there(folder / path / "config.json"):
            read_object(folder / path / "config.json", error=ModelError)


def _is_inside(path: str) -> bool:
    """Return whether a path, as it is written, stays in the folder that it is relative to."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and not re.search(r"[\\:\0]", path)

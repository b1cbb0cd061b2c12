"""The files of a trained model: weights as safetensors, tokenizer, model card with licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.silence import quiet
from nbllm.train.folder import writing

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["known_as", "save_adapter", "save_whole", "write_readme"]


def save_whole(network: Any, model: Model, folder: Path) -> None:
    """Save weights, configuration and tokenizer of a model that stands alone."""
    with writing(folder), quiet():
        network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)


def save_adapter(network: Any, model: Model, folder: Path) -> None:
    """Save the adapter alone, with the name of its base instead of a path of this machine."""
    network.peft_config["default"].base_model_name_or_path = known_as(model)
    with writing(folder), quiet():
        network.save_pretrained(folder, save_embedding_layers=False)


def known_as(model: Model) -> str:
    """Return the name by which `nbllm.load` finds the model on any machine that has it."""
    where, _, name = model.source.partition(":")
    return name if where == "hub" else model.name if where == "pypi" else model.source


def write_readme(
    folder: Path, title: str, lines: list[str], *, licence: str | None, base: str | None, task: str
) -> None:
    """Write the model card, from whose header `nbllm.load` reads the licence."""
    header: dict[str, Any] = {"library_name": "nbllm", "pipeline_tag": task}
    header |= _licence(licence, base)
    if base is not None:
        header["base_model"] = base
    text = "\n\n".join(lines)
    written = f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {title}\n\n{text}\n"
    with writing(folder):
        (folder / "README.md").write_text(written, encoding="utf-8")


def _licence(licence: str | None, base: str | None) -> Mapping[str, str]:
    if licence is None:
        return {}
    # The hub knows licences by identifiers without blanks; any other goes by its name.
    if " " not in licence:
        return {"license": licence.lower()}
    entry = None if base is None else CATALOG.get(base)
    terms = {} if entry is None or entry.terms is None else {"license_link": entry.terms}
    return {"license": "other", "license_name": licence, **terms}

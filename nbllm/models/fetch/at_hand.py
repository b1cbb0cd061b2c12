"""Finds which models of records lie in this user's caches, so that loading them asks nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.openvino import is_installed

__all__ = ["is_at_hand"]

_WORD = r"\w[\w.-]*"
_OF_HUB = re.compile(rf"hub:({_WORD}/{_WORD})(?:/((?:{_WORD}/)*{_WORD}\.gguf))?")
_COMMIT = re.compile("[0-9a-f]{40}")


def is_at_hand(provenance: Mapping[str, str]) -> bool:
    """Return whether a model, with its adapter, is complete in nbllm's cache or in the hub's.

    Folders and files of one's own are never at hand, wherever they lie.

    Args:
        provenance: as `Model.provenance` gives it.
    """
    source, revision = provenance["source"], provenance["revision"]
    if "text_engine" in provenance and not is_installed():
        return False
    if source.startswith("pypi:"):
        here = _is_of_catalog(provenance["name"], source, repacked=False)
        if "text_engine" in provenance:
            here = here and _is_of_catalog(provenance["name"], source, repacked=True)
    else:
        here = _is_of_hub(source, "config.json", revision)
    if "adapter" not in provenance:
        return here
    from nbllm.models.fetch.checkpoint import ADAPTER_WEIGHTS

    commit = provenance.get("adapter_revision", "")
    return here and _is_of_hub(provenance["adapter"], ADAPTER_WEIGHTS, commit)


def _is_of_catalog(name: str, source: str, *, repacked: bool) -> bool:
    from nbllm.models.fetch.cached_models import list_cached

    entry = CATALOG.get(name)
    if entry is None or entry.source != source:
        return False
    return any(
        item.whole
        and item.name == name
        and not item.of_hub
        and (item.quantization == "openvino") == repacked
        for item in list_cached()
    )


def _is_of_hub(source: str, landmark: str, commit: str) -> bool:
    """Return whether a commit, or a GGUF file of it, is in the hub's cache, by its `landmark`."""
    found = _OF_HUB.fullmatch(source)
    if found is None or not _COMMIT.fullmatch(commit):
        return False
    # A folder of one's own that is called so would be loaded in its place.
    if Path(source.removeprefix("hub:")).exists():
        return False
    from nbllm.models.fetch.hub import is_cached

    repository, file = found.groups()
    return is_cached(repository, file or landmark, commit)

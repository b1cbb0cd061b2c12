"""Converts GGUF files into safetensors, once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import psutil
import torch
import transformers.modeling_gguf_pytorch_utils as transformers_gguf
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GgufConfig,
)
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.integrations.gguf.reader import read_gguf_metadata

from nbllm.display.progress_bar import bar_class
from nbllm.errors import NbllmError, TooLargeError, UnsupportedModelError
from nbllm.models.architecture import refuse_hollow, skeleton
from nbllm.models.fetch.cache import require_space
from nbllm.models.fetch.folder_check import check_configuration
from nbllm.models.gguf.header import complete
from nbllm.models.silence import quiet
from nbllm.wording import byte_size, counted, said

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["convert", "licence", "write_configuration"]

_BF16 = 2  # bytes
# What numpy, struct and the two readers raise on a file that ends early or holds nonsense.
_DAMAGE = (ValueError, IndexError, KeyError, struct.error, OverflowError)


def convert(file: Path, folder: Path, name: str) -> None:
    """Write the model of a GGUF file as safetensors in bf16, with its tokenizer.

    Args:
        file: the GGUF file.
        folder: where the model is written.
        name: of the model, for the message.

    Raises:
        UnsupportedModelError: the file is damaged, or transformers does not know the architecture.
        TooLargeError: it does not fit in memory.
        DownloadError: it does not fit on the disk.
    """
    metadata = _metadata(file)
    with quiet(), _reading_once(f"Unpacking {name} to bf16, once"):
        tensors = _read(file).tensors
        unpacked = _BF16 * sum(tensor.n_elements for tensor in tensors)
        require_space(folder.parent, unpacked, f"Unpacking {file.name}")
        _refuse_too_large(file, tensors)
        config = _configuration(file, metadata)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with _explained(file, metadata):
            empty = skeleton(config, "seq2seq" if config.is_encoder_decoder else "causal")
            refuse_hollow(empty, file.stat().st_size, str(file))
            loaded: Any = auto.from_pretrained(
                file.parent,
                gguf_file=file.name,
                config=config,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                # Those are refused below, by name.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            network, report = loaded
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        _refuse_gaps(report, file, metadata)
        context_length = metadata.get(f"{metadata['general.architecture']}.context_length")
        if context_length is not None:
            tokenizer.model_max_length = context_length
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write_configuration(file: Path, folder: Path) -> None:
    """Write the config.json that `convert` would, from the header alone.

    Args:
        file: the GGUF file.
        folder: where it is written.

    Raises:
        UnsupportedModelError: as `convert` does.
    """
    metadata = _metadata(file)
    with quiet(), _reading_once(""):
        _configuration(file, metadata).save_pretrained(folder)


def licence(file: Path) -> str | None:
    """Return the licence that a GGUF file names, if it does.

    Args:
        file: the GGUF file.
    """
    named = _metadata(file).get("general.license")
    return named if isinstance(named, str) else None


def _configuration(file: Path, metadata: dict[str, Any]) -> PreTrainedConfig:
    """Return what transformers makes of the header, with what it leaves out of it."""
    tensors = _read(file).tensors
    with _explained(file, metadata):
        config: PreTrainedConfig = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        classes: Any = (
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
            if config.is_encoder_decoder
            else MODEL_FOR_CAUSAL_LM_MAPPING
        )
        config.architectures = [classes[type(config)].__name__]
        config.dtype = torch.bfloat16
        complete(config, metadata, tensors, file.name)
        check_configuration(config.to_dict(), file.name)
    if metadata.get("split.count", 1) > 1:
        raise UnsupportedModelError(
            f"{file.name} is one of {counted(metadata['split.count'], 'part')} of a model, and "
            "transformers reads a GGUF file only whole. Join them with llama.cpp's "
            "`llama-gguf-split --merge`."
        )
    if metadata["general.architecture"].startswith("t5encoder"):
        raise UnsupportedModelError(
            f"{file.name} holds the encoder of a T5 without its decoder, which nbllm cannot run. "
            "Give the whole model."
        )
    return config


def _metadata(file: Path) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = read_gguf_metadata(str(file))[0]
    except _DAMAGE as error:
        raise _damaged(file) from error
    architecture, parts = metadata.get("general.architecture"), metadata.get("split.count", 1)
    if not isinstance(architecture, str) or not isinstance(parts, int):
        raise _damaged(file)
    # What is in the vocabulary, tokenizers looks at.
    check_configuration(
        {key: value for key, value in metadata.items() if not key.startswith("tokenizer.")},
        file.name,
    )
    return metadata


def _read(file: Path) -> Any:
    try:
        return vars(gguf)["GGUFReader"](str(file))
    except _DAMAGE as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{file.name} cannot be read as GGUF: with {counted(file.stat().st_size, 'byte')} it is "
        "cut off, or it is damaged. Fetch it again."
    )


def _refuse_too_large(file: Path, tensors: Any) -> None:
    sizes = [t.n_elements for t in tensors]
    # All in bf16, and the one that is being unpacked a few times over in fp32.
    needed = _BF16 * sum(sizes) + 3 * 4 * max(sizes, default=0)
    free = psutil.virtual_memory().available
    if needed > free:
        raise TooLargeError(
            f"Unpacking {file.name} to bf16 needs {byte_size(needed)} of memory, and "
            f"{byte_size(free)} are free. Convert it on a larger machine and give the folder, or "
            "take a smaller model."
        )


def _refuse_gaps(report: Any, file: Path, metadata: dict[str, Any]) -> None:
    missing = sorted(
        {*report["missing_keys"], *(str(key) for key, *_ in report["mismatched_keys"])}
    )
    if missing:
        raise UnsupportedModelError(
            f"transformers finds no weights for {', '.join(missing[:3])} "
            f"({len(missing)} in all) in {file.name}, whose architecture is "
            f"{metadata['general.architecture']!r}. {_other_ways()}"
        )


@contextmanager
def _explained(file: Path, metadata: dict[str, Any]) -> Iterator[None]:
    """Turn an exception of transformers on a model that it cannot read into our error."""
    try:
        yield
    except NbllmError:  # said already; some of ours are Python's too
        raise
    except Exception as error:  # whatever the code of its architectures raises on odd values
        architecture = metadata["general.architecture"]
        raise UnsupportedModelError(
            f"transformers cannot read {file.name}, whose architecture is {architecture!r}: "
            f"{said(error)}. {_other_ways()}"
        ) from error


def _other_ways() -> str:
    known = {*transformers_gguf.GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS}
    names = ", ".join(sorted(known - {"general", "tokenizer"}))
    return (
        "Give the same model as a folder of safetensors or a hub name 'owner/name'. The "
        f"architectures that transformers reads from GGUF are {names}."
    )


@contextmanager
def _reading_once(description: str) -> Iterator[None]:
    """Have transformers parse the file once, with nbllm's own bar over the tensors."""

    def bar(tensors: Any, **_: Any) -> Any:
        return bar_class()(tensors, desc=description, unit="tensor")

    of_transformers, of_gguf = transformers_gguf.__dict__, gguf.__dict__
    theirs = of_transformers.get("tqdm"), of_gguf["GGUFReader"]
    of_transformers["tqdm"] = bar
    of_gguf["GGUFReader"] = cache(of_gguf["GGUFReader"])
    try:
        yield
    finally:
        of_transformers["tqdm"], of_gguf["GGUFReader"] = theirs

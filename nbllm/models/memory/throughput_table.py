"""What is fast where: measured, machine by machine, and never guessed.

The figures are those of benchmarks/bench_quantization_speed.py, as it wrote them to
benchmarks/results/quantization_speed.json. `python benchmarks/run.py quantization_speed` measures
another machine, which is then added here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["MEASURED", "Speed", "hint", "machine_class"]


@dataclass(frozen=True)
class Speed:
    """Tokens a second in bf16, relative to weights that are not quantized."""

    prefill: float  # one text of 512 tokens
    decoding: float  # one text


MEASURED: dict[str, dict[str, Speed]] = {
    "cpu avx512_bf16": {
        "none": Speed(1.0, 1.0),
        "int8": Speed(0.6, 1.5),
        "nf4": Speed(0.76, 2.51),
        "fp4": Speed(0.78, 2.5),
        "int4": Speed(0.52, 2.28),
        "int8wo": Speed(0.88, 0.21),
    },
}

_BITS = {"none": 16, "int8": 8, "int8wo": 8, "nf4": 4, "fp4": 4, "int4": 4}
_LESS_EXACT = "fp4"  # than nf4, whose speed it has (https://arxiv.org/abs/2305.14314, table 2)
_WORTH_SAYING = 1.2  # times as fast
_WIDTH = 1024  # from which layers are like those measured, which are 2048 wide


def machine_class(device: torch.device) -> str:
    """What machines of like speed have in common: the kind of device, and what it computes in.

    >>> import torch
    >>> machine_class(torch.device("cpu"))  # doctest: +SKIP
    'cpu avx512_bf16'
    """
    import torch

    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    capabilities = torch.cpu.get_capabilities()
    found = (flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(flag))
    return f"cpu {next(found, 'without bf16')}"


def hint(quantization: str, device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """A choice that is known to be faster here than `quantization`, in one sentence.

    It takes no more memory. None where none is faster, or where this was not measured: on
    other machines, in other dtypes than bf16, and for layers of a much smaller `width`.

    >>> hint("none", device, torch.bfloat16, 2048)  # doctest: +SKIP
    'quantize="nf4" writes 2.5 times as fast here, and reads prompts 0.8 times as fast.'
    """
    import torch

    speeds = MEASURED.get(machine_class(device), {})
    if dtype != torch.bfloat16 or width < _WIDTH or quantization not in speeds:
        return None
    own = speeds[quantization]
    gains = {
        other: (speed.decoding / own.decoding, speed.prefill / own.prefill)
        for other, speed in speeds.items()
        if _BITS[other] <= _BITS[quantization] and other != _LESS_EXACT
    }
    faster = {other: gain for other, gain in gains.items() if max(gain) >= _WORTH_SAYING}
    if not faster:
        return None
    best = max(faster, key=lambda other: math.prod(faster[other]))
    decoding, prefill = faster[best]
    return (
        f'quantize="{best}" writes {decoding:.1f} times as fast here, and reads prompts '
        f"{prefill:.1f} times as fast."
    )

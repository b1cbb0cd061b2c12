"""Recording attention beside the plain forward pass, and beside `output_attentions=True`.

SmolLM2 reads one text, in bf16 where the processor computes in it, else in fp32. Peak memory, in a
process of its own, is what the system cannot have back, above what is in use after imports,
weights included; where a recording is offloaded, its file is not. It is the median of three
processes, as it depends on when the allocator gives memory back. Time is of processors, the median
of at least five passes, of which each way has one in turn. `output_attentions=True` wants eager
attention, and what it returns is kept, as its users keep it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

TOKENS = (256, 512, 1024, 2048)
WAYS = ("plain", "record", "record, offload", "output_attentions")
ROUNDS = 5
TIMED_TOKENS = 8192  # at least, of each way: short passes are repeated more often
PEAKS = 3


def run() -> list[dict[str, Any]]:
    rows = []
    for tokens in TOKENS:
        times = child("time", tokens)
        peaks = {way: median_peak(way, tokens) for way in WAYS}
        for way in WAYS:
            rows.append(
                {
                    "tokens": tokens,
                    "way": way,
                    "CPU s": times[way],
                    "times plain": times[way] / times["plain"],
                    "peak MB": peaks[way]["peak"] / 1e6,
                    "times plain's peak": peaks[way]["peak"] / peaks["plain"]["peak"],
                    "closure": peaks[way]["closure"],
                }
            )
    return rows


def median_peak(way: str, tokens: int) -> dict[str, Any]:
    """What the process measured that is in the middle by its peak."""
    each = [child(way, tokens) for _ in range(PEAKS)]
    return sorted(each, key=lambda one: float(one["peak"]))[PEAKS // 2]


def child(what: str, tokens: int) -> dict[str, Any]:
    """What a process of its own measured."""
    done = subprocess.run(
        [sys.executable, __file__, what, str(tokens)], check=True, capture_output=True, text=True
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def works(tokens: int) -> tuple[Any, dict[str, Callable[[], Any]]]:
    """The model, and each way to read the same text with it."""
    import torch

    import nbllm
    from nbllm.attention.recording.capture import record
    from nbllm.engine.prompt import Prompt

    model = nbllm.load(quantize="none")
    ids = torch.randint(100, 40_000, (1, tokens), generator=torch.Generator().manual_seed(0))
    prompt = Prompt(tuple(ids[0].tolist()), " " * tokens, ((0, 1),) * tokens, ())

    def forward(attention: str, **options: Any) -> Any:
        model.network.set_attn_implementation(attention)
        with torch.inference_mode():
            return model.network.base_model(input_ids=ids, use_cache=False, **options)

    def recorded(**options: Any) -> Any:
        model.network.set_attn_implementation("sdpa")
        return record(model, prompt, **options)

    return model, {
        "plain": lambda: forward("sdpa"),
        "record": recorded,
        "record, offload": lambda: recorded(offload=True),
        "output_attentions": lambda: forward("eager", output_attentions=True),
    }


def times(tokens: int) -> dict[str, float]:
    """Processor seconds of a pass, the ways in turn."""
    from meter import Meter

    model, each = works(tokens)
    rounds = max(ROUNDS, TIMED_TOKENS // tokens)
    spent = Meter(model.device).medians(rounds, *each.values())
    return {way: taken.cpu for way, taken in zip(each, spent, strict=True)}


def peak(way: str, tokens: int) -> dict[str, Any]:
    """Bytes above what is in use after imports, at most, and the recording's own check."""
    import torch
    from bench_memory import Watch, mapped_weights, status

    from nbllm.models import loader  # noqa: F401

    for dtype in (torch.bfloat16, torch.float32):
        torch.ones(8, 8, dtype=dtype) @ torch.ones(8, 8, dtype=dtype)
    before = status()["RssAnon"]
    model, each = works(tokens)
    with Watch() as watch:
        result = each[way]()
    closure = result.closure() if way.startswith("record") else ""
    return {
        "peak": watch.peak["RssAnon"] - before + mapped_weights(model.network),
        "closure": closure,
    }


if __name__ == "__main__":
    what, tokens = sys.argv[1], int(sys.argv[2])
    print(json.dumps(times(tokens) if what == "time" else peak(what, tokens)))

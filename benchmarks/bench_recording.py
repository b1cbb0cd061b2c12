"""Recording attention beside the plain forward pass, and beside `output_attentions=True`.

SmolLM2 in bf16 reads one text, in a process of its own for each row. Peak memory is what the
system cannot have back, above what is in use after imports, weights included; where a recording
is offloaded, its file is not. Time is of processors, the median of three passes; before each row's
passes one is run that is not counted. `output_attentions=True` wants eager attention, and what it
returns is kept, as its users keep it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

TOKENS = (256, 512, 1024, 2048)
WAYS = ("plain", "record", "record, offload", "output_attentions")
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    rows = []
    for tokens in TOKENS:
        plain: dict[str, float] = {}
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, __file__, way, str(tokens)],
                check=True,
                capture_output=True,
                text=True,
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            plain = plain or measured
            rows.append(
                {
                    "tokens": tokens,
                    "way": way,
                    "CPU s": measured["cpu"],
                    "times plain": measured["cpu"] / plain["cpu"],
                    "peak MB": measured["peak"] / 1e6,
                    "times plain's peak": measured["peak"] / plain["peak"],
                    "closure": measured["closure"],
                }
            )
    return rows


def measure(way: str, tokens: int) -> dict[str, Any]:
    """One way, in this process: the processor time of a pass, and bytes above imports."""
    import torch
    from bench_memory import Watch, mapped_weights, status
    from meter import Meter

    import nbllm
    from nbllm.attention.capture import record
    from nbllm.engine.prompt import Prompt

    torch.ones(8, 8, dtype=torch.bfloat16) @ torch.ones(8, 8, dtype=torch.bfloat16)
    before = status()["RssAnon"]
    model = nbllm.load(quantize="none", dtype="bf16")
    ids = torch.randint(100, 40_000, (1, tokens), generator=torch.Generator().manual_seed(0))
    prompt = Prompt(tuple(ids[0].tolist()), " " * tokens, ((0, 1),) * tokens, ())
    if way == "output_attentions":
        model.network.set_attn_implementation("eager")

    def forward(**options: Any) -> Any:
        with torch.inference_mode():
            return model.network.base_model(input_ids=ids, use_cache=False, **options)

    works: dict[str, Callable[[], Any]] = {
        "plain": forward,
        "record": lambda: record(model, prompt),
        "record, offload": lambda: record(model, prompt, offload=True),
        "output_attentions": lambda: forward(output_attentions=True),
    }
    meter = Meter(model.device)
    with Watch() as watch:
        result = works[way]()
    closure = result.closure() if way.startswith("record") else ""
    del result
    spent = [meter.spent(works[way])[1].cpu for _ in range(ROUNDS)]
    peak = watch.peak["RssAnon"] - before + mapped_weights(model.network)
    return {"cpu": statistics.median(spent), "peak": peak, "closure": closure}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))

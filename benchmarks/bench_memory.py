"""Forecast of `nbllm.estimate` against the peak that loading and running really takes.

A LLaMA of 1.1 billion random weights on the processor, in a process of its own for each row.
Measured is what the system cannot have back, above what is in use after imports: anonymous
memory, and those pages of the weight file that the network goes on using, while the model is
loaded, reads `batch` texts of `context` tokens and writes three more each. Pages that were only
read to be quantized are left out, since the system drops them where it needs the memory; `top`
counts them while they are there, as "resident" does here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

CASES = (
    ("none", 512, 1), ("none", 2048, 1), ("none", 512, 4),
    ("int8", 512, 1), ("int8", 2048, 1), ("int8", 64, 16),
    ("nf4", 512, 1), ("nf4", 2048, 1), ("nf4", 64, 16),
    ("int8wo", 512, 4),
)  # fmt: skip
WRITTEN = 3  # tokens
_PAUSE = 0.002  # seconds between two looks at the process


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    from random_llama import Shape, write

    shape = Shape(
        vocabulary=32_000, hidden=2048, intermediate=6144, layers=20, heads=16, key_heads=4,
        context=4096,
    )  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), shape, torch.device("cpu"))
        for case in CASES:
            rows.append(compare(folder, *case))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def compare(folder: str, quantize: str, context: int, batch: int) -> dict[str, Any]:
    """One row: the forecast, and what a process of its own measured."""
    from nbllm.models.estimate.estimate import estimate

    (row,) = estimate(
        folder, quantize=quantize, context=context, batch=batch, dtype="bf16", device="cpu"
    ).rows
    child = [sys.executable, __file__, folder, quantize, str(context), str(batch)]
    # A home of its own: weights that an earlier row quantized would be read again, and not made.
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            child, check=True, capture_output=True, text=True, env=os.environ | {"NBLLM_HOME": home}
        )
    measured = json.loads(done.stdout.splitlines()[-1])
    return {
        "quantize": quantize,
        "context": context,
        "batch": batch,
        "weights MB": row.weights / 1e6,
        "cache MB": row.cache / 1e6,
        "activations MB": row.activations / 1e6,
        "loading MB": row.loading / 1e6,
        "forecast MB": row.peak / 1e6,
        "measured MB": measured["peak"] / 1e6,
        "forecast / measured": row.peak / measured["peak"],
        "resident MB": measured["resident"] / 1e6,
    }


def measure(folder: str, quantize: str, context: int, batch: int) -> dict[str, int]:
    """Load and run, in this process: bytes above what is in use after imports."""
    import torch

    import nbllm
    from nbllm.models.quantization import schemes as quantization

    quantization.kernel_problem(quantize, torch.device("cpu"))  # imports what it needs
    before = status()
    with Watch() as watch:
        model = nbllm.load(folder, quantize=quantize, dtype="bf16", device="cpu")
        ids = torch.randint(10, 1000, (batch, context))
        mask = torch.ones_like(ids)
        mask[0, 0] = int(batch == 1)  # texts of several lengths need a mask
        with torch.inference_mode():
            model.network.generate(
                ids, attention_mask=mask, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN,
                do_sample=False, pad_token_id=0,
            )  # type: ignore[operator]  # fmt: skip
    return {
        "peak": watch.peak["RssAnon"] - before["RssAnon"] + mapped_weights(model.network),
        "resident": watch.peak["VmRSS"] - before["VmRSS"],
    }


def status() -> dict[str, int]:
    """What Linux says of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.partition(":")[::2] for line in lines if line.startswith(("VmRSS", "RssAnon")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def mapped_weights(network: Any) -> int:
    """Bytes of the parameters that are still pages of the weight file."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    files = [fields[0].split("-") for fields in maps if fields[-1].endswith(".safetensors")]
    spans = [(int(start, 16), int(end, 16)) for start, end in files]
    return sum(
        parameter.nbytes
        for parameter in network.parameters()
        if any(start <= parameter.data_ptr() < end for start, end in spans)
    )


class Watch:
    """The most of each figure of `status` while it is open."""

    def __init__(self) -> None:
        self.peak = status()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            for name, value in status().items():
                self.peak[name] = max(self.peak[name], value)
            time.sleep(_PAUSE)


if __name__ == "__main__":
    folder, quantize, context, batch = sys.argv[1:]
    print(json.dumps(measure(folder, quantize, int(context), int(batch))))

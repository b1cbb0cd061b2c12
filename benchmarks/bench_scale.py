"""What a row costs when there are many: 10,000 and 100,000 of them, on a model of two layers.

With so small a model nearly all of the time is nbllm's own. Each number of rows has a process of
its own. CPU time is of all threads, and the least of three runs but for the first. Fresh is a
first run of `sentiment`; known is the same run again, from the ledger. Memory is the peak of the
first run above what was in use before it. Half of the rows have a number in their text, at which
`mask` has to look. Below are growth exponents, log(cost ratio) / log(rows ratio): 1 is in
proportion to the rows, and above 1.1 is a fault.

NBLLM_BENCH_ROWS names other numbers of rows: NBLLM_BENCH_ROWS=10000,100000,1000000.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROWS = (10_000, 100_000)
CORRECTIONS = 200  # that `calibrate` takes
RUNS = 3  # of what can be run again
QUERY = "a hotel with a friendly desk"
_PAUSE = 0.005  # seconds between two looks at how far a run is

# What turns the cost of all rows into that of one; None where it is shown as it is.
MEASURES = {
    "fresh CPU µs/row": 1e6,
    "known CPU µs/row": 1e6,
    "peak memory B/row": 1.0,
    "ledger B/answer": 1.0,
    "first rows s": None,
    "calibrate CPU s": None,
    "corrected CPU µs/row": 1e6,
    "search CPU µs/row": 1e6,
    "mask CPU µs/row": 1e6,
}


def run(sizes: Sequence[int] | None = None) -> list[dict[str, Any]]:
    named = os.environ.get("NBLLM_BENCH_ROWS")
    if sizes is None:
        sizes = [int(size) for size in named.split(",")] if named else ROWS
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    from random_llama import Shape, write

    shape = Shape(
        vocabulary=1024, hidden=64, intermediate=128, layers=2, heads=4, key_heads=2, context=2048
    )
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), shape, torch.device("cpu"))
        measured = {size: _in_a_process(folder, size) for size in sorted(sizes)}
    rows = [
        {"rows": f"{size:,}"} | {name: shown(name, costs[name], size) for name in costs}
        for size, costs in measured.items()
    ]
    for (fewer, before), (more, after) in pairwise(measured.items()):
        rows.append(
            {"rows": f"exponent {fewer:,} to {more:,}"}
            | {name: exponent(before[name], after[name], more / fewer) for name in before}
        )
    return rows


def shown(name: str, cost: float, size: int) -> float:
    """A cost of all rows as the table has it."""
    of = MEASURES[name]
    return cost if of is None else of * cost / size


def exponent(before: float, after: float, ratio: float) -> float:
    """How a cost grows with the rows: 1 where it is in proportion to them."""
    return math.log(max(after, 1e-9) / max(before, 1e-9)) / math.log(ratio)


def _in_a_process(folder: str, size: int) -> dict[str, float]:
    """What `measure` gives in a new process with a ledger of its own."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, __file__, folder, str(size)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            env=os.environ
            | {"NBLLM_HOME": home, "NBLLM_LEDGER": str(Path(home) / "ledger.sqlite3")},
        )
    costs: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"rows": size} | costs), file=sys.stderr, flush=True)
    return costs


def measure(folder: str, size: int) -> dict[str, float]:
    """What all of `size` rows cost: seconds or bytes."""
    import pandas as pd

    import nbllm

    reviews = nbllm.data.load("reviews")["text"].dropna().tolist()
    texts = [f"{reviews[n % len(reviews)]} {f'No. {n}' if n % 2 else word(n)}" for n in range(size)]
    frame = pd.DataFrame({"text": texts})
    model = nbllm.load(folder)
    # Fits the offset, starts threads, imports.
    warmed = pd.DataFrame({"text": reviews}).llm.sentiment("text", model=model, ledger=False)
    warmed.llm.search("text", QUERY, how="bm25")
    costs: dict[str, float] = {}

    used = _peak()
    start, cpu = time.perf_counter(), time.process_time()
    going = frame.llm.sentiment("text", model=model, background=True)
    while not going.done and not (going.report is not None and going.report.answered):
        time.sleep(_PAUSE)
    first = time.perf_counter() - start
    answered = going.result()
    costs["fresh CPU µs/row"] = time.process_time() - cpu
    costs["peak memory B/row"] = _peak() - used
    costs["ledger B/answer"] = float(sum(file.stat().st_size for file in _ledger_files()))
    known, costs["known CPU µs/row"] = _least(lambda: frame.llm.sentiment("text", model=model))
    assert known["text_sentiment"].tolist() == answered["text_sentiment"].tolist()
    costs["first rows s"] = first

    labels = ["positive", "negative"]
    some = {n: labels[n % 2] for n in range(0, size, max(1, size // CORRECTIONS))}
    many = {n: labels[n % 2] for n in range(0, size, 10)}
    costs["calibrate CPU s"] = _least(lambda: answered.llm.calibrate(some))[1]
    costs["corrected CPU µs/row"] = _least(lambda: answered.llm.corrected(many))[1]
    _, costs["search CPU µs/row"] = _least(lambda: frame.llm.search("text", QUERY, how="bm25"))
    try:
        frame.head(2).llm.mask("text")
    except nbllm.errors.FrameError as error:
        print(f"scale: mask is not measured: {error}", file=sys.stderr)
    else:
        _, costs["mask CPU µs/row"] = _least(lambda: frame.llm.mask("text"))
    return costs


def word(n: int) -> str:
    """A word of its own for each number, without a digit."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(n))


def _least(work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and the least CPU time that it took in three runs."""
    took = []
    for _ in range(RUNS):
        start = time.process_time()
        result = work()
        took.append(time.process_time() - start)
    return result, min(took)


def _ledger_files() -> list[Path]:
    path = Path(os.environ["NBLLM_LEDGER"])
    return [file for file in (path, Path(f"{path}-wal")) if file.exists()]


def _peak() -> int:
    """The most bytes that this process has had in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    costs = measure(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(costs))

"""Runs the benchmarks: `python benchmarks/run.py [name]`.

Each benchmarks/bench_<name>.py has a docstring that says what is compared, and a function
`run() -> list[dict]`: one dict a table row, the same keys in each, or none where it cannot measure
here. The table is printed, and written with the machine and the versions to
benchmarks/results/<name>.json.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
VERSIONED = ("nbllm", "torch", "transformers", "bitsandbytes", "pandas", "polars")

Row = dict[str, Any]


def available() -> dict[str, Path]:
    """The benchmarks by name."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name; Linux has it in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions() -> dict[str, str]:
    """The installed versions of what decides the numbers."""
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {name: installed[name] for name in VERSIONED if name in installed}


def measure(name: str, path: Path) -> tuple[str, list[Row]]:
    """Import one benchmark and run it: what it compares, and its rows."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return (module.__doc__ or name).strip().splitlines()[0], module.run()


def shown(value: object) -> str:
    """A cell of the table."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def table(rows: list[Row]) -> str:
    """The rows as a table of text, numbers to the right."""
    heads = list(rows[0])
    cells = [[shown(row.get(head, "")) for head in heads] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [all(isinstance(row.get(head), int | float) for row in rows) for head in heads]

    def line(values: list[str]) -> str:
        parts = zip(values, widths, numeric, strict=True)
        return "  ".join(v.rjust(w) if right else v.ljust(w) for v, w, right in parts).rstrip()

    return "\n".join([line(heads), line(["-" * w for w in widths]), *map(line, cells)])


def main(wanted: list[str]) -> None:
    found = available()
    unknown = [name for name in wanted if name not in found]
    if unknown:
        sys.exit(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(found)}")
    RESULTS.mkdir(exist_ok=True)
    for name in wanted or found:
        start = time.perf_counter()
        about, rows = measure(name, found[name])
        if not rows:  # something is not there that it measures on, and it has said so
            continue
        seconds = time.perf_counter() - start
        print(f"\n{name}: {about}\n\n{table(rows)}\n\n({seconds:.0f} s)", flush=True)
        record = {
            "benchmark": name,
            "about": about,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "rows": rows,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

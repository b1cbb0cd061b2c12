"""What nbllm does on a GPU: `python benchmarks/gpu.py`, or `make bench-gpu`, under 8 minutes.

First it is checked on small models whether everything on the GPU is what it is on the processor.
Then a LLaMA with the sizes of an 8B model and random weights is written to a temporary folder
(16 GB) and loaded as users load one, in bf16, nf4 and int8. Measured are: loading and its bytes,
prefill and decoding, the verbs of a frame, and recorded attention; each beside the same work done
with transformers alone, and beside the bound that the device's rates set.

One result file is written, benchmarks/results/gpu.json, anew with each line: what fails is in it
as an error and stops nothing else, and where the time is up it holds what was done.
`--tiny` runs all of it on any machine, with a model of two layers, to test the code: its
speeds mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from gpu_bench import FULL, TINY, Bench, Settings
from gpu_checks import CHECKS
from gpu_speed import EVERY_QUANTIZATION, checkpoint, limits, load
from logbook import Log, origin
from meter import Meter
from run import RESULTS
from transformers.utils import logging


def measure(settings: Settings, device: torch.device, log: Log, folder: Path) -> None:
    """Every section, for every quantization."""
    bench = Bench(settings, Meter(device), folder)
    log.head["absent"] = bench.absent
    for check in CHECKS:
        log.take(check.__name__, "none", check(bench))
        release()
    if not log.take("limits", "none", limits(bench)):
        return
    if not log.take("checkpoint", "none", checkpoint(bench)):
        return
    for bench.quantization in settings.quantizations:
        if log.take("load", bench.quantization, load(bench)):
            for section in EVERY_QUANTIZATION:
                log.take(section.__name__, bench.quantization, section(bench))
                release()
        if bench.loaded is not None:
            bench.loaded.unload()
            bench.loaded = None
        release()


def release() -> None:
    """Give back what an exception or a section left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--tiny", action="store_true", help="a model of two layers, on any device")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json", help="the result file")
    parser.add_argument("--folder", type=Path, help="where 16 GB of weights fit, for a while")
    chosen = parser.parse_args(arguments)
    if chosen.folder is not None and not chosen.folder.is_dir():
        parser.error(f"--folder {chosen.folder} is no folder. Make it first.")
    if chosen.out.is_dir():
        parser.error(f"--out {chosen.out} is a folder. Name a file in it.")
    if not chosen.tiny and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here. --tiny tests the benchmark itself, on any machine.")
    settings = TINY if chosen.tiny else FULL
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    logging.set_verbosity_error()
    head = {"benchmark": "gpu", "model": "tiny" if chosen.tiny else "8B", **origin(about)}
    log = Log(chosen.out, head, time.monotonic() + settings.seconds)
    try:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        log.write()
    except OSError as error:
        parser.error(f"--out {chosen.out} cannot be written ({error}). Name another file.")
    # As Slurm ends what has run too long: the weights are removed all the same.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        # Hashes of weights that will be gone are not for the user's cache.
        os.environ["NBLLM_HOME"] = f"{folder}/home"
        os.environ.pop("NBLLM_DATA", None)  # the texts are the same on every machine
        try:
            measure(settings, device, log, Path(folder) / "llama")
        except KeyboardInterrupt:
            log.fail("", "", "interrupted: what is missing was not measured")
        finally:
            signal.signal(signal.SIGTERM, before)
    checked = [row for row in log.rows if row.right is not None]
    print(f"\n{sum(bool(row.right) for row in checked)} of {len(checked)} checks are right.")
    for failure in log.failures:
        print(f"{failure['section']} {failure['quantization']}: {failure['problem']}".strip())
    print(f"Written to {chosen.out}.")
    return 1 if log.failures else 0


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.exit(main())

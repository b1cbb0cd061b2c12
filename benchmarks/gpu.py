"""What nbllm does on a GPU: `python benchmarks/gpu.py`, or `make bench-gpu`, under 8 minutes.

A LLaMA with the sizes of an 8B model and random weights is written to a temporary folder (16 GB)
and loaded as users load one, in bf16, nf4 and int8. Measured are: loading and its bytes, prefill
and decoding, the verbs of a frame, and recorded attention; each beside the same work done with
transformers alone, or beside the rate that the device reaches in a matrix product or a copy.

One result file is written, benchmarks/results/gpu.json, anew after each section: what fails is
in it as an error and stops nothing else, and where the time is up it holds what was done.
`--tiny` runs all of it on any machine, with a model of two layers, to test the code: its
figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from logbook import Log, NotMeasured, Row, origin
from meter import Meter
from random_llama import LLAMA_8B, Shape, write
from run import RESULTS
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import ContinuousBatchingConfig, GenerationConfig, pipeline
from transformers.utils import logging

import nbllm
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prompt import Prompt
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.tasks.summarize import summarize as summarize_task
from nbllm.models.estimate import Requirement, estimate
from nbllm.models.model import Model
from nbllm.models.quantization import kernel_problem
from nbllm.models.sources import fetch

_PAGE = 256  # tokens, as transformers' continuous batching has them by default


@dataclass(frozen=True)
class Settings:
    """How large, how often and how long."""

    shape: Shape = LLAMA_8B
    quantizations: tuple[str, ...] = ("none", "nf4", "int8")
    seconds: float = 420  # after which no section is started
    rounds: int = 3  # of which the median counts
    matrix: int = 8192  # rows and columns of the matrix product that is the limit
    copied: int = 4_000_000_000  # bytes
    prefill: tuple[tuple[int, int], ...] = ((64, 256), (8, 2048))  # texts, tokens of each
    decode: tuple[int, ...] = (1, 32)  # texts
    prompt: int = 128  # tokens before decoding
    written: int = 32  # tokens decoded
    reviews: int = 256
    articles: int = 32
    words: int = 20  # of a summary
    batches: tuple[int, ...] = (32, 128)  # that the pipeline is tried with
    recorded: int = 8192  # tokens
    tile: int = 256  # rows and columns of attention weights


TINY = Settings(
    rounds=1,
    shape=Shape(
        vocabulary=8192,
        hidden=256,
        intermediate=512,
        layers=2,
        heads=4,
        key_heads=2,
        context=2048,
    ),
    matrix=512,
    copied=8_000_000,
    prefill=((4, 64), (2, 128)),
    decode=(1, 4),
    prompt=16,
    # A difference of two times is measured: fewer tokens are lost in what else a machine does.
    written=64,
    reviews=8,
    articles=2,
    words=5,
    batches=(4,),
    recorded=256,
    tile=64,
)


@dataclass
class Bench:
    """What the sections share."""

    settings: Settings
    meter: Meter
    folder: Path
    matrix_rate: float = 0.0  # operations a second
    bandwidth: float = 0.0  # bytes a second, read and written
    quantization: str = "none"
    loaded: Model | None = None
    before: int = 0  # bytes in use before it was loaded
    weights: int = 0  # bytes that it is forecast to take

    @property
    def model(self) -> Model:
        """The one that the section before has loaded."""
        assert self.loaded is not None
        return self.loaded

    def row(self, section: str, measure: str, value: float, unit: str, **against: Any) -> Row:
        return Row(section, self.quantization, measure, value, unit, **against)

    def foreseen(self, texts: int, tokens: int) -> Requirement:
        """The memory that nbllm forecasts for reading so many texts of so many tokens."""
        return estimate(
            self.folder,
            quantize=self.quantization,
            context=tokens,
            batch=texts,
            dtype="bf16",
            device=self.meter.device,
        ).rows[0]


def limits(bench: Bench) -> Iterator[Row]:
    """What this device reaches in one large matrix product and one large copy."""
    settings, meter = bench.settings, bench.meter
    operations, spent = meter.matrix_product(torch.bfloat16, settings.matrix)
    bench.matrix_rate = operations / spent.wall
    yield bench.row("limits", "bf16 matrix product", bench.matrix_rate / 1e12, "TFLOP/s")
    moved, spent = meter.copy(settings.copied)
    bench.bandwidth = moved / spent.wall
    yield bench.row("limits", "copy, read and written", bench.bandwidth / 1e9, "GB/s")


def checkpoint(bench: Bench) -> Iterator[Row]:
    """Write the model, and hash it as nbllm does with weights that it has not seen before."""
    settings, meter = bench.settings, bench.meter
    size, spent = meter.spent(lambda: write(bench.folder, settings.shape, meter.device))
    yield bench.row("checkpoint", "weights on disk", size / 1e9, "GB")
    yield bench.row("checkpoint", "written", spent.wall, "s")
    _, spent = meter.spent(lambda: fetch(bench.folder))
    yield bench.row("checkpoint", "hashed, once", spent.wall, "s")


def load(bench: Bench) -> Iterator[Row]:
    """Seconds and bytes of `nbllm.load`, the bytes against the forecast."""
    meter, choice = bench.meter, bench.quantization
    problem = kernel_problem(choice, meter.device)
    if problem is not None:
        raise NotMeasured(problem)
    bench.before = meter.in_use()

    def work() -> Model:
        return nbllm.load(bench.folder, quantize=choice, device=meter.device, dtype="bf16")

    (bench.loaded, spent), peak = meter.peak(lambda: meter.spent(work))
    yield bench.row("load", "time", spent.wall, "s")
    foreseen = bench.foreseen(1, 1)
    bench.weights = foreseen.weights
    yield bench.row(
        "load", "weights in memory", (meter.in_use() - bench.before) / 1e9, "GB",
        against="forecast", reference=foreseen.weights / 1e9,
    )  # fmt: skip
    yield bench.row(
        "load", "peak while loading", (peak - bench.before) / 1e9, "GB",
        against="forecast", reference=foreseen.loading / 1e9,
    )  # fmt: skip


def prefill(bench: Bench) -> Iterator[Row]:
    """Prompts read a second, by nbllm's scoring and by `generate` that writes one token."""
    settings, network = bench.settings, bench.model.network
    for texts, tokens in settings.prefill:
        ids = random_ids(bench, texts, tokens)
        scorer = LabelScorer(bench.model, (), [[5], [6]])
        prompts = as_prompts(ids)
        ours, theirs = bench.meter.medians(
            settings.rounds, partial(scorer.score, prompts), partial(generate, network, ids, 1)
        )
        what, count = f"{texts} × {tokens} tokens", texts * tokens
        yield bench.row(
            "prefill", what, count / ours.wall, "tokens/s",
            against="transformers generate", reference=count / theirs.wall,
        )  # fmt: skip
        yield bench.row(
            "prefill", what, count * settings.shape.flops / ours.wall / 1e12, "TFLOP/s",
            against="matrix product", reference=bench.matrix_rate / 1e12,
        )  # fmt: skip
        _, peak = bench.meter.peak(partial(generate, network, ids, 1))
        yield bench.row(
            "prefill", f"{what}, peak of memory", (peak - bench.before) / 1e9, "GB",
            against="forecast", reference=bench.foreseen(texts, tokens).running / 1e9,
        )  # fmt: skip


def decode(bench: Bench) -> Iterator[Row]:
    """Tokens written a second once the prompt is read, by nbllm and by `generate`."""
    settings, network = bench.settings, bench.model.network
    # A step reads all weights, and of the embedding in bf16 only a row a text.
    a_step = bench.weights - 2 * settings.shape.vocabulary * settings.shape.hidden
    for texts in settings.decode:
        ids = random_ids(bench, texts, settings.prompt)
        prompts = as_prompts(ids)
        one = TextGenerator(bench.model, (), max_new_tokens=1)
        many = TextGenerator(bench.model, (), max_new_tokens=1 + settings.written)
        ours_one, theirs_one, ours_many, theirs_many = bench.meter.medians(
            settings.rounds,
            partial(one, prompts),
            partial(generate, network, ids, 1),
            partial(many, prompts),
            partial(generate, network, ids, 1 + settings.written),
        )
        ours = ours_many.wall - ours_one.wall
        theirs = theirs_many.wall - theirs_one.wall
        what, count = f"batch {texts}", texts * settings.written
        yield bench.row(
            "decode", what, count / ours, "tokens/s",
            against="transformers generate", reference=count / theirs,
        )  # fmt: skip
        yield bench.row(
            "decode", f"{what}, weights read", a_step * settings.written / ours / 1e9, "GB/s",
            against="copy", reference=bench.bandwidth / 1e9,
        )  # fmt: skip


def sentiment(bench: Bench) -> Iterator[Row]:
    """`df.llm.sentiment` against the text-generation pipeline with the same prompts."""
    frame = unique(nbllm.data.load("reviews"), bench.settings.reviews)
    yield from verb(bench, "sentiment", frame, tokens=1)


def summarize(bench: Bench) -> Iterator[Row]:
    """`df.llm.summarize` against the text-generation pipeline with the same prompts."""
    frame = unique(nbllm.data.load("articles"), bench.settings.articles)
    words = bench.settings.words
    tokens = summarize_task(bench.model, max_words=words).max_new_tokens
    yield from verb(bench, "summarize", frame, tokens, max_words=words)


def verb(
    bench: Bench, name: str, frame: pd.DataFrame, tokens: int, **options: Any
) -> Iterator[Row]:
    """One verb over a frame; the pipeline has the batch size that suits it best."""
    settings, model = bench.settings, bench.model
    prompts = [
        str(frame.llm.preview(name, "text", row=row, model=model, **options)) for row in frame.index
    ]
    make: Any = pipeline  # typed with an overload a task, none of which takes these
    write_on = make("text-generation", model=model.network, tokenizer=model.tokenizer)
    greedy = {"max_new_tokens": tokens, "do_sample": False, "return_full_text": False}
    answered: list[Any] = []

    def ours() -> None:
        answered.append(getattr(frame.llm, name)("text", model=model, ledger=False, **options))

    batches = [batch for batch in settings.batches if batch <= len(frame)] or [len(frame)]
    theirs = [partial(write_on, prompts, batch_size=batch, **greedy) for batch in batches]
    spent, *piped = bench.meter.medians(settings.rounds, ours, *theirs)
    best = min(piped, key=lambda each: each.wall)
    yield bench.row(
        name, f"{len(frame)} rows", len(frame) / spent.wall, "rows/s",
        against=f"pipeline, batch {batches[piped.index(best)]}", reference=len(frame) / best.wall,
    )  # fmt: skip
    if name == "sentiment":
        report = answered[-1].llm.report()
        computed = report.tokens + report.prefix_tokens  # padding is no work
        yield bench.row(
            name, f"{len(frame)} rows", computed * settings.shape.flops / spent.wall / 1e12,
            "TFLOP/s", against="matrix product", reference=bench.matrix_rate / 1e12,
        )  # fmt: skip
    else:
        ids = model.tokenizer(prompts, add_special_tokens=False).input_ids
        (batched,) = bench.meter.medians(
            settings.rounds, partial(continuously, model.network, ids, tokens)
        )
        yield bench.row(
            name, f"{len(frame)} rows", len(frame) / spent.wall, "rows/s",
            against="continuous batching", reference=len(frame) / batched.wall,
        )  # fmt: skip


def attention(bench: Bench) -> Iterator[Row]:
    """Recording a long text, whether it explains what the kernel returned, and one tile."""
    settings, model, meter = bench.settings, bench.model, bench.meter
    prompt = as_prompts(random_ids(bench, 1, settings.recorded))[0]
    ids = torch.tensor([prompt.ids], device=model.device)

    def plain() -> None:
        with torch.inference_mode():
            model.network.base_model(input_ids=ids, use_cache=False)

    def record() -> nbllm.Recording:
        made = nbllm.record(model, prompt)
        assert isinstance(made, nbllm.Recording)  # of an encoder-decoder there are three
        return made

    alone, recorded = meter.medians(settings.rounds, plain, record)
    _, peak_alone = meter.peak(plain)
    recording, peak = meter.peak(record)
    what = f"{len(recording):,} tokens"
    yield bench.row(
        "attention", f"{what} recorded", recorded.wall, "s",
        against="forward without recording", reference=alone.wall,
    )  # fmt: skip
    yield bench.row(
        "attention", f"{what}, peak of memory", peak / 1e9, "GB",
        against="forward without recording", reference=peak_alone / 1e9,
    )  # fmt: skip
    allowed = {"against": "most that is allowed", "reference": 2e-2}
    yield bench.row("attention", "closure", recording.closure(), "relative error", **allowed)

    part = slice(len(recording) - settings.tile, len(recording))
    tile = f"tile of {settings.tile} × {settings.tile}"
    served = {"against": "most that is allowed", "reference": 10.0}
    layer = settings.shape.layers - 1
    recording.weights(0, 0, part, part)  # what is loaded at the first use is not the tile's
    _, first = meter.spent(lambda: recording.weights(layer, 1, part, part))
    yield bench.row("attention", f"{tile}, first of a head", first.wall * 1e3, "ms")
    (again,) = meter.medians(10, lambda: recording.weights(layer, 1, part, part))
    yield bench.row("attention", tile, again.wall * 1e3, "ms", **served)

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        gap = record().closure()
    yield bench.row("attention", "closure, flash kernel", gap, "relative error", **allowed)


EVERY_QUANTIZATION = (prefill, decode, sentiment, summarize, attention)


def random_ids(bench: Bench, texts: int, tokens: int) -> torch.Tensor:
    """Tokens of random texts, (texts, tokens); the special ones are left out."""
    generator = torch.Generator().manual_seed(texts * tokens)
    return torch.randint(3, len(bench.model.tokenizer), (texts, tokens), generator=generator)


def as_prompts(ids: torch.Tensor) -> list[Prompt]:
    return [
        Prompt(ids=tuple(row), text="", spans=((0, 0),) * len(row), marks=())
        for row in ids.tolist()
    ]


def generate(network: Any, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """What transformers does by itself: greedy, with its own defaults."""
    ids = ids.to(network.device)
    written: torch.Tensor = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return written


def continuously(network: Any, ids: list[list[int]], tokens: int) -> None:
    """What transformers' continuous batching writes, greedy, with room for all texts at once."""
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=-1
    )
    pages = sum(1 + (len(each) + tokens) // _PAGE for each in ids)
    room = ContinuousBatchingConfig(page_size=_PAGE, num_blocks=pages)
    written = network.generate_batch(
        inputs=ids, generation_config=config, continuous_batching_config=room
    )
    if len(written) != len(ids):
        raise NotMeasured("continuous batching has lost texts")


def unique(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """As many rows, no text twice: duplicates would be answered once."""
    copies = [frame.assign(text=frame.text + f" (no. {n})") for n in range(1 + rows // len(frame))]
    return pd.concat(copies, ignore_index=True).head(rows)


def measure(settings: Settings, device: torch.device, log: Log, folder: Path) -> None:
    """Every section, for every quantization."""
    bench = Bench(settings, Meter(device), folder)
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
    if not chosen.tiny and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here. --tiny tests the benchmark itself, on any machine.")
    settings = TINY if chosen.tiny else Settings()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    logging.set_verbosity_error()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    log = Log(
        chosen.out, {"benchmark": "gpu", **origin(about)}, time.monotonic() + settings.seconds
    )
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        # Hashes of weights that will be gone are not for the user's cache.
        os.environ["NBLLM_HOME"] = f"{folder}/home"
        os.environ.pop("NBLLM_DATA", None)  # the texts are the same on every machine
        measure(settings, device, log, Path(folder) / "llama")
    print(f"\nwritten to {chosen.out}")
    return 1 if log.failures else 0


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.exit(main())

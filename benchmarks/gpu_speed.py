"""How fast nbllm is on a GPU, beside transformers alone and beside what the device allows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
import torch
from gpu_bench import Bench, as_prompts, continuously, generate, random_ids, unique
from logbook import NotMeasured, Row
from random_llama import Shape, write
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import pipeline

import nbllm
from nbllm.engine.compiled import Batch, CompiledSteps
from nbllm.engine.generation import TextGenerator
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.scoring import LabelScorer
from nbllm.engine.token_events import TokenEvents
from nbllm.frame.calls.registry import find_verb
from nbllm.models.fetch.sources import fetch
from nbllm.models.model import Model
from nbllm.models.quantization.schemes import kernel_problem
from nbllm.wording import counted

__all__ = ["EVERY_QUANTIZATION", "checkpoint", "limits", "load"]


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
            bound=bench.matrix_rate / settings.shape.flops,
        )  # fmt: skip
        _, peak = bench.meter.peak(partial(generate, network, ids, 1))
        yield bench.row(
            "prefill", f"{what}, peak of memory", (peak - bench.before) / 1e9, "GB",
            against="forecast", reference=bench.foreseen(texts, tokens).running / 1e9,
        )  # fmt: skip


def decode(bench: Bench) -> Iterator[Row]:
    """Tokens written a second once the prompt is read: nbllm's two ways, and transformers'.

    A step cannot be shorter than reading all weights and the keys and values takes, nor than the
    matrix products for its rows.
    """
    settings, network, shape = bench.settings, bench.model.network, bench.settings.shape
    # Of the embedding only a row a text is read.
    weights = bench.weights - 2 * shape.vocabulary * shape.hidden
    held = 2 * shape.layers * shape.key_width * bench.model.dtype.itemsize  # a token
    output = 2 * shape.vocabulary * shape.hidden
    for texts in settings.decode:
        ids = random_ids(bench, texts, settings.prompt)
        prompts, count = as_prompts(ids), texts * settings.written
        tokens = 1 + settings.written
        read = weights + texts * held * (settings.prompt + settings.written / 2)
        step = max(read / bench.bandwidth, texts * (shape.flops + output) / bench.matrix_rate)
        # Reading prompts takes the same time in each way, and is taken off.
        first, theirs_first = bench.meter.medians(
            settings.rounds,
            partial(TextGenerator(bench.model, (), max_new_tokens=1), prompts),
            partial(generate, network, ids, 1),
        )
        grown, theirs = bench.meter.medians(
            settings.rounds,
            partial(TextGenerator(bench.model, (), max_new_tokens=tokens), prompts),
            partial(generate, network, ids, tokens),
        )
        (batched,) = bench.meter.medians(
            settings.rounds, partial(continuously, network, ids.tolist(), tokens)
        )
        peers = {
            "transformers generate": theirs.wall - theirs_first.wall,
            "continuous batching": batched.wall - theirs_first.wall,
        }
        best = min(peers, key=lambda name: peers[name])
        ways = {"cache that grows": grown.wall - first.wall}
        if (compiled := compiled_steps(bench, texts, tokens)) is not None:
            batch = Batch.of(bench.model, ids, torch.ones_like(ids))
            (spent,) = bench.meter.medians(
                settings.rounds, partial(compiled.write, batch, TokenEvents(), None)
            )
            ways["compiled steps"] = spent.wall - first.wall
        for way, seconds in ways.items():
            if seconds <= 0 or peers[best] <= 0:
                noise = "the difference of two times is lost in what else the machine does"
                bench.note("decode", f"{counted(texts, 'text')}, {way}", noise)
                continue
            yield bench.row(
                "decode", f"{counted(texts, 'text')}, {way}", count / seconds, "tokens/s",
                against=best, reference=count / peers[best], bound=texts / step,
            )  # fmt: skip


def compiled_steps(bench: Bench, rows: int, tokens: int) -> CompiledSteps | None:
    """Steps that are compiled for so many rows; None where they are not, or cannot be."""
    how = bench.settings.compiled
    if rows != bench.settings.compiled_for:
        return None
    if how is None and not CompiledSteps.suit(bench.model):
        return None
    return CompiledSteps(
        bench.model,
        SharedPrefix(bench.model, ()),
        TextGenerator(bench.model, (), max_new_tokens=tokens).config,
        rows,
        bench.settings.prompt + tokens,
        how,
    )


def sentiment(bench: Bench) -> Iterator[Row]:
    """`df.llm.sentiment` against the text-generation pipeline with the same prompts."""
    frame = unique(nbllm.data.load("reviews"), bench.settings.reviews)
    yield from verb(bench, "sentiment", frame, tokens=1)


def summarize(bench: Bench) -> Iterator[Row]:
    """`df.llm.summarize` against the text-generation pipeline with the same prompts."""
    frame = unique(nbllm.data.load("articles"), bench.settings.articles)
    words = bench.settings.words
    call = find_verb("summarize").call("text", {"max_words": words}, {})
    tokens = call.task(bench.model).answer_tokens(bench.model)
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
            name, f"{len(frame)} rows, tokens read", computed / spent.wall, "tokens/s",
            bound=bench.matrix_rate / settings.shape.flops,
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
        bound=forward_operations(settings.shape, len(recording)) / bench.matrix_rate,
    )  # fmt: skip
    yield bench.row(
        "attention", f"{what}, peak of memory", peak / 1e9, "GB",
        against="forward without recording", reference=peak_alone / 1e9,
    )  # fmt: skip
    yield bench.row("attention", "closure", recording.closure(), "relative error", allowed=2e-2)

    part = slice(len(recording) - settings.tile, len(recording))
    tile = f"tile of {settings.tile} × {settings.tile}"
    layer = settings.shape.layers - 1
    recording.weights(0, 0, part, part)  # what is loaded at the first use is not the tile's
    _, first = meter.spent(lambda: recording.weights(layer, 1, part, part))
    yield bench.row("attention", f"{tile}, first of a head", first.wall * 1e3, "ms")
    (again,) = meter.medians(10, lambda: recording.weights(layer, 1, part, part))
    yield bench.row("attention", tile, again.wall * 1e3, "ms", allowed=10.0)

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        gap = record().closure()
    yield bench.row("attention", "closure, flash kernel", gap, "relative error", allowed=2e-2)


def forward_operations(shape: Shape, tokens: int) -> float:
    """Floating-point operations of the layers for one text, attention to all before included."""
    return tokens * shape.flops + 2.0 * shape.layers * shape.hidden * tokens**2


EVERY_QUANTIZATION = (prefill, decode, sentiment, summarize, attention)

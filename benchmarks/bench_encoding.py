"""Embeddings and classifier heads over film reviews: nbllm against transformers' pipelines.

The encoder is MiniLM; the classifier a BERT of its size, of random weights, in bf16. Texts are cut
at 512 tokens, of MiniLM too, though it was trained on 256: mixed lengths are what is measured.
Each pipeline has the dtype of nbllm's model, and a second time the one that it takes by itself,
which is that of the checkpoint. Rows a CPU-second, so that a busy machine changes the ratio little.
Padding is the share of all tokens computed; tokenizing is in everyone's time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from meter import Meter
from transformers import BertConfig, BertForSequenceClassification, pipeline
from transformers.utils import logging

import nbllm
from nbllm.engine.batching import TokenBudget
from nbllm.engine.encoding import HeadScorer, TextEncoder
from nbllm.engine.prompt import Prompt
from nbllm.engine.runner import run as drive
from nbllm.models.model import Model

ROWS = 200
TOKENS = 512
BATCH_SIZES = (1, 32)
ROUNDS = 1


def run() -> list[dict[str, Any]]:
    logging.set_verbosity_error()
    texts = reviews()
    rows: list[dict[str, Any]] = []
    with nbllm.load("minilm", quantize="none", dtype="bf16") as model:
        rows += compared("embeddings", TextEncoder(model), "feature-extraction", texts)
        with TemporaryDirectory() as folder:
            write_classifier(Path(folder), model)
            with nbllm.load(folder, quantize="none", dtype="bf16") as classifier:
                rows += compared("labels", HeadScorer(classifier), "text-classification", texts)
    return rows


def compared(
    what: str, engine: TextEncoder | HeadScorer, task: str, texts: list[str]
) -> list[dict[str, Any]]:
    """One table row for nbllm, and one for each way to run the pipeline."""
    model = engine.model
    make: Any = pipeline  # typed with an overload a task, none of which takes these
    names, works = ["nbllm"], [partial(ours, engine, texts)]
    paddings = [ours(engine, texts)]
    lengths = [len(ids) for ids in model.tokenizer(texts, **cut()).input_ids]
    for dtype in ("bf16", "fp32"):
        theirs = make(
            task,
            model=str(model.folder),
            tokenizer=model.tokenizer,
            dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
        )
        # Each takes the tokenizer's options in its own way.
        options = (
            {"tokenize_kwargs": cut(), "return_tensors": True}
            if task == "feature-extraction"
            else cut()
        )
        for size in BATCH_SIZES:
            names.append(f"pipeline, {dtype}, batch {size}")
            works.append(partial(finished, theirs, texts, batch_size=size, **options))
            paddings.append(padding(lengths, size))
    spent = Meter(model.device).medians(ROUNDS, *works)
    fastest = spent[0].cpu
    return [
        {
            "what": what,
            "engine": name,
            "rows": len(texts),
            "CPU s": each.cpu,
            "rows / CPU s": len(texts) / each.cpu,
            "padding": share,
            "nbllm is faster by": each.cpu / fastest,
        }
        for name, each, share in zip(names, spent, paddings, strict=True)
    ]


def ours(engine: TextEncoder | HeadScorer, texts: list[str]) -> float:
    """Answer all through the runner, and say how much of what was computed was padding."""
    encoded = engine.encode(texts, limit=TOKENS, truncate=True)
    prompts = [prompt for prompt in encoded if isinstance(prompt, Prompt)]
    budget = TokenBudget.of(engine.model, decodes=False)
    done = list(drive(prompts, engine, budget=budget))
    assert sum(len(step.answers) for step in done) == len(texts)
    padded = sum(step.padding for step in done)
    return padded / (padded + sum(step.read.tokens for step in done))


def finished(answer: Callable[..., list[Any]], texts: list[str], **options: Any) -> float:
    answered = answer(texts, **options)
    assert len(answered) == len(texts)
    return 0.0


def cut() -> dict[str, Any]:
    """What a tokenizer is told, so that all read the same tokens."""
    return {"truncation": True, "max_length": TOKENS}


def padding(lengths: list[int], size: int) -> float:
    """The share of padding in batches of the order given."""
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


def write_classifier(folder: Path, like: Model) -> None:
    """A BERT of MiniLM's size and vocabulary with a head of two labels, in float32."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(like.tokenizer),
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    like.tokenizer.save_pretrained(folder)


def reviews() -> list[str]:
    """Reviews of IMDb where NBLLM_DATA has them, else those written for this project."""
    if os.environ.get("NBLLM_DATA"):
        path = Path(os.environ["NBLLM_DATA"]) / "research-only" / "imdb_5k.parquet"
        return [str(text) for text in pd.read_parquet(path)["text"].head(ROWS)]
    texts = [str(text) for text in nbllm.data.load("reviews")["text"]]
    return [texts[number % len(texts)] for number in range(ROWS)]

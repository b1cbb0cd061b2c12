"""Sentiment of 256 reviews: df.llm against transformers' text-generation pipeline.

Same model, dtype and prompt, in one run; rows a CPU-second, so that a busy machine changes the
ratio little. The pipeline is given one token to write, which is all that a label needs here, and
the batch size at which it was fastest on the first 64 rows. What nbllm spends on calibration is
in its time. On all rows each is measured three times, and the median counts.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from meter import Meter
from transformers import pipeline
from transformers.utils import logging

import nbllm
from nbllm.models.model import Model

ROWS = 256
TRIAL_ROWS = 64
BATCH_SIZES = (1, 8, 32)
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    frame = reviews()
    model = nbllm.load()
    meter = Meter(model.device)
    operations, spent = meter.matrix_product(model.dtype, 2048)
    limit = operations / spent.cpu
    answered: list[Any] = []

    def ours() -> None:
        answered.append(frame.llm.sentiment("text", model=model, ledger=False))

    seconds = meter.medians(ROUNDS, ours)[0].cpu
    report = answered[-1].llm.report()
    tokens = report.tokens + report.padding + report.prefix_tokens
    rows = [row("nbllm", ROWS, seconds)]

    prompts = [
        str(frame.llm.preview("sentiment", "text", row=index, model=model)) for index in frame.index
    ]
    logging.set_verbosity_error()
    make: Any = pipeline  # typed with an overload a task, none of which takes these
    generate = make("text-generation", model=model.network, tokenizer=model.tokenizer)

    def label(texts: list[str], batch_size: int) -> None:
        options = {"max_new_tokens": 1, "do_sample": False, "return_full_text": False}
        generate(texts, batch_size=batch_size, **options)

    trials = {
        size: meter.spent(partial(label, prompts[:TRIAL_ROWS], size))[1].cpu for size in BATCH_SIZES
    }
    best = min(trials, key=lambda size: trials[size])
    for size, seconds in trials.items():
        rows.append(row(f"pipeline, batch {size}", TRIAL_ROWS, seconds))
    seconds = meter.medians(ROUNDS, partial(label, prompts, best))[0].cpu
    rows.append(row(f"pipeline, batch {best}", ROWS, seconds))
    for each in rows:
        each["nbllm is faster by"] = rows[0]["rows / CPU s"] / each["rows / CPU s"]
    needed = sum(map(len, model.tokenizer(prompts).input_ids)) * flops_a_token(model)
    rows[0]["share of matrix rate"] = tokens * flops_a_token(model) / limit / rows[0]["CPU s"]
    rows[-1]["share of matrix rate"] = needed / limit / rows[-1]["CPU s"]
    return rows


def reviews() -> pd.DataFrame:
    """Reviews of SST-2 where NBLLM_DATA has them, else those written for this project."""
    if os.environ.get("NBLLM_DATA"):
        path = Path(os.environ["NBLLM_DATA"]) / "research-only" / "sst2.parquet"
        frame = pd.read_parquet(path)
        return frame[frame["split"] == "validation"].head(ROWS).reset_index(drop=True)
    frame = nbllm.data.load("reviews")
    copies = [
        frame.assign(text=frame["text"] + f" (no. {n})") for n in range(1 + ROWS // len(frame))
    ]
    return pd.concat(copies, ignore_index=True).head(ROWS)


def row(name: str, rows: int, seconds: float) -> dict[str, Any]:
    return {"engine": name, "rows": rows, "CPU s": seconds, "rows / CPU s": rows / seconds}


def flops_a_token(model: Model) -> float:
    """Floating-point operations of the layers' matrices a token; attention itself is left out."""
    network: Any = model.network
    embedding = network.get_input_embeddings().weight.numel()
    return 2.0 * float(network.num_parameters() - embedding)

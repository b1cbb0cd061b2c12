"""Sentiment of reviews, rows a CPU-second: df.llm against pipelines and llama.cpp.

Same weights, dtype and prompt, in one run; CPU time, so that a busy machine changes the ratios
little. `pipeline("text-generation")` is given one token to write, which is all that a label needs
here, and the batch size at which it was fastest on the first 64 rows; so is llama-cpp-python,
which keeps the keys and values of what the prompt has in common with the one before: once with
the token alone, which is no score, once with the probabilities of the likeliest tokens.
`pipeline("decision")` reads the prompt as the instructions of a choice. What nbllm spends on
calibration is in its time. On all rows each is measured three times, and the median counts. So
it does of 2,000 other reviews, whose share of the matrix-product rate counts no padding as work;
the rate is measured before and after each time.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from llama_cpp_peer import labeller
from meter import Meter
from transformers import pipeline
from transformers.decision import DecisionConfig
from transformers.utils import logging

import nbllm
from nbllm.models.model import Model

ROWS = 256
LONG_ROWS = 2000
TRIAL_ROWS = 64
BATCH_SIZES = (1, 8, 32)
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    frame = reviews("validation", ROWS)
    # Half of the rows are there twice, in another order.
    doubled = pd.concat([frame.head(ROWS // 2)] * 2).sample(frac=1, random_state=0)
    model = nbllm.load()
    meter = Meter(model.device)
    prompts = [
        str(frame.llm.preview("sentiment", "text", row=index, model=model)) for index in frame.index
    ]
    logging.set_verbosity_error()
    make: Any = pipeline  # typed with an overload a task, none of which takes these
    parts = {"model": model.network, "tokenizer": model.tokenizer}
    generate = make("text-generation", **parts)
    decide = make("decision", **parts, decision_config=DecisionConfig())

    def ours(rows: pd.DataFrame) -> Any:
        return rows.llm.sentiment("text", model=model, ledger=False)

    def label(texts: list[str], batch_size: int) -> None:
        options = {"max_new_tokens": 1, "do_sample": False, "return_full_text": False}
        generate(texts, batch_size=batch_size, **options)

    trials = {
        size: meter.spent(partial(label, prompts[:TRIAL_ROWS], size))[1].cpu for size in BATCH_SIZES
    }
    best = min(trials, key=lambda size: trials[size])
    before = instructions(prompts[0], frame["text"].iloc[0])
    works = {
        "nbllm": partial(ours, frame),
        "nbllm, every row twice": partial(ours, doubled),
        f"pipeline, batch {best}": partial(label, prompts, best),
        'pipeline("decision")': partial(decide, [request(before, t) for t in frame["text"]]),
    }
    tokens = model.tokenizer(prompts).input_ids
    context = max(map(len, tokens)) + 1
    for name, probabilities in (("one token", False), ("probabilities", True)):
        write = labeller(model.dtype, context, probabilities=probabilities)
        if write is not None:
            works[f"llama-cpp-python, {name}"] = partial(write, tokens)
    measured = [each.cpu for each in meter.medians(ROUNDS, *works.values())]
    rows = [row(name, ROWS, taken) for name, taken in zip(works, measured, strict=True)]
    for size, seconds in trials.items():
        rows.append(row(f"pipeline, batch {size}, first rows", TRIAL_ROWS, seconds))
    many = reviews("train", LONG_ROWS)
    shares, spent = [], []
    for _ in range(ROUNDS):
        rate_before = rate(meter, model)
        answered, taken = meter.spent(partial(ours, many))
        limit = (rate_before + rate(meter, model)) / 2
        shares.append(answered.llm.report().operations / limit / taken.cpu)
        spent.append(taken.cpu)
    rows.append(row(f"nbllm, {len(many):,} rows", len(many), median(spent)))
    pipelines = [each["rows / CPU s"] for each in rows if each["engine"].startswith("pipeline, ")]
    for each in rows:
        each["nbllm is faster by"] = rows[0]["rows / CPU s"] / each["rows / CPU s"]
        each["times the best pipeline"] = each["rows / CPU s"] / max(pipelines)
        each["share of matrix rate"] = ""
    rows[-1]["share of matrix rate"] = median(shares)
    return rows


def reviews(split: str, count: int) -> pd.DataFrame:
    """Different reviews of SST-2 where NBLLM_DATA has them, else those written for this project."""
    if os.environ.get("NBLLM_DATA"):
        path = Path(os.environ["NBLLM_DATA"]) / "research-only" / "sst2.parquet"
        frame = pd.read_parquet(path).drop_duplicates("text")
        return frame[frame["split"] == split].head(count).reset_index(drop=True)
    frame = nbllm.data.load("reviews")
    copies = [
        frame.assign(text=frame["text"] + f" (no. {n})") for n in range(1 + count // len(frame))
    ]
    return pd.concat(copies, ignore_index=True).head(count)


def instructions(prompt: str, text: str) -> str:
    """What stands before a row's text in its prompt."""
    return prompt[: prompt.rindex(text)]


def request(before: str, text: str) -> dict[str, Any]:
    """A text and what is asked of it, as the decision pipeline takes them."""
    criteria = {"positive": "a positive review", "negative": "a negative review"}
    question = {"type": "choice", "instructions": before, "criteria": criteria}
    return {"state": text, "questions": {"sentiment": question}}


def row(name: str, rows: int, seconds: float) -> dict[str, Any]:
    return {"engine": name, "rows": rows, "CPU s": seconds, "rows / CPU s": rows / seconds}


def rate(meter: Meter, model: Model) -> float:
    """Operations that a square matrix product does in a CPU-second."""
    done, spent = meter.matrix_product(model.dtype, 2048)
    return done / spent.cpu

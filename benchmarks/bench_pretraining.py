"""Pretraining from scratch on plots of films: perplexity beside that of counting tokens.

A LLaMA of some million weights, its own tokenizer, and held-out texts; unigrams are smoothed by
adding one, bigrams by Kneser–Ney, on the same tokens. The samples show what it writes.
"""

from __future__ import annotations

import os
import time
from tempfile import TemporaryDirectory
from typing import Any

import nbllm
from nbllm.train.pretrained import Pretrained

STEPS = 700


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("pretraining: set NBLLM_DATA to a folder with wikipedia_movies_1970_2023.parquet.")
        return []
    films = nbllm.data.load("wikipedia_movies_1970_2023")
    started = time.process_time()
    with TemporaryDirectory() as folder:
        found = nbllm.pretrain(
            films,
            text="text",
            layers=4,
            heads=4,
            hidden=192,
            vocabulary=2048,
            context=128,
            steps=STEPS,
            batch=16,
            learning_rate=2e-3,
            validation=0.03,
            sample="The film follows",
            folder=folder,
        )
    assert isinstance(found, Pretrained)
    spent = time.process_time() - started
    record = found.record
    figures = {
        "weights": record["shape"]["parameters"],
        "training tokens": record["tokens"]["train"],
        "held-out tokens": record["tokens"]["held"],
        "steps": record["steps"],
        **found.metrics,
        "CPU s": spent,
        "wall s": record["seconds"],
        "forecast s": record["forecast"]["seconds"],
    }
    for sample in (found.samples[0], found.samples[-1]):
        figures[f"sample at step {sample['step']}"] = sample["text"]
    return [{"what": name, "value": value} for name, value in figures.items()]

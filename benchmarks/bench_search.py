"""Search: 300 questions of SQuAD, each for its paragraph among 2,067, by words, meaning and both.

A paragraph counts once, however many questions it has. recall@5 is how often the paragraph is
among the first five, MRR the mean of 1 / rank within the first ten. Texts beyond the encoder's
256 tokens are cut for it. Time is of all 300 questions, once the paragraphs are embedded; what
embedding them takes is in a column of its own. The rows come from squad_v1_dev, which NBLLM_DATA
has to hold. The intervals are of 95 %, over questions drawn again.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nbllm
from nbllm.stats import bootstrap

QUESTIONS = 300
FIRST = 10


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("search: skipped. Set NBLLM_DATA to the folder of data sets, to measure it.")
        return []
    questions, paragraphs = squad(Path(os.environ["NBLLM_DATA"]))
    model = nbllm.load("minilm")
    asked = os.environ.get("NBLLM_LEDGER")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NBLLM_LEDGER"] = str(Path(folder) / "ledger.sqlite")
        try:
            started = time.perf_counter()
            paragraphs.llm.embed("context", model=model, truncate=True)
            embedding = time.perf_counter() - started
            return [
                row(how, questions, paragraphs, model, 0.0 if how == "bm25" else embedding)
                for how in ("bm25", "dense", "fused")
            ]
        finally:
            del os.environ["NBLLM_LEDGER"]
            if asked is not None:
                os.environ["NBLLM_LEDGER"] = asked


def squad(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Questions with the index label of their paragraph as `truth`, and the paragraphs."""
    frame = pd.read_parquet(data / "squad_v1_dev.parquet")
    paragraphs = frame[["context"]].drop_duplicates(ignore_index=True)
    labels = pd.Series(paragraphs.index, index=paragraphs["context"])
    questions = frame.drop_duplicates("question").sample(QUESTIONS, random_state=0)
    return questions.assign(truth=questions["context"].map(labels)), paragraphs


def row(
    how: Any, questions: pd.DataFrame, paragraphs: pd.DataFrame, model: Any, embedding: float
) -> dict[str, Any]:
    started = time.perf_counter()
    found = paragraphs.llm.search(
        "context", questions["question"], k=FIRST, how=how, model=model, truncate=True
    )
    seconds = time.perf_counter() - started
    ranks = ranks_of_truth(found, questions)
    in_five = (ranks <= 5).astype(float)
    recall, mrr = (
        bootstrap(partial(mean_of, x), len(x), 0.95, seed=0) for x in (in_five, 1 / ranks)
    )
    return {
        "how": how,
        "questions": len(questions),
        "paragraphs": len(paragraphs),
        "recall@1": float(np.mean(ranks == 1)),
        "recall@5": recall.value,
        "recall@5 low": recall.low,
        "recall@5 high": recall.high,
        "MRR": mrr.value,
        "MRR low": mrr.low,
        "MRR high": mrr.high,
        "embedding s": embedding,
        "questions s": seconds,
    }


def mean_of(values: Any, rows: Any) -> float:
    return float(np.mean(values[rows]))


def ranks_of_truth(found: pd.DataFrame, questions: pd.DataFrame) -> Any:
    """The rank of each question's paragraph, shape (questions,); infinite where it is missing."""
    ranks = found.set_index(["context_search_query", found.index])["context_search"]
    return np.array(
        [
            ranks.get((question, truth), np.inf)
            for question, truth in zip(questions["question"], questions["truth"], strict=True)
        ],
        dtype=float,
    )

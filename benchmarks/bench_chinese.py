"""Sentiment of 500 Chinese reviews of food deliveries: Gemma 3 270M, untrained, eight examples.

Half of the rows are positive, so that always saying the same is right in half of them. The rows
come from waimai_10k, which NBLLM_DATA has to hold. The eight examples were written for this; of
three such sets, the one that did best on 400 other rows is shown. Beside it: nothing in Chinese
at all, with the English examples that `sentiment` has built in. The offset is fitted on the
built-in English texts in both. The interval is of 95 %, over rows drawn again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nbllm
from nbllm.stats import bootstrap

ROWS = 500

EXAMPLES = (
    ("饺子皮薄馅大，送到的时候还烫嘴，全家都爱吃。", "positive"),
    ("等了一个多小时，面都坨成一团了，打电话也没人接。", "negative"),
    ("味道不错，下次还点", "positive"),
    ("太咸，没法吃", "negative"),
    ("下大雨也准时送到，小哥还提醒我小心烫，真是贴心，五分好评！", "positive"),
    ("说好的大份，结果连碗底都没盖住，米饭又硬又凉，再也不订了。", "negative"),
    ("分量很足，包装干净，汤一点都没洒。", "positive"),
    ("送错了菜，商家态度还特别差。", "negative"),
)


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("chinese: skipped. Set NBLLM_DATA to the folder of data sets, to measure it.")
        return []
    frame = reviews(Path(os.environ["NBLLM_DATA"]))
    model = nbllm.load("gemma3-270m", accept_license=True)
    frame.head(4).llm.sentiment("text", model=model, ledger=False)  # warm-up
    return [
        row(name, frame, model, examples)
        for name, examples in (("8 in Chinese", EXAMPLES), ("built in, English", None))
    ]


def reviews(data: Path) -> pd.DataFrame:
    """500 reviews with their label as `truth`, as many positive as negative.

    A text that is there twice counts once, and one that is there with both labels not at all.
    """
    frame = pd.read_parquet(data / "research-only" / "zh_waimai_10k.parquet")
    labels = frame.groupby("text")["label"].transform("nunique")
    frame = frame[labels == 1].drop_duplicates("text")
    frame["truth"] = frame["label"].map({0: "negative", 1: "positive"})
    return frame.groupby("label").sample(ROWS // 2, random_state=0)


def row(name: str, frame: pd.DataFrame, model: Any, examples: Any) -> dict[str, Any]:
    started = time.process_time()
    answered = frame.llm.sentiment("text", model=model, examples=examples, ledger=False)
    seconds = time.process_time() - started
    truth, said = answered["truth"], answered["text_sentiment"]
    right = (said == truth).to_numpy()
    accuracy = bootstrap(lambda rows: float(np.mean(right[rows])), len(right), 0.95, seed=0)
    return {
        "examples": name,
        "rows": len(frame),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "always the same": float(truth.value_counts(normalize=True).max()),
        "macro-F1": macro_f1(truth, said),
        "CPU s": seconds,
        "rows / CPU s": len(frame) / seconds,
    }


def macro_f1(truth: pd.Series, said: pd.Series) -> float:
    """The mean over the labels of F1, which is 2 × found / (there + said)."""
    scores = [
        2
        * ((truth == label) & (said == label)).sum()
        / ((truth == label).sum() + (said == label).sum())
        for label in truth.unique()
    ]
    return float(np.mean(scores))

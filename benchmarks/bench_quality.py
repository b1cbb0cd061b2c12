"""How good sentiment is without training, each beside a trivial baseline.

The prompts were chosen on training splits. SST-2 validation as it is, as the mean of ten cuts to
85 % positive, and as the calibration error of its scores after `calibrate` saw 200 of its labels
and was asked about the rest; 500 balanced reviews of IMDb, whole; SST-5 validation as positive
(labels 3 and 4), neutral and negative. NBLLM_DATA has to hold them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import nbllm
from nbllm.models.model import Model
from nbllm.stats import calibration_error

CUTS = 10
CORRECTIONS = 200
LONG_ROWS = 500


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("quality: skipped. Set NBLLM_DATA to the folder of data sets, to measure it.")
        return []
    data = Path(os.environ["NBLLM_DATA"]) / "research-only"
    model = nbllm.load()
    short = asked(validation(data / "sst2.parquet", {0: "negative", 1: "positive"}), model)
    long = asked(reviews(data / "imdb_5k.parquet"), model)
    names = {0: "negative", 1: "negative", 2: "neutral", 3: "positive", 4: "positive"}
    three = asked(validation(data / "sst5.parquet", names), model, neutral=True)
    return [
        measures("SST-2", short, "accuracy"),
        at_85_percent(short),
        calibrated(short),
        measures("IMDb", long, "accuracy"),
        measures("SST-5, neutral=True", three, "macro-F1"),
    ]


def asked(frame: pd.DataFrame, model: Model, **options: Any) -> Any:
    return frame.llm.sentiment("text", model=model, ledger=False, probabilities=True, **options)


def validation(file: Path, names: dict[int, str]) -> pd.DataFrame:
    """The validation split, its labels as `truth`."""
    frame = pd.read_parquet(file)
    frame = frame[frame["split"] == "validation"].reset_index(drop=True)
    return frame.assign(truth=frame["label"].map(names))


def reviews(file: Path) -> pd.DataFrame:
    """Whole reviews, as many positive as negative, without the line breaks of their web page."""
    frame = pd.read_parquet(file).drop_duplicates("text")
    frame = frame.groupby("label").sample(LONG_ROWS // 2, random_state=0)
    texts = frame["text"].str.replace(r"<br\s*/?>", " ", regex=True)
    truth = frame["label"].map({0: "negative", 1: "positive"})
    return frame.assign(text=texts, truth=truth).reset_index(drop=True)


def measures(name: str, answered: Any, wanted: str) -> dict[str, Any]:
    """One measure of `evaluate`, with its interval, beside always the most frequent label."""
    found = next(m for m in answered.llm.evaluate("truth").measures if m.name == wanted)
    value, low, high = found.value
    interval = f"[{low:.3f}, {high:.3f}]"
    return row(name, len(answered), wanted, value, found.baseline or 0.0, interval)


def at_85_percent(answered: Any) -> dict[str, Any]:
    right = answered["text_sentiment"] == answered["truth"]
    positive = answered[answered["truth"] == "positive"]
    negative = answered[answered["truth"] == "negative"]
    count = round(len(positive) * 15 / 85)
    cuts = [
        right[positive.index.union(negative.sample(count, random_state=seed).index)].mean()
        for seed in range(CUTS)
    ]
    return row(
        "SST-2, 85 % positive", len(positive) + count, "accuracy", float(np.mean(cuts)), 0.85
    )


def calibrated(answered: Any) -> dict[str, Any]:
    seen = answered.sample(CORRECTIONS, random_state=0)
    scaled = answered.llm.calibrate(seen["truth"]).drop(seen.index)
    before, after = (
        calibration_error(
            frame["text_sentiment_score"].to_numpy(),
            (frame["text_sentiment"] == frame["truth"]).to_numpy(),
        )
        for frame in (answered.drop(seen.index), scaled)
    )
    name = f"SST-2 after {CORRECTIONS} labels"
    return row(name, len(scaled), "calibration error", after, before)


def row(
    name: str, rows: int, measure: str, value: float, baseline: float, interval: str = ""
) -> dict[str, Any]:
    return {
        "reviews": name,
        "rows": rows,
        "measure": measure,
        "value": float(value),
        "95 %": interval,
        "baseline": baseline,
    }

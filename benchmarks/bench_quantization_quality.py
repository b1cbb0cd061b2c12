"""Labels of SST-2 validation with int8, nf4 and int4 against none: agreement, accuracy, speed.

The default model by `nbllm.compare`, which computes every answer anew, so that both are timed side
by side. The reviews are those of SST-2 where NBLLM_DATA has them, else the ones written for this
project, of which there are too few to tell quantizations apart. That model was published in 4 bits
(Q4_1), so "none" is that, unpacked, and each quantization rounds it a second time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

import nbllm
from nbllm.frame.comparison.result import Comparison
from nbllm.frame.comparison.runs import compare
from nbllm.models.fetch.catalog import DEFAULT
from nbllm.stats import Estimate

QUANTIZATIONS = ("int8", "nf4", "int4")
SURE = 0.2  # margin of the unquantized model above which agreement is asked to be 0.97


def run() -> list[dict[str, Any]]:
    frame = reviews()
    rows = []
    for choice in QUANTIZATIONS:
        found = compare(
            DEFAULT,
            DEFAULT,
            frame,
            "sentiment",
            "text",
            truth="truth",
            quantize=("none", choice),
            perplexity=True,
        )
        rows.append(row(choice, found))
    return rows


def reviews() -> pd.DataFrame:
    """Reviews with their label as `truth`."""
    if os.environ.get("NBLLM_DATA"):
        path = Path(os.environ["NBLLM_DATA"]) / "research-only" / "sst2.parquet"
        frame = pd.read_parquet(path)
        frame = frame[frame["split"] == "validation"].reset_index(drop=True)
        return frame.assign(truth=frame["label"].map({0: "negative", 1: "positive"}))
    return nbllm.data.load("reviews").rename(columns={"label": "truth"})


def row(choice: str, found: Comparison) -> dict[str, Any]:
    summary = found.summary.set_index(["measure", "of"])

    def of(measure: str, side: str) -> Estimate:
        return Estimate(*summary.loc[(measure, side), ["value", "low", "high"]])

    return {
        "quantization": choice,
        "rows": found.count,
        "agreement": shown(found.agreement),
        f"where margin > {SURE}": shown(found.agreement_above(SURE)),
        "accuracy, none": shown(of("accuracy", "a")),
        "accuracy": shown(of("accuracy", "b")),
        "difference": shown(of("accuracy", "b − a")),
        "bits a byte, none": of("bits a byte", "a").value,
        "bits a byte": of("bits a byte", "b").value,
        "CPU s, against none": of("CPU seconds", "b / a").value,
        "weights, against none": of("weights", "b / a").value,
    }


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"

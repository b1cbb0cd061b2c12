"""Sentiment of 2,000 reviews with engine="ray": one worker against two, and against none.

Workers share this machine's cores, so two of them gain only what one leaves idle. Time by the
clock, since a worker's processor time is its own. Each engine is first asked for two rows, which
takes as long as its workers take to start and to load the model; it is taken off. Labels must be
those that this process gives.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import ray
from bench_scoring import reviews
from meter import Meter

import nbllm

ROWS = 2000
ENGINES: dict[str, dict[str, Any]] = {
    "this process": {},
    "one worker": {"engine": "ray", "workers": 1},
    "two workers": {"engine": "ray", "workers": 2},
}


def run() -> list[dict[str, Any]]:
    frame = reviews("train", ROWS)
    model = nbllm.load()
    meter = Meter(model.device)
    rows: list[dict[str, Any]] = []
    labels: list[Any] = []
    for name, options in ENGINES.items():
        ask = partial(_labels, model=model, **options)
        _, start = meter.spent(partial(ask, frame.head(2)))
        found, taken = meter.spent(partial(ask, frame))
        labels.append(found)
        rows.append(
            {
                "engine": name,
                "start s": start.wall,
                "s": taken.wall - start.wall,
                "rows / s": ROWS / (taken.wall - start.wall),
                "labels as here": float((found == labels[0]).mean()),
            }
        )
    ray.shutdown()
    for row in rows:
        row["times one worker"] = row["rows / s"] / rows[1]["rows / s"]
    return rows


def _labels(frame: Any, **options: Any) -> Any:
    return frame.llm.sentiment("text", ledger=False, **options)["text_sentiment"]

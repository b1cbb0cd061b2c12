"""Frames as verbs return them, and what their evaluations measured."""

from typing import Any

import numpy as np
import pandas as pd

import nbllm  # noqa: F401  registers df.llm
from nbllm.frame.running.provenance import attach, remember
from nbllm.frame.running.report import RunReport

LABELS = ("card", "cash", "<b>other</b>")
ROWS = 24


def answered_by_labels(module=pd, rows: int = 300):
    """A frame as `classify` returns it, of answers that are right in about 7 of 10 rows."""
    random = np.random.default_rng(0)
    truth = random.choice(3, size=rows, p=[0.6, 0.3, 0.1])
    answer = np.where(random.random(rows) < 0.7, truth, random.integers(3, size=rows))
    data = {
        "text": [f"Text {n}." for n in range(rows)],
        "truth": [LABELS[n] for n in truth],
        "c": [LABELS[n] for n in answer],
        "c_score": random.uniform(0.4, 1.0, size=rows),
        "c_run": ["classify-test"] * rows,
    }
    data["c"][5], data["c_score"][5], data["truth"][7] = None, np.nan, None
    return with_record(module.DataFrame(data), "classify", {"labels": list(LABELS)}, "c")


def with_record(frame, verb: str, parameters: dict, output: str):
    record = {
        "id": f"{verb}-test",
        "verb": verb,
        "parameters": parameters,
        "columns": {"text": "text"},
        "output": output,
        "question": "0",
    }
    remember(record, RunReport(record["id"], verb, output, {}))
    attach(frame, record)
    return frame


def values(evaluation, label=None) -> dict[str, tuple[float, float, float, float]]:
    return {m.name: (*m.value, m.baseline) for m in evaluation.measures if m.label == label}


def value_and_baseline(found, label=None) -> dict[str, tuple[Any, ...]]:
    return {m.name: (m.value.value, m.baseline) for m in found.measures if m.label == label}


def numbered(module=pd, **columns):
    texts = [f"The soup of day {n} was {'warm' if n % 3 else 'cold'}." for n in range(ROWS)]
    return module.DataFrame({"text": texts, **columns})

"""Fine-tuning for sentiment: MiniLM, and the default model by LoRA and QLoRA, on held-out rows.

Trained on SST-2's training split, asked on its validation split through the verb `sentiment`, as
users do. LoRA and QLoRA are held against the same model's own calibrated few-shot answer. Times
are of the processor, so that a busy machine changes them little, and hold all of it: reading the
model, measuring, training, validating and the figures at the end.

`python benchmarks/bench_finetuning.py minilm lora qlora` measures some sections anew and keeps
what the result file has of the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

import nbllm
from nbllm.train.finetuned import Finetuned

# Rows to train on, and rows that are held out.
LORA = 1600, 500
QLORA = 160, 200


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("finetuning: set NBLLM_DATA to a folder with sst2.parquet.")
        return []
    return [row for section in SECTIONS for row in SECTIONS[section]()]


def minilm() -> list[dict[str, Any]]:
    """All of MiniLM's weights, on all 6,920 rows, for three epochs."""
    train, held = split("train"), split("validation")
    found, spent = finetuned(train, held, model="minilm", batch=32)
    return [figures("minilm", found, held, spent, 1 / 2, "the commonest label")]


def lora() -> list[dict[str, Any]]:
    """A low-rank change of the default model."""
    return of_default_model("lora", *LORA)


def qlora() -> list[dict[str, Any]]:
    """The same on weights in nf4, to see that it learns; it has fewer rows."""
    return of_default_model("qlora", *QLORA)


SECTIONS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "minilm": minilm,
    "lora": lora,
    "qlora": qlora,
}


def of_default_model(method: str, rows: int, asked: int) -> list[dict[str, Any]]:
    train = split("train").sample(rows, random_state=0)
    held = split("validation").sample(asked, random_state=0)
    with nbllm.load("smollm2", quantize="nf4" if method == "qlora" else "none") as model:
        answered = held.llm.sentiment("text", model=model, ledger=False)
    before = float((answered["text_sentiment"] == answered["label"]).mean())
    found, spent = finetuned(train, held, model="smollm2", method=method, epochs=1)
    return [figures(f"smollm2, {method}", found, held, spent, before, "its few-shot answer")]


def finetuned(train: pd.DataFrame, held: pd.DataFrame, **options: Any) -> tuple[Finetuned, float]:
    started = time.process_time()
    with TemporaryDirectory() as folder:
        found = nbllm.finetune(
            train, text="text", label="label", validation=held, folder=folder, **options
        )
    assert isinstance(found, Finetuned)
    return found, time.process_time() - started


def figures(
    what: str, found: Finetuned, held: pd.DataFrame, spent: float, reference: float, against: str
) -> dict[str, Any]:
    record = found.record
    return {
        "what": what,
        "rows": record["rows"]["train"],
        "held out": len(held),
        "steps": record["steps"],
        "accuracy": found.metrics["accuracy"],
        "macro-F1": found.metrics["f1"],
        "against": against,
        "reference": reference,
        "loss before": found.metrics["held-out loss before"],
        "loss": found.metrics["held-out loss"],
        "CPU s": spent,
        "wall s": record["seconds"],
        "forecast s": record["forecast"]["seconds"],
        "forecast MB": sum(
            record["forecast"][name]
            for name in ("weights", "gradients", "optimizer", "activations")
        )
        / 1e6,
    }


def split(name: str) -> pd.DataFrame:
    return nbllm.data.load("sst2", split=name)


def main(sections: list[str]) -> None:
    from logbook import origin

    file = Path(__file__).parent / "results" / "finetuning.json"
    for section in sections:
        rows = SECTIONS[section]()
        print(json.dumps(rows, indent=1), flush=True)
        kept = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
        new = {row["what"] for row in rows}
        record = {
            "benchmark": "finetuning",
            **origin((__doc__ or "").splitlines()[0]),
            "rows": [row for row in kept if row["what"] not in new] + rows,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(SECTIONS))

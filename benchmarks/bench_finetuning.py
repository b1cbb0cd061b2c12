"""Fine-tuning for sentiment: MiniLM, and the default model by LoRA and QLoRA, on held-out rows.

Trained on SST-2's training split, of which some rows are set aside to choose the best weights by,
and asked afterwards on its validation split through the verb `sentiment`, as users do. LoRA and
QLoRA are held against the same model's own calibrated few-shot answer. Times are of the processor,
so that a busy machine changes them little, and hold all of the training: reading the model,
measuring, training, choosing.

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
from sklearn.metrics import accuracy_score, f1_score

import nbllm
from nbllm.models.model import Model
from nbllm.train.finetuned import Finetuned

# Rows of the training split, those to choose by among them, and rows that are held out.
MINILM = 6920, 320, 872
LORA = 1800, 200, 500
QLORA = 192, 32, 200


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("finetuning: set NBLLM_DATA to a folder with sst2.parquet.")
        return []
    return [row for section in SECTIONS for row in SECTIONS[section]()]


def minilm() -> list[dict[str, Any]]:
    """All of MiniLM's weights, for three epochs."""
    train, chooses, held = split(*MINILM)
    always = pd.Series(held["label"].mode()[0], index=held.index)
    return [trained("minilm", train, chooses, held, always, "the commonest label", batch=32)]


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


def of_default_model(method: str, rows: int, to_choose: int, asked: int) -> list[dict[str, Any]]:
    train, chooses, held = split(rows, to_choose, asked)
    with nbllm.load("smollm2", quantize="nf4" if method == "qlora" else "none") as model:
        before = answers(model, held)
    how = {"method": method, "epochs": 1}
    return [trained("smollm2", train, chooses, held, before, "its few-shot answer", **how)]


def trained(
    model: str,
    train: pd.DataFrame,
    chooses: pd.DataFrame,
    held: pd.DataFrame,
    reference: pd.Series,
    against: str,
    **how: Any,
) -> dict[str, Any]:
    columns = {"text": "text", "label": "label", "validation": chooses}
    with TemporaryDirectory() as folder:
        started = time.process_time()
        found = nbllm.finetune(train, **columns, model=model, folder=folder, **how)
        spent = time.process_time() - started
        assert isinstance(found, Finetuned)
        with found.load() as tuned:
            given = answers(tuned, held)
    record, truth = found.record, held["label"]
    forecast = record["forecast"]
    return {
        "what": ", ".join([model, how["method"]] if "method" in how else [model]),
        "rows": record["rows"]["train"],
        "rows to choose by": len(chooses),
        "held out": len(held),
        "steps": record["steps"],
        "accuracy": accuracy_score(truth, given),
        "macro-F1": f1_score(truth, given, average="macro"),
        "against": against,
        "its accuracy": accuracy_score(truth, reference),
        "loss before": found.metrics["held-out loss before"],
        "loss": found.metrics["held-out loss"],
        "CPU s": spent,
        "wall s": record["seconds"],
        "forecast s": forecast["seconds"],
        "forecast MB": sum(
            forecast[name] for name in ("weights", "gradients", "optimizer", "activations")
        )
        / 1e6,
    }


def answers(model: Model, held: pd.DataFrame) -> pd.Series:
    """A failed row is an answer that is not right."""
    answered: pd.DataFrame = held.llm.sentiment("text", model=model, ledger=False)
    return answered["text_sentiment"].astype(object).fillna("none")


def split(rows: int, to_choose: int, asked: int) -> tuple[pd.DataFrame, ...]:
    train = nbllm.data.load("sst2", split="train").sample(rows, random_state=0)
    held = nbllm.data.load("sst2", split="validation").sample(asked, random_state=0)
    return train.iloc[to_choose:], train.iloc[:to_choose], held


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

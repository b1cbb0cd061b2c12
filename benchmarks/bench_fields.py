"""Fields read from a text by a model of 135M parameters: found where they are, null where not.

The order ids of Bitext's customer messages, held out (validation and test): 100 messages with one
and 100 without, of which 50 hold another number. Half of the ids are replaced by new ones of many
forms, since Bitext repeats a few; a regular expression fitted to Bitext's own finds none of those.
Tone, on film reviews of SST-2 (validation), which have one, beside the most frequent label and the
verb that is made for it. Both sets are read from NBLLM_DATA; without it nothing is measured.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from meter import Meter

import nbllm

HALF = 100
SEED = 7
NUMBERS = ("invoice_id", "refund_amount")
MESSAGE = {
    "order_id": str | None,
    "product": str | None,
    "sentiment": Literal["positive", "neutral", "negative"],
}
REVIEW = {"sentiment": Literal["positive", "negative"]}
EXPRESSIONS = {
    "six digits or more": r"\b\d{6,}\b",
    "a word with a digit after order or purchase": r"(?:order|purchase)\s+(\S*\d\S*)",
}


def run() -> list[dict[str, Any]]:
    data = os.environ.get("NBLLM_DATA")
    if not data:
        print("NBLLM_DATA is not set, so there are no messages to measure on.")
        return []
    model = nbllm.load()
    meter = Meter(model.device)
    texts, ids = messages(pd.read_parquet(Path(data) / "bitext_customer_support.parquet"))
    frame = pd.DataFrame({"text": texts})
    options: dict[str, Any] = {"model": model, "ledger": False}
    answered, spent = meter.spent(partial(frame.llm.extract, "text", MESSAGE, **options))
    found = [v if isinstance(v, str) else None for v in answered["text_extract_order_id"]]
    rows = judged("extract", ids, found)
    strings = [
        (value, text)
        for name in ("order_id", "product")
        for value, text in zip(answered[f"text_extract_{name}"], texts, strict=True)
        if isinstance(value, str)
    ]
    rows.append(counted("extract: strings that the message has", [v in t for v, t in strings]))
    for name, pattern in EXPRESSIONS.items():
        rows += judged(f"expression: {name}", ids, [first(pattern, text) for text in texts])
    rows += tones(Path(data), options)
    return [row | {"CPU s a row": ""} for row in rows] + [
        {"what": "extract: three fields", "rows": len(texts), "CPU s a row": spent.cpu / len(texts)}
    ]


def messages(bitext: pd.DataFrame) -> tuple[list[str], list[str | None]]:
    """Messages and the order id of each."""
    held_out = bitext[bitext["split"].isin(["validation", "test"])]
    mixed = held_out.drop_duplicates("utterance").sample(frac=1, random_state=SEED)
    kind = mixed["entity_type"]
    with_id = mixed[kind == "order_id"].head(HALF)
    without = [
        mixed[kind.isin(NUMBERS)].head(HALF // 2),
        mixed[~kind.isin([*NUMBERS, "order_id"])].head(HALF // 2),
    ]
    rng = random.Random(SEED)
    texts: list[str] = []
    ids: list[str | None] = []
    for text, value in zip(with_id["utterance"], with_id["entity_value"], strict=True):
        new = new_id(rng) if rng.random() < 0.5 else value
        texts.append(text.replace(value, new))
        ids.append(new)
    for part in without:
        texts += part["utterance"].tolist()
        ids += [None] * len(part)
    return texts, ids


def new_id(rng: random.Random) -> str:
    """An order id of a form that shops use."""

    def digits(*lengths: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(rng.choice(lengths)))

    forms: list[Callable[[], str]] = [
        lambda: digits(6, 8, 11, 12, 15),
        lambda: "#" + digits(5),
        lambda: rng.choice(["ORD", "SO", "A", "PX"]) + "-" + digits(4, 6),
        lambda: rng.choice("ABCDKR") + digits(7),
    ]
    return rng.choice([forms[0], *forms])()


def tones(data: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """How many reviews get the right tone."""
    reviews = pd.read_parquet(data / "research-only" / "sst2.parquet")
    reviews = reviews[reviews["split"] != "train"].sample(2 * HALF, random_state=SEED)
    labels = [("negative", "positive")[label] for label in reviews["label"]]
    most = max(set(labels), key=labels.count)
    return [
        counted(f"reviews: {name}", [a == b for a, b in zip(labels, tone, strict=True)])
        for name, tone in {
            "the most frequent label": [most] * len(labels),
            "extract": reviews.llm.extract("text", REVIEW, **options)["text_extract_sentiment"],
            "sentiment": reviews.llm.sentiment("text", **options)["text_sentiment"],
        }.items()
    ]


def judged(
    name: str, ids: Sequence[str | None], found: Sequence[str | None]
) -> list[dict[str, Any]]:
    """The shares of ids that were found, and of messages without one where nothing was."""
    pairs = list(zip(ids, found, strict=True))
    return [
        counted(f"{name}: order id right", [a == b for a, b in pairs if a]),
        counted(f"{name}: null where there is none", [b is None for a, b in pairs if not a]),
    ]


def counted(name: str, right: Sequence[bool]) -> dict[str, Any]:
    """A row of the table: a share with its 95 % interval (Wilson)."""
    share = nbllm.stats.proportion(sum(right), len(right), 0.95)
    return {
        "what": name,
        "rows": len(right),
        "share": share.value,
        "from": share.low,
        "to": share.high,
    }


def first(pattern: str, text: str) -> str | None:
    """What an expression finds in a text."""
    match = re.search(pattern, text)
    return match.group(match.lastindex or 0) if match else None

"""Which corrupted summaries `verify` tells from true ones, beside scores of shared words.

SciTLDR (test) and XSum (of rows 250 to 499, which nothing was chosen on). A summary is corrupted by
another name, another number, a negation, or is another text's. AUROC of the score, true summaries
against corrupted ones of the same rows, with the 95 % interval of 2,000 resamples of rows. Beside
it the trivial scores: BM25 of the summary among all texts, the shares of its words in the text and
of the text's in it (precision and recall of ROUGE-1), how many of its names and numbers the text
lacks, and whether it has a negation. A reference summary of XSum was the first sentence of its
article, which the text then lacks: many hold names and numbers that the text does not have. Those
whose names and numbers the text all has are a second set, summaries that nbllm wrote a third.
`called` is the share of corrupted summaries that are called contradicted, not in the text, or
supported. NBLLM_DATA has to hold the data.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from corruptions import KINDS, corrupted
from meter import Meter

import nbllm
from nbllm.engine.structured.names import Vocabulary, names_of, numbers_of
from nbllm.frame.evaluation.text_metrics import words
from nbllm.frame.retrieval.words import WordIndex
from nbllm.models.model import Model
from nbllm.stats import bootstrap

ROWS = 150
WRITTEN = 40  # summaries by nbllm
TRUE = "true"
_NEGATION = re.compile(r"\b(?:not|never|no|cannot)\b|n['’]t\b", re.IGNORECASE)


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("verify: skipped. Set NBLLM_DATA to the folder of data sets, to measure it.")
        return []
    data = Path(os.environ["NBLLM_DATA"])
    papers = pd.read_parquet(data / "scitldr_abstract.parquet")
    papers = papers[papers["split"] == "test"].reset_index(drop=True)
    news = pd.read_parquet(data / "research-only" / "xsum_500.parquet")[250:].reset_index(drop=True)
    model = nbllm.load()
    rows = table("SciTLDR", measured(with_corruptions(papers), model))
    xsum = measured(with_corruptions(news), model)
    backed = xsum[(xsum["kind"] == TRUE) & (xsum["lacks none"] == 0)]["row"]
    rows += table("XSum", xsum)
    rows += table("XSum, all names in the text", xsum[xsum["row"].isin(backed)])
    told = news.head(WRITTEN).llm.summarize("text", max_words=30, model=model, ledger=False)
    written = told.assign(summary=told["text_summarize"])
    return rows + table("XSum, written by nbllm", measured(with_corruptions(written), model))


def with_corruptions(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per true and per corrupted summary, of the rows that can be corrupted most often."""
    texts, summaries = (frame[column].str.strip().tolist() for column in ("text", "summary"))
    found = {
        n: {kind: corrupted(kind, summaries, texts, n) for kind in KINDS} for n in range(len(frame))
    }
    most = sorted(found, key=lambda n: -sum(one is not None for one in found[n].values()))[:ROWS]
    rows = [
        {"row": n, "kind": kind, "text": texts[n], "summary": summary}
        for n in most
        for kind, summary in {TRUE: summaries[n], **found[n]}.items()
        if summary is not None
    ]
    index = WordIndex(texts)
    return pd.DataFrame(rows).assign(
        **{
            "BM25": [max(0.0, index.scores(one["summary"])[one["row"]]) for one in rows],
            "words in the text": [_shared(one["summary"], one["text"]) for one in rows],
            "words of the text": [_shared(one["text"], one["summary"]) for one in rows],
            "lacks none": [-_lacking(one["summary"], one["text"]) for one in rows],
            "no negation": [-float(bool(_NEGATION.search(one["summary"]))) for one in rows],
        }
    )


def measured(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    work = partial(frame.llm.verify, "summary", against="text", model=model, ledger=False)
    answered, spent = Meter(model.device).spent(work)
    return answered.assign(cpu=spent.cpu / len(frame))


def table(name: str, answered: pd.DataFrame) -> list[dict[str, Any]]:
    true = answered[answered["kind"] == TRUE].set_index("row")
    rows = []
    for kind in KINDS:
        wrong = answered[answered["kind"] == kind].set_index("row")
        if len(wrong) < 2:
            continue
        right = true.loc[wrong.index]
        score = auroc(right["summary_verify_score"], wrong["summary_verify_score"])
        found = bootstrap(score, len(wrong), 0.95, 0)
        called = wrong["summary_verify"].value_counts(normalize=True)
        trivial = ("BM25", "words in the text", "words of the text", "lacks none", "no negation")
        rows.append(
            {
                "summaries": name,
                "corrupted by": kind,
                "rows": len(wrong),
                "AUROC": found.value,
                "95 %": f"[{found.low:.3f}, {found.high:.3f}]",
                **{
                    column: auroc(right[column], wrong[column])(np.arange(len(wrong)))
                    for column in trivial
                },
                "true called supported": float((right["summary_verify"] == "supported").mean()),
                "called": " / ".join(
                    f"{called.get(verdict, 0.0):.2f}"
                    for verdict in ("contradicted", "not in the text", "supported")
                ),
                "CPU s / row": float(answered["cpu"].iloc[0]),
            }
        )
    return rows


def auroc(right: Any, wrong: Any) -> Any:
    """Return the function from positions of rows to the AUROC of a score."""
    first, second = np.asarray(right, dtype=float), np.asarray(wrong, dtype=float)

    def of(rows: Any) -> float:
        a, b = first[rows][:, None], second[rows][None]
        return float((a > b).mean() + (a == b).mean() / 2)

    return of


def _shared(text: str, other: str) -> float:
    """Return the share of a text's words that another text has too, each as often as it has it."""
    own, known = Counter(words(text)), Counter(words(other))
    return (own & known).total() / max(1, own.total())


def _lacking(summary: str, text: str) -> int:
    known = Vocabulary(text)
    found = [*names_of(summary), *numbers_of(summary)]
    return sum(not known.has(word) for _, _, word in found)

"""Does `answer` know when a text holds no answer, and does its score tell right from wrong?

SQuAD dev, questions of half of the titles: with their own paragraph, with one of another title,
and with another of the same title. Nothing was chosen on these titles. Beside the score: the one
that `answer` had before (1 − P(refusal)), and the share of the question's words in the text, which
is the trivial baseline; its threshold is fitted on the texts that `answer` calibrates with. SQuAD's
questions were written by people who saw the paragraph, which makes shared words a strong sign.
NBLLM_DATA has to hold the data.

`python benchmarks/bench_answer.py` fits the weights in nbllm/frame/tasks/support.py again, on
questions of the other titles and on those of the calibration texts. That takes ten minutes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from math import expm1
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from meter import Meter

import nbllm
from nbllm.engine.batching import TokenBudget
from nbllm.engine.prompt import Prompt, answer_ids
from nbllm.engine.runner import run as run_batches
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.evaluation.text_metrics import row_metric
from nbllm.frame.tasks.bound_span import BoundSpanTask
from nbllm.frame.tasks.span import SpanTask
from nbllm.frame.tasks.support import CALIBRATION, Support, fit_presence
from nbllm.frame.verbs.answer import VERB, Options
from nbllm.models.model import Model
from nbllm.stats import Estimate, bootstrap, proportion

ROWS = 200  # of each kind
SEED = 26
COST_ROWS = 24
OWN, OTHER, SAME = "their own", "another title's", "another of the same title"
RIGHT_F1 = 0.5  # token F1 from which an answer counts as right

# The right answers to the calibration texts' questions, for the fit of the weights.
_RIGHT = (
    ("Astrid Lindqvist", "around 1540", "six years", "38,000"),
    ("Ramiro Soto", "the roots of a sedge", "three", "Draining of the reed beds"),
    ("in a mill", "salt", "Bishop Hamon", "eleven years"),
    ("1,310 degrees", "the seals of pumps", "Japan", "it does not swell in hot oil"),
    ("Dunmore Rovers", "Mads Thorup", "Paula Ferrante", "89th"),
    ("199", "six years", "The president", "broadcast on the radio"),
    ("a broken harmonium", "Leeds", "as a teacher", "1951"),
    ("14 kilometres", "a copper bowl", "the melon fields", "every autumn"),
    ("a mite", "Teodora Vance", "on the wrists", "tetracyclines"),
    ("Emeka and Chidi Nwosu", "Accra", "cocoa and timber", "2,300"),
)


def run() -> list[dict[str, Any]]:
    if not os.environ.get("NBLLM_DATA"):
        print("answer: skipped. Set NBLLM_DATA to the folder of data sets, to measure it.")
        return []
    asked = questions(halves()[1], SEED)
    model = nbllm.load()
    with TemporaryDirectory() as folder, patch.dict(os.environ, NBLLM_LEDGER=f"{folder}/ledger"):
        options = {"context_column": "context", "model": model}
        delivered = asked.llm.answer("question", **options)
        everything = asked.llm.answer("question", threshold=0, **options)  # from the ledger
    found = asked.assign(
        answer=everything["question_answer"],
        failed=everything["question_answer_error"].notna(),
        score=everything["question_answer_score"].astype(float),
        refused=delivered["question_answer"].isna() & delivered["question_answer_error"].isna(),
        overlap=[shared(*pair) for pair in zip(asked["question"], asked["context"], strict=True)],
    )
    found["former"] = former_scores(model, asked)
    for metric in ("exact", "token_f1"):
        found[metric] = [
            best(metric, *pair) for pair in zip(found["answer"], found["answers"], strict=True)
        ]
    return [*refusals(found), *rightness(found, delivered), *costs(model, asked)]


def halves() -> tuple[pd.DataFrame, pd.DataFrame]:
    """SQuAD's questions of one half of the titles and of the other."""
    data = pd.read_parquet(Path(os.environ["NBLLM_DATA"]) / "squad_v1_dev.parquet")
    titles = sorted(data["title"].unique())
    np.random.default_rng(SEED).shuffle(titles)
    first = data["title"].isin(titles[: len(titles) // 2])
    return data[first], data[~first]


def questions(data: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Questions with their own paragraph, and as many other ones with each kind of wrong one."""
    random = np.random.default_rng(seed)
    paragraphs = data.drop_duplicates("context")
    own = data.sample(ROWS, random_state=seed).assign(paragraph=OWN)
    wrong = data.sample(ROWS, random_state=seed + 1)

    def drawn(row: Any, kind: str) -> str:
        alike = paragraphs["title"] == row.title
        fits = ~alike if kind == OTHER else alike & (paragraphs["context"] != row.context)
        return str(random.choice(paragraphs["context"][fits].to_numpy()))

    others = [
        wrong.assign(context=[drawn(row, kind) for row in wrong.itertuples()], paragraph=kind)
        for kind in (OTHER, SAME)
    ]
    return pd.concat([own, *others], ignore_index=True)


def shared(question: str, text: str) -> float:
    """The share of a question's words that a text has."""
    asked, there = (set(re.findall(r"\w+", part.lower())) for part in (question, text))
    return len(asked & there) / max(1, len(asked))


def best(metric: str, answer: Any, right: Sequence[str]) -> float:
    """The metric of an answer against the right one that it comes closest to."""
    score = row_metric(metric)
    assert score is not None
    return 0.0 if pd.isna(answer) else max(score(str(answer), one) for one in right)


def former_scores(model: Model, asked: pd.DataFrame) -> pd.Series:
    """The score that `answer` had before: 1 − P(refusal)."""
    bound, prompts = bound_task(model, asked)
    refusal = answer_ids(model.tokenizer, [f" {bound.refusal}"])
    scorer = LabelScorer(model, bound.template.prefix_ids, refusal)
    budget = TokenBudget.of(model, decodes=False, label_tokens=scorer.label_tokens)
    scores: dict[int, Any] = {}
    for done in run_batches(prompts, scorer, budget=budget):
        scores.update(done.answers)
    return pd.Series([-expm1(min(0.0, scores[n][0])) for n in range(len(asked))], asked.index)


def bound_task(model: Model, asked: pd.DataFrame) -> tuple[BoundSpanTask, list[Prompt]]:
    """The task of a question per row, and the rows' prompts."""
    task = VERB.task(model, "question", Options(context_column="context"))
    assert isinstance(task, SpanTask)
    bound = task.bind(model, model.context_length - task.answer_tokens(model))
    rows = list(zip(asked["context"], asked["question"], strict=True))
    prompts = [prompt for prompt in bound.encode(rows, truncate=True) if isinstance(prompt, Prompt)]
    return bound, prompts


def refusals(found: pd.DataFrame) -> list[dict[str, Any]]:
    """How many questions each way refuses, with each kind of paragraph."""
    said = found["answer"].isna() & ~found["failed"]  # what the model itself calls unanswerable
    texts, own = zip(*CALIBRATION, strict=True)
    matched = [shared(q, text) for text, asked in CALIBRATION for q in asked]
    wrong = [shared(q, texts[n - 1]) for n, asked in enumerate(own) for q in asked]
    intercept, slope = fit_presence(matched, wrong)
    ways = {
        "answer": found["refused"],
        "answer, before": said,
        "words of the question in the text": found["overlap"] < -intercept / slope,
        "always answer": pd.Series(False, found.index),
    }
    signs = {
        "answer": "score",
        "answer, before": "former",
        "words of the question in the text": "overlap",
    }
    rows = []
    for way, refused in ways.items():
        sign = found[signs[way]] if way in signs else pd.Series(0.0, found.index)
        for kind in (OWN, OTHER, SAME):
            part = found["paragraph"] == kind
            values = proportion(int(refused[part].sum()), int(part.sum()), 0.95)
            row = {"what": "refused", "way": way, "paragraph": kind} | interval(values)
            # With its own paragraphs, against the other kind.
            if kind != OWN:
                two = (part | (found["paragraph"] == OWN)) & sign.notna()
                row |= auc(sign[two], found["paragraph"][two] == OWN)
            rows.append(row | {"rows": int(part.sum())})
    return [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows]


def rightness(found: pd.DataFrame, delivered: pd.DataFrame) -> list[dict[str, Any]]:
    """How well each score tells right answers from wrong ones, and how good the answers are."""
    own = found[found["paragraph"] == OWN]
    scored = own[own["answer"].notna()]
    rows = []
    ways = {
        "answer": "score",
        "answer, before": "former",
        "words of the question in the text": "overlap",
    }
    for way, score in ways.items():
        for name, right in {
            f"right (F1 ≥ {RIGHT_F1})": scored["token_f1"] >= RIGHT_F1,
            "right (exact)": scored["exact"] == 1,
        }.items():
            rows.append(
                {"what": name, "way": way, "paragraph": OWN, "rows": len(scored)}
                | interval(proportion(int(right.sum()), len(right), 0.95))
                | auc(scored[score], right)
            )
    shown = delivered["question_answer"][own.index].notna()
    for metric in ("token_f1", "exact"):
        for way, values in {
            "answer": own[metric].where(shown, 0.0),
            "answer, threshold=0": own[metric],
        }.items():
            numbers = values.to_numpy()
            mean = bootstrap(partial(_mean, numbers), len(numbers), 0.95, SEED)
            rows.append(
                {"what": metric, "way": way, "paragraph": OWN, "rows": len(own)} | interval(mean)
            )
    error = nbllm.stats.calibration_error(
        scored["score"].to_numpy(), (scored["token_f1"] >= RIGHT_F1).to_numpy()
    )
    rows.append(
        {"what": "calibration error of the score", "way": "answer", "paragraph": OWN,
         "rows": len(scored), "value": error}
    )  # fmt: skip
    return [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows]


def costs(model: Model, asked: pd.DataFrame) -> list[dict[str, Any]]:
    """CPU seconds per row, and those of the answers with their former score."""
    some = asked[asked["paragraph"] == OWN].head(COST_ROWS)
    bound, prompts = bound_task(model, some)
    bound.calibrate([0.0, 1.0])
    refusal = answer_ids(model.tokenizer, [f" {bound.refusal}"])
    scorer = LabelScorer(model, bound.template.prefix_ids, refusal)

    def before() -> None:
        bound.generator(prompts)
        scorer(prompts)

    ours, theirs = Meter(model.device).medians(3, lambda: bound(prompts), before)
    return [
        {**dict.fromkeys(COLUMNS, ""), "what": "CPU s per row", "way": way, "paragraph": OWN,
         "rows": len(some), "value": spent.cpu / len(some)}
        for way, spent in (("answer", ours), ("answer, before", theirs))
    ]  # fmt: skip


COLUMNS = ("what", "way", "paragraph", "rows", "value", "95 %", "AUC", "AUC, 95 %")


def interval(found: Estimate) -> dict[str, Any]:
    """A value and its interval as cells."""
    return {"value": found.value, "95 %": f"{found.low:.3f} to {found.high:.3f}"}


def auc(scores: pd.Series, positive: pd.Series) -> dict[str, Any]:
    """The area under the ROC curve and its interval as cells."""
    from sklearn.metrics import roc_auc_score

    values, truth = scores.to_numpy(float), positive.to_numpy(bool)

    def area(rows: Any) -> float:
        one_class = truth[rows].all() or not truth[rows].any()
        return np.nan if one_class else float(roc_auc_score(truth[rows], values[rows]))

    found = bootstrap(area, len(values), 0.95, SEED)
    return {"AUC": found.value, "AUC, 95 %": f"{found.low:.3f} to {found.high:.3f}"}


def _mean(values: Any, rows: Any) -> float:
    return float(values[rows].mean())


def fitted_weights(progress: Callable[[str], None] = print) -> dict[str, float]:
    """The weights of the probability that an answer is right, if the text holds one."""
    from sklearn.linear_model import LogisticRegression

    own = pd.DataFrame(
        [
            {"context": text, "question": question, "answers": [right]}
            for (text, asked), rights in zip(CALIBRATION, _RIGHT, strict=True)
            for question, right in zip(asked, rights, strict=True)
        ]
    )
    others = questions(halves()[0], 1)
    frame = pd.concat([own, others[others["paragraph"] == OWN]], ignore_index=True)
    model = nbllm.load()
    bound, prompts = bound_task(model, frame)
    bound.calibrate(None)
    budget = TokenBudget.of(model, decodes=True, label_tokens=bound.label_tokens)
    answers: dict[int, Any] = {}
    for done in run_batches(prompts, bound, budget=budget, answer_tokens=32):
        answers.update(done.answers)
        progress(f"{len(answers)} of {len(frame)}")
    rows = [(n, a) for n, a in sorted(answers.items()) if a[3] is not None]
    supports = [Support(*a[3]) for _, a in rows]
    features = np.array([[s.sentence_share, s.likelihood, s.repeated] for s in supports])
    right = [best("token_f1", a[0], frame["answers"][n]) >= RIGHT_F1 for n, a in rows]
    scale = features.std(axis=0)
    fit = LogisticRegression(C=0.3).fit(features / scale, right)
    names = ("sentence share", "likelihood", "repeated")
    return {"bias": float(fit.intercept_[0])} | dict(
        zip(names, map(float, fit.coef_[0] / scale), strict=True)
    )


if __name__ == "__main__":
    print(fitted_weights())

"""Evaluations of filter, similarity, mask and embed, against scipy, scikit-learn and by hand."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.neighbors import KNeighborsClassifier

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError, LabelError
from nbllm.frame.evaluation.masks import plain_spans
from nbllm.frame.evaluation.similarities import word_overlap
from nbllm.frame.evaluation.vectors import neighbour_labels
from nbllm.models.model import Model

ROWS = 24
SHOWN = [("A tram.", "is short")]  # a prompt of few tokens


def values(found, label=None) -> dict[str, tuple]:
    return {m.name: (m.value.value, m.baseline) for m in found.measures if m.label == label}


def numbered(module=pd, **columns):
    texts = [f"The soup of day {n} was {'warm' if n % 3 else 'cold'}." for n in range(ROWS)]
    return module.DataFrame({"text": texts, **columns})


# -- filter ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_a_filter_is_judged_by_what_it_left_too(module, tiny_llama: Model) -> None:
    truth = [n % 3 == 0 for n in range(ROWS)]
    frame = numbered(module, cold=[None, *truth[1:]], n=range(ROWS))
    asked = {"model": tiny_llama, "examples": SHOWN}
    every = frame.llm.filter("text", "is cold", threshold=0.0, **asked)
    scores = np.array(every["text_filter_score"].to_list())
    middle = float(np.median(scores))
    taken = frame.llm.filter("text", "is cold", threshold=middle, **asked)
    found = taken.llm.evaluate("cold", among=frame)
    right, given = np.array(truth)[1:], (scores >= middle)[1:]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        right, given, average="binary"
    )
    share = right.mean()
    measured = values(found)
    assert measured["precision"] == (pytest.approx(precision), pytest.approx(share))
    assert measured["recall"] == (pytest.approx(recall), 1)
    assert measured["F1"] == (pytest.approx(f1), pytest.approx(2 * share / (1 + share)))
    ap = metrics.average_precision_score(right, scores[1:])
    assert measured["average precision"] == (pytest.approx(ap), pytest.approx(share))
    assert (found.count, found.unanswered) == (ROWS - 1, 0)
    missed = found.rows(truth=True, taken=False)
    assert missed["n"].to_list() == (1 + np.flatnonzero(right & ~given)).tolist()


def test_a_filter_that_took_nothing_found_nothing(tiny_llama: Model) -> None:
    frame = numbered(cold=["yes", "no"] * (ROWS // 2))
    none = frame.llm.filter("text", "is cold", threshold=1.0, model=tiny_llama, examples=SHOWN)
    assert len(none) == 0
    assert values(none.llm.evaluate("cold", among=frame))["recall"][0] == 0
    with pytest.raises(FrameError, match="among=df"):
        none.llm.evaluate("cold")
    frame = pl.from_pandas(frame)
    none = frame.llm.filter("text", "is cold", threshold=1.0, model=tiny_llama, examples=SHOWN)
    with pytest.raises(FrameError, match="no row of 'text_filter' was answered"):
        none.llm.evaluate("cold", among=frame)


def test_without_a_ledger_there_is_no_average_precision(tiny_llama: Model) -> None:
    frame = numbered(cold=["yes", "no"] * (ROWS // 2))
    asked = {"model": tiny_llama, "examples": SHOWN, "ledger": False}
    every = frame.llm.filter("text", "is cold", threshold=0.0, **asked)
    middle = every["text_filter_score"].median()
    taken = frame.llm.filter("text", "is cold", threshold=middle, **asked)
    found = taken.llm.evaluate("cold", among=frame)
    assert set(values(found)) == {"precision", "recall", "F1"}
    assert "needs the scores of what was left out" in str(found)
    assert values(found)["recall"][0] == pytest.approx((taken["cold"] == "yes").sum() / (ROWS / 2))
    with pytest.raises(FrameError, match="among=df"):
        taken.llm.evaluate("cold")
    with pytest.raises(LabelError, match="neither true nor false"):
        taken.llm.evaluate("text", among=frame)
    with pytest.raises(FrameError, match="history= is for"):
        taken.llm.evaluate("cold", among=frame, history=["a"])


# -- similarity ------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_similarity_is_judged_by_its_correlation(module, tiny_encoder: Model) -> None:
    gold = np.random.default_rng(0).uniform(0, 5, ROWS).round(1)
    others = [f"Day {n} had {'cold soup' if n % 2 else 'a film'}." for n in range(ROWS)]
    frame = numbered(module, other=others, gold=gold)
    answered = frame.llm.similarity("text", "other", model=tiny_encoder)
    found = answered.llm.evaluate("gold")
    cosines = np.array(answered["text_similarity"].to_list())
    shared = [word_overlap(a, b) for a, b in zip(frame["text"], others, strict=True)]
    for name, of in (("Spearman", stats.spearmanr), ("Pearson", stats.pearsonr)):
        value, plain = values(found)[name]
        assert value == pytest.approx(of(cosines, gold).statistic)
        assert plain == pytest.approx(of(shared, gold).statistic)
    low, high = found.measures[0].value[1:]
    # scipy's own bootstrap of the same statistic.
    again = stats.bootstrap(
        (cosines, gold), lambda a, b: stats.spearmanr(a, b).statistic, paired=True,
        vectorized=False, n_resamples=500, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(again), abs=0.08)


def test_similarity_to_one_text(tiny_encoder: Model) -> None:
    frame = numbered(gold=["high", *["1"] * (ROWS - 1)], same=1.0)
    answered = frame.llm.similarity("text", to="warm soup", model=tiny_encoder)
    assert values(answered.llm.evaluate("same"))["Pearson"] == (0.0, 0.0)
    with pytest.raises(FrameError, match="what is no number"):
        answered.llm.evaluate("gold")
    with pytest.raises(FrameError, match="metrics= is for"):
        answered.llm.evaluate("same", metrics=["bleu"])
    with pytest.raises(FrameError, match="among= is for"):
        answered.llm.evaluate("same", among=frame)
    with pytest.raises(FrameError, match="one row has no correlation"):
        answered.head(1).llm.evaluate("same")


# -- embed -----------------------------------------------------------------------------------


def test_neighbours_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(["a", "b", "c"], 200)
    vectors = random.normal(size=(200, 8)) + (labels == "a")[:, None]
    found = neighbour_labels(list(vectors), labels.tolist(), [1, 5])
    for row in range(0, 200, 7):
        others = np.arange(200) != row
        near = KNeighborsClassifier(1, metric="cosine").fit(vectors[others], labels[others])
        assert found[1][row] == near.predict(vectors[[row]])[0]
        five = near.kneighbors(vectors[[row]], 5, return_distance=False)[0]
        given = labels[others][five].tolist()
        assert found[5][row] == max(dict.fromkeys(given), key=given.count)


@pytest.mark.parametrize("module", [pd, pl])
def test_vectors_are_judged_by_their_neighbours(module, tiny_encoder: Model) -> None:
    labels = ["warm" if n % 3 else "cold" for n in range(ROWS)]
    frame = numbered(module, label=labels, own=range(ROWS))
    answered = frame.llm.embed("text", model=tiny_encoder)
    found = answered.llm.evaluate("label")
    assert set(values(found)) == {"label of the nearest", "label of the 5 nearest"}
    assert all(plain == pytest.approx(2 / 3) for _, plain in values(found).values())
    assert found.baseline == "always 'warm'" and found.count == ROWS
    with pytest.raises(FrameError, match="no two rows have the same value"):
        answered.llm.evaluate("own")


# -- mask ------------------------------------------------------------------------------------

TEXTS = [
    "Write to ann@example.org or bob@example.org.",
    "Order 12345678 by 2024-05-01, from 192.168.10.4.",
    "Nothing to see.",
    None,
]


def spans_of(text: str, **entities: str) -> list[dict]:
    places = {entity: text.index(value) for entity, value in entities.items()}
    return [
        {"entity": entity, "start": places[entity], "end": places[entity] + len(value)}
        for entity, value in entities.items()
    ]


@pytest.mark.parametrize("module", [pd, pl])
def test_masks_are_judged_by_what_can_still_be_seen(module) -> None:
    pytest.importorskip("presidio_analyzer")
    truth = [
        spans_of(TEXTS[0], EMAIL_ADDRESS="ann@example.org", PERSON="bob"),
        spans_of(TEXTS[1], IP_ADDRESS="192.168.10.4", ORDER="12345678"),
        [],
        None,
    ]
    cells = [value if value is None else json.dumps(value) for value in truth]
    answered = module.DataFrame({"text": TEXTS, "truth": cells, "n": range(4)}).llm.mask(
        "text", ["EMAIL_ADDRESS", "IP_ADDRESS"], into="safe"
    )
    found = answered.llm.evaluate("truth")
    assert (found.count, found.unit) == (3, "texts")
    # Of four spans the order's number can be read; bob lies within an address, which is masked.
    measured = values(found)
    assert measured["recall"][0] == 3 / 4 and measured["precision"][0] == 1
    assert measured["F1"][0] == pytest.approx(2 * 0.75 / 1.75)
    assert values(found, "ORDER") == {"recall": (0, 1)} and values(found, "PERSON") == {
        "recall": (1, 1)
    }
    # The plain expression masks the date too.
    assert [len(plain_spans(text)) for text in TEXTS[:3]] == [2, 3, 0]
    assert measured["recall"][1] == 1 and measured["precision"][1] == 4 / 5
    assert found.rows()["n"].to_list() == [1] and found.rows("PERSON")["n"].to_list() == []
    assert len(found.plot().data) == 2
    assert "Nothing was masked as ORDER, PERSON: mask looks for" in str(found)


def test_a_truth_of_masks_that_is_refused() -> None:
    pytest.importorskip("presidio_analyzer")
    frame = pd.DataFrame({"text": TEXTS[:2], "truth": ["[]", '[{"entity": "X"}]'], "none": None})
    answered = frame.llm.mask("text")
    with pytest.raises(FrameError, match="a list of spans a row"):
        answered.llm.evaluate("truth")
    with pytest.raises(FrameError, match="no row has both"):
        answered.llm.evaluate("none")
    with pytest.raises(ColumnError, match="no column 'other'"):
        answered.llm.evaluate("other")
    # Triples do as well as objects, and without the text there is no baseline.
    triples = answered.assign(truth=[[("EMAIL_ADDRESS", 9, 24)], []]).drop(columns="text")
    assert values(triples.llm.evaluate("truth"))["recall"] == (1, None)

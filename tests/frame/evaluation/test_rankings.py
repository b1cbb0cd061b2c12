"""Rankings against what is relevant: by hand, by scikit-learn, and by drawing at random."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import ndcg_score

import nbllm  # noqa: F401  registers df.llm
from nbllm.errors import ColumnError, FrameError, ProvenanceError
from nbllm.frame.calls.evaluate import outputs_of
from nbllm.frame.evaluation.rank_metrics import RANK_METRICS, by_chance, rank_metric
from nbllm.frame.evaluation.rankings import RankEvaluation
from nbllm.models.model import Model

TEXTS = {
    "a": "The soup was warm and the staff were kind.",
    "b": "A quiet film about two brothers.",
    "c": "Soup, soup and more soup!",
    "d": "The film was warm.",
    "e": "They closed at nine.",
    "f": "Nobody was there.",
}


def texts_of(module):
    data = {"id": list(TEXTS), "text": list(TEXTS.values())}
    return pl.DataFrame(data) if module is pl else pd.DataFrame(data).set_index("id", drop=False)


def values(found: RankEvaluation) -> dict[str, tuple]:
    return {m.name: (m.value.value, m.baseline, m.chance) for m in found.measures}


# -- metrics ---------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    ranking, relevant = ["b", "a", "x", "c"], {"a", "c", "d"}
    assert rank_metric("hit", ranking, relevant, 1) == 0
    assert rank_metric("hit", ranking, relevant, 2) == 1
    assert rank_metric("recall", ranking, relevant, 4) == pytest.approx(2 / 3)
    assert rank_metric("mrr", ranking, relevant, 4) == 0.5
    assert all(rank_metric(metric, [], relevant, 4) == 0 for metric in RANK_METRICS)


def test_ndcg_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        relevant = random.random(12) < 0.3
        relevant[3] = True
        order = random.permutation(12)
        scores = np.zeros(12)
        scores[order] = np.arange(12, 0, -1)
        for k in (1, 3, 12):
            ours = rank_metric("ndcg", order.tolist(), set(np.flatnonzero(relevant)), k)
            assert ours == pytest.approx(ndcg_score([relevant.astype(int)], [scores], k=k))


@pytest.mark.parametrize("metric", RANK_METRICS)
@pytest.mark.parametrize(("many", "relevant", "k"), [(20, 1, 5), (20, 6, 5), (4, 3, 10)])
def test_chance_is_the_mean_of_many_draws(metric, many, relevant, k) -> None:
    random = np.random.default_rng(0)
    wanted = set(range(relevant))
    drawn = [rank_metric(metric, list(random.permutation(many)), wanted, k) for _ in range(4000)]
    assert by_chance(metric, many, relevant, k) == pytest.approx(np.mean(drawn), abs=0.02)


# -- search ----------------------------------------------------------------------------------


def test_bm25_is_put_beside_drawing_at_random() -> None:
    frame = texts_of(pd)
    hits = frame.llm.search("text", ["warm soup", "two brothers", "xyz"], how="bm25", k=3)
    truth = {"warm soup": ["c", "e"], "two brothers": "b", "xyz": ["f"]}
    found = hits.llm.evaluate(truth, corpus=frame)
    assert (found.count, found.k, found.unit) == (3, 3, "queries")
    places = [list(hits.index[hits["text_search_query"] == query]).index(label) + 1
              for query, label in (("warm soup", "c"), ("two brothers", "b"))]  # fmt: skip
    measured = values(found)
    assert measured["recall@3"][0] == pytest.approx((0.5 + 1 + 0) / 3)
    assert measured["MRR@3"][0] == pytest.approx(sum(1 / n for n in places) / 3)
    chance = np.mean([by_chance("recall", 6, n, 3) for n in (2, 1, 1)])
    assert measured["recall@3"][1:] == (pytest.approx(chance), None)
    assert found.baseline == "drawing at random"
    assert "Nothing was found for 1" in str(found)
    table = found.by_query
    assert table["query"].tolist() == list(truth) and table["recall@3"].tolist() == [0.5, 1.0, 0.0]
    # Without the frame that was searched, there is nothing to put it beside.
    alone = hits.llm.evaluate(truth)
    assert alone.baseline == "none" and values(alone)["recall@3"][1:] == (None, None)


@pytest.mark.parametrize("module", [pd, pl])
@pytest.mark.parametrize("how", ["dense", "fused"])
def test_by_meaning_is_put_beside_bm25(module, how, tiny_encoder: Model) -> None:
    frame = texts_of(module)
    queries = ["warm soup", "brothers"]
    hits = frame.llm.search("text", queries, how=how, k=2, model=tiny_encoder)
    truth = module.DataFrame({"q": ["warm soup", "warm soup", "brothers"], "id": ["a", "c", "b"]})
    found = hits.llm.evaluate(truth, corpus=frame, key="id")
    words = frame.llm.search("text", queries, how="bm25", k=2)
    beside = words.llm.evaluate(truth, corpus=frame, key="id", k=2)
    assert found.baseline == "BM25, by words alone"
    for name, (value, plain, chance) in values(found).items():
        assert plain == values(beside)[name][0] and chance == values(beside)[name][1]
        low, high = next(m.value[1:] for m in found.measures if m.name == name)
        assert low <= value <= high
    assert "chance" in found.summary.columns and "at random" in found._repr_html_()
    assert len(found.plot().data) == 3


def test_one_query_is_judged_by_its_labels_alone(tiny_encoder: Model) -> None:
    frame = texts_of(pd)
    hits = frame.llm.search("text", "warm soup", k=6, how="dense", model=tiny_encoder)
    place = list(hits.index).index("c") + 1
    for truth in (["c"], {"c"}, {"warm soup": "c"}, pd.Series(["c"], index=["warm soup"])):
        measured = values(hits.llm.evaluate(truth, corpus=frame))
        assert measured["MRR@6"][0] == pytest.approx(1 / place)
    named = hits.llm.evaluate({"warm soup": "c"}, corpus=frame)
    assert named.baseline == "BM25, by words alone"
    assert hits.llm.evaluate(["c"], corpus=frame).baseline == "drawing at random"
    assert values(hits.llm.evaluate(["c"], k=1))["recall@1"][0] == (place == 1)


def test_a_truth_that_does_not_fit_is_refused(tiny_encoder: Model) -> None:
    frame = texts_of(pd)
    hits = frame.llm.search("text", ["warm", "soup"], how="bm25")
    for truth, message in (
        ("label", "is one string"),
        (["a"], "pass labels by query"),
        ({"warm": "zzz"}, "no row of corpus= is labelled 'zzz'"),
        ({"warm": []}, "names nothing"),
        (pd.DataFrame({"q": ["warm"]}), "one column"),
    ):
        with pytest.raises(FrameError, match=message):
            hits.llm.evaluate(truth, corpus=frame)
    with pytest.raises(FrameError, match="metrics= is for"):
        hits.llm.evaluate({"warm": "a"}, metrics=["bleu"])
    with pytest.raises(ColumnError, match="key='nope'"):
        hits.llm.evaluate({"warm": "a"}, key="nope")
    with pytest.raises(FrameError, match="k=0"):
        hits.llm.evaluate({"warm": "a"}, k=0)
    polars = texts_of(pl).llm.search("text", ["warm"], how="bm25")
    with pytest.raises(FrameError, match="polars has no index"):
        polars.llm.evaluate({"warm": "a"})
    with pytest.raises(ProvenanceError, match="no column that ends in '_run'"):
        frame.llm.evaluate({"warm": "a"})


@pytest.mark.parametrize("module", [pd, pl])
def test_whole_numbers_that_are_no_ranks_are_not_taken_for_answers(module) -> None:
    rated = module.DataFrame(
        {"stars": [1, 5, 5], "stars_score": [0.1, 0.2, 0.3], "text": "a"}
        if module is pd
        else {"stars": [1, 5, 5], "stars_score": [0.1] * 3}
    )
    assert outputs_of(rated) == {}
    hits = texts_of(module).llm.search("text", ["warm", "soup"], how="bm25")
    assert outputs_of(hits) == {"text_search": "search"}


# -- recommend -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [pd, pl])
def test_recommendations_are_put_beside_what_is_popular(module, tiny_encoder: Model) -> None:
    frame = texts_of(module)
    label = (lambda x: x) if module is pd else list(TEXTS).index
    likes = [("ann", "a"), ("bob", "a"), ("bob", "b"), ("cy", "b"), ("cy", "a"), ("cy", "c")]
    history = module.DataFrame({"who": [u for u, _ in likes], "what": [label(x) for _, x in likes]})
    found = frame.llm.recommend("text", history, k=2, model=tiny_encoder)
    # What bob likes again he had before, and counts for nothing.
    truth = {"ann": ["b", "f"], "bob": ["c", "a"], "dan": ["a"]}
    judged = found.llm.evaluate(truth, corpus=frame, history=history, key="id")
    measured = values(judged)
    # By hand: most liked are a (3), b (2), c (1), and nobody is given what they have.
    popular = {"ann": ["b", "c"], "bob": ["c"], "dan": ["a", "b"]}
    relevant = {"ann": {"b", "f"}, "bob": {"c"}, "dan": {"a"}}
    ours = {
        user: found.filter(pl.col("text_recommend_user") == user)["id"].to_list()
        if module is pl
        else found.loc[found["text_recommend_user"] == user, "id"].tolist()
        for user in relevant
    }
    assert ours["dan"] == []
    for metric, name in (("hit", "hit rate@2"), ("recall", "recall@2"), ("mrr", "MRR@2")):
        value, plain, chance = measured[name]
        assert value == np.mean([rank_metric(metric, ours[u], relevant[u], 2) for u in relevant])
        assert plain == np.mean([rank_metric(metric, popular[u], relevant[u], 2) for u in relevant])
        left = {"ann": 5, "bob": 4, "dan": 6}
        drawn = [by_chance(metric, left[u], len(relevant[u]), 2) for u in relevant]
        assert chance == pytest.approx(np.mean(drawn))
    assert judged.baseline == "what most users liked" and "users" in str(judged)


def test_recommendations_from_one_history(tiny_encoder: Model) -> None:
    frame = texts_of(pd)
    found = frame.llm.recommend("text", ["a"], k=3, model=tiny_encoder)
    judged = found.llm.evaluate(["b", "c"], corpus=frame, history=["a"])
    assert values(judged)["recall@3"][0] == len({"b", "c"} & set(found.index)) / 2
    assert judged.baseline == "drawing at random"
    assert values(judged)["recall@3"][1] == pytest.approx(3 / 5)
    with pytest.raises(FrameError, match="Pass that as corpus="):
        found.llm.evaluate(["b"], history="liked")

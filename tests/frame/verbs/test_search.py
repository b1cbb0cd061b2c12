"""Search by words, by meaning and by both."""

import threading
from math import log

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbllm  # registers df.llm
from nbllm.engine.batching import TokenBudget
from nbllm.engine.encoding import TextEncoder
from nbllm.errors import ColumnError, FrameError, TextTooLongError
from nbllm.frame.retrieval.rankings import fuse, top_rows
from nbllm.frame.retrieval.words import terms
from nbllm.models.model import Model

TEXTS = [
    "The soup was warm and the staff were kind.",
    None,
    "A quiet film about two brothers.",
    " ",
    "Soup, soup and more soup!",
    "!!! ...",
    "房间很干净，服务员也很热情。",
    "The film was warm.",
]


def frame_of(module, texts=TEXTS):
    data = {"review": texts, "n": range(len(texts))}
    return pl.DataFrame(data) if module is pl else pd.DataFrame(data, index=list("abcdefgh"))


def bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Robertson's BM25 with Lucene's idf, which is never negative, written out."""
    counted = [terms(text) for text in texts]
    mean = sum(map(len, counted)) / len(counted)
    scores = []
    for words in counted:
        total = 0.0
        for term in terms(query):
            having = sum(term in other for other in counted)
            times = words.count(term)
            idf = log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            total += idf * times / (times + k1 * (1 - b + b * len(words) / mean))
        scores.append(total)
    return scores


@pytest.mark.parametrize("module", [pd, pl])
def test_bm25_asks_no_model_and_is_what_the_formula_says(module) -> None:
    found = frame_of(module).llm.search("review", "warm soup", how="bm25")
    assert list(found.columns) == ["review", "n", "review_search", "review_search_score"]
    texts = [text for text in TEXTS if text and text.strip()]
    expected = dict(zip(texts, bm25(texts, "warm soup"), strict=True))
    order = sorted((text for text in texts if expected[text]), key=lambda text: -expected[text])
    assert found["review"].to_list() == order and len(order) == 3
    assert found["review_search"].to_list() == [1, 2, 3]
    np.testing.assert_allclose(
        found["review_search_score"].to_list(), [expected[text] for text in order], rtol=1e-5
    )
    if module is pd:
        assert list(found.index) == [frame_of(pd).index[TEXTS.index(text)] for text in order]


@pytest.mark.parametrize("query", ["房间", "服务员热情吗？", "净"])
def test_chinese_is_found_by_its_characters(query: str) -> None:
    found = frame_of(pd).llm.search("review", query, how="bm25")
    assert list(found.index) == ["g"]


def test_terms() -> None:
    assert terms("Don't PANIC, Straße 12!") == ["don", "t", "panic", "strasse", "12"]
    assert terms("上海2号线") == ["上", "海", "上海", "2", "号", "线", "号线"]
    assert terms("हिन्दी ＡＢＣ") == ["हिन्दी", "abc"]
    assert terms("コーヒー") == ["コ", "ー", "ヒ", "ー", "コー", "ーヒ", "ヒー"]
    assert terms(" ... ") == []


@pytest.mark.parametrize("module", [pd, pl])
def test_dense_is_the_exact_cosine(module, tiny_encoder: Model) -> None:
    found = frame_of(module).llm.search("review", "A warm room.", how="dense", model=tiny_encoder)
    alike = frame_of(module).llm.similarity("review", to="A warm room.", model=tiny_encoder)
    column = alike["review_similarity"]
    cosines = np.array([-np.inf if pd.isna(x) else x for x in column.to_list()])
    order = top_rows(cosines, 10)
    assert found["n"].to_list() == order and len(order) == 6
    np.testing.assert_allclose(
        found["review_search_score"].to_list(), cosines[order], rtol=0, atol=1e-5
    )


def test_fused_is_the_sum_of_reciprocal_ranks(tiny_encoder: Model) -> None:
    asked = {"k": 20, "model": tiny_encoder}
    places = {}
    for how in ("bm25", "dense", "fused"):
        found = frame_of(pd).llm.search("review", "warm soup", how=how, **asked)
        places[how] = found["review_search"].to_dict()
    scores = found["review_search_score"]
    assert set(scores.index) == set(places["dense"]) > set(places["bm25"])
    for label, score in scores.items():
        ranks = [places[how][label] for how in ("bm25", "dense") if label in places[how]]
        assert score == pytest.approx(sum(1 / (60 + rank) for rank in ranks))
    assert scores.is_monotonic_decreasing
    default = frame_of(pd).llm.search("review", "warm soup", **asked)
    pd.testing.assert_frame_equal(default, found)


def test_the_second_search_embeds_the_query_alone(tiny_encoder: Model) -> None:
    rows: list[int] = []
    TextEncoder(tiny_encoder)  # which tries the network once
    tiny_encoder.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    frame_of(pd).llm.search("review", "soup", model=tiny_encoder)
    assert sum(rows) == 7
    rows.clear()
    found = frame_of(pd).llm.search("review", "film", model=tiny_encoder)
    assert rows == [1]
    report = found.llm.report()
    assert (report.verb, report.known, report.computed, report.rows) == ("embed", 6, 0, 8)
    # What `embed` computed is known to `search`, and the other way round.
    frame_of(pd).llm.embed("review", model=tiny_encoder)
    assert rows == [1]


@pytest.mark.parametrize("module", [pd, pl])
def test_several_queries(module, tiny_encoder: Model) -> None:
    frame = frame_of(module)
    queries = ["a film", "kind staff", "a film"]
    found = frame.llm.search("review", queries, k=2, model=tiny_encoder)
    assert found["review_search_query"].to_list() == [q for q in queries for _ in range(2)]
    assert found["review_search"].to_list() == [1, 2] * 3
    for n, query in enumerate(queries):
        alone = frame.llm.search("review", query, k=2, model=tiny_encoder)
        assert found["n"].to_list()[2 * n : 2 * n + 2] == alone["n"].to_list()
        np.testing.assert_allclose(
            found["review_search_score"].to_list()[2 * n : 2 * n + 2],
            alone["review_search_score"].to_list(),
        )
    series = module.Series(queries)
    assert frame.llm.search("review", series, k=2, model=tiny_encoder).shape == found.shape


def test_nothing_is_found_where_there_is_nothing(tiny_encoder: Model) -> None:
    empty = frame_of(pd).llm.search("review", "zebra", how="bm25")
    assert len(empty) == 0 and "review_search_score" in empty
    for texts in ([None, " "], ["!!!", "..."], []):
        for module in (pd, pl):
            frame = module.DataFrame(
                {"review": texts},
                **({"dtype": "object"} if module is pd else {"schema": {"review": pl.String}}),
            )
            assert len(frame.llm.search("review", "soup", how="bm25")) == 0
    blank = pd.DataFrame({"review": [None, " "]})
    assert len(blank.llm.search("review", "soup", model=tiny_encoder)) == 0


def test_a_row_that_is_too_long_is_found_by_its_words_alone(tiny_encoder: Model) -> None:
    frame = pd.DataFrame({"review": ["soup " * 400, "A film."]})
    with pytest.warns(UserWarning, match="1 of 2 rows have no answer"):
        found = frame.llm.search("review", "soup", model=tiny_encoder)
    assert found["review_search_score"].to_dict() == {
        0: pytest.approx(1 / 61), 1: pytest.approx(1 / 61)
    }  # fmt: skip
    cut = frame.llm.search("review", "soup", model=tiny_encoder, truncate=True, how="dense")
    assert sorted(cut.index) == [0, 1]


def test_searching_again_replaces_what_was_found(tiny_encoder: Model) -> None:
    frame = frame_of(pd)
    for how in ("bm25", "fused"):
        once = frame.llm.search("review", "warm soup", how=how, model=tiny_encoder)
        twice = once.llm.search("review", "warm soup", how=how, model=tiny_encoder)
        assert list(twice.columns) == list(once.columns)
        assert sorted(twice.index) == sorted(once.index)
    several = frame.llm.search("review", ["warm soup"], model=tiny_encoder)
    single = several.llm.search("review", "warm soup", how="bm25")
    assert list(single.columns) == ["review", "n", "review_search", "review_search_score"]
    named = frame.llm.search("review", "soup", how="bm25", into="hit", keep=("score",))
    assert list(named.columns) == ["review", "n", "hit_score"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"query": " "}, FrameError, "says nothing"),
        ({"query": []}, FrameError, "query= is empty"),
        ({"query": ["soup", None]}, FrameError, "query= holds None"),
        ({"query": "soup", "k": 0}, FrameError, "k=0"),
        ({"query": "soup", "how": "magic"}, FrameError, "none of fused, dense, bm25"),
        ({"query": "soup", "keep": ("rank",)}, FrameError, "keep='rank'"),
        ({"query": "soup", "into": "n"}, ColumnError, "already has a column 'n'"),
        ({"query": "soup " * 400}, TextTooLongError, "truncate=True"),
    ],
)
def test_what_is_refused(arguments, error, message, tiny_encoder: Model) -> None:
    with pytest.raises(error, match=message):
        frame_of(pd).llm.search("review", **arguments, model=tiny_encoder)
    with pytest.raises(ColumnError, match="Did you mean 'review'"):
        frame_of(pd).llm.search("reviw", "soup", how="bm25")


def test_fuse_by_hand() -> None:
    missing = -np.inf
    total = fuse([np.array([3.0, missing, 1.0, missing]), np.array([0.1, 0.2, missing, missing])])
    expected = [1 / 61 + 1 / 62, 1 / 61, 1 / 62, missing]
    np.testing.assert_allclose(total, expected)


def test_the_paragraph_that_answers_a_question_is_found(data_dir) -> None:
    frame = pd.read_parquet(data_dir / "squad_v1_dev.parquet").drop_duplicates("question")
    paragraphs = frame[["context"]].drop_duplicates()
    questions = frame.sample(100, random_state=1)
    found = paragraphs.llm.search("context", questions["question"], k=5, how="bm25")
    hits = set(zip(found["context_search_query"], found["context"], strict=True))
    recall = np.mean(
        [pair in hits for pair in zip(questions["question"], questions["context"], strict=True)]
    )
    print(f"\nSQuAD, 100 questions: recall@5 {recall:.2f} by BM25")
    assert recall >= 0.85


def test_chinese_questions_find_their_paragraph(data_dir) -> None:
    frame = pd.read_parquet(data_dir / "zh_cmrc2018.parquet").query("split == 'trial'")
    paragraphs = frame[["context"]].drop_duplicates()
    questions = frame.drop_duplicates("question").sample(100, random_state=1)
    found = paragraphs.llm.search("context", questions["question"], k=5, how="bm25")
    hits = set(zip(found["context_search_query"], found["context"], strict=True))
    recall = np.mean(
        [pair in hits for pair in zip(questions["question"], questions["context"], strict=True)]
    )
    print(f"\nCMRC 2018 trial, 100 questions: recall@5 {recall:.2f} by BM25")
    assert recall >= 0.95


def test_meaning_finds_what_shares_no_word(network_guard) -> None:
    with network_guard.open():
        model = nbllm.load("minilm")
    frame = pd.DataFrame(
        {"text": ["The feline slept on the rug.", "Shares fell on Monday.", "It rained all day."]}
    )
    assert len(frame.llm.search("text", "cats napping", how="bm25")) == 0
    found = frame.llm.search("text", "cats napping", k=1, model=model)
    assert list(found.index) == [0]


# -- beside the notebook ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bm25", "dense", "fused"])
def test_beside_the_notebook_the_same_is_found(how, tiny_encoder: Model) -> None:
    asked = {"how": how, "model": tiny_encoder, "k": 3, "ledger": False}
    run = frame_of(pd).llm.search("review", ["warm soup", "film"], background=True, **asked)
    whole = frame_of(pd).llm.search("review", ["warm soup", "film"], **asked)
    pd.testing.assert_frame_equal(run.result(60), whole)
    assert str(run).startswith("search: done")


def test_a_cancel_stops_embedding_after_its_batch(tiny_encoder: Model, monkeypatch) -> None:
    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(1))
    embeds, calls = TextEncoder.__call__, []
    third, cancelled = threading.Event(), threading.Event()

    def waiting(self, prompts):
        calls.append(len(prompts))
        if len(calls) == 3:  # the first is the query's
            third.set()
            assert cancelled.wait(30)
        return embeds(self, prompts)

    monkeypatch.setattr(TextEncoder, "__call__", waiting)
    run = frame_of(pd).llm.search(
        "review", "warm soup", how="dense", model=tiny_encoder, background=True
    )
    assert third.wait(30)
    run.cancel()
    cancelled.set()
    # What was embedded is ranked, and in the ledger for the next time.
    found = run.result(30)
    assert len(found) == 2 and calls == [1, 1, 1]
    assert str(run).startswith("search: cancelled")
    # What is in the way is gone; `undo` would take the test's own ledger with it.
    monkeypatch.setattr(TextEncoder, "__call__", embeds)
    whole = frame_of(pd).llm.search("review", "warm soup", how="dense", model=tiny_encoder)
    assert len(whole) == 6 and whole.llm.report().known == 2


def test_a_cancel_stops_the_queries_too(tiny_encoder: Model, monkeypatch) -> None:
    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(1))
    embeds, calls = TextEncoder.__call__, []
    first, cancelled = threading.Event(), threading.Event()

    def waiting(self, prompts):
        calls.append(len(prompts))
        first.set()
        assert cancelled.wait(30)
        return embeds(self, prompts)

    monkeypatch.setattr(TextEncoder, "__call__", waiting)
    run = frame_of(pd).llm.search(
        "review", ["soup", "film", "warm"], how="dense", model=tiny_encoder, background=True
    )
    assert first.wait(30)
    run.cancel()
    cancelled.set()
    assert len(run.result(30)) == 0 and calls == [1]


def test_queries_for_which_memory_runs_out_are_embedded_in_smaller_batches(
    tiny_encoder: Model, monkeypatch
) -> None:
    queries = ["soup", "film", "warm", "cold"]
    expected = frame_of(pd).llm.search("review", queries, how="dense", model=tiny_encoder)
    embeds = TextEncoder.__call__

    def small(self, prompts):
        if len(prompts) > 2:
            raise MemoryError
        return embeds(self, prompts)

    monkeypatch.setattr(TextEncoder, "__call__", small)
    monkeypatch.setattr("nbllm.engine.batching.raise_oom_factor", lambda *_, **__: None)
    found = frame_of(pd).llm.search("review", queries, how="dense", model=tiny_encoder)
    assert list(found["review"]) == list(expected["review"])


@pytest.mark.parametrize("k", [0, 1, 5, 40, 60, 100])
def test_the_best_are_those_of_a_whole_sort(k: int) -> None:
    random = np.random.default_rng(k)
    scores = random.integers(0, 9, 60) / 8  # many are equal
    scores[random.integers(0, 60, 12)] = -np.inf
    order = np.argsort(-scores, kind="stable")
    assert top_rows(scores, k) == [row for row in order.tolist() if scores[row] > -np.inf][:k]

"""Recommendation: items most like one that was liked, and why."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbllm  # registers df.llm
from nbllm.errors import ColumnError, FrameError
from nbllm.frame.tasks.vector import unit_vectors
from nbllm.models.model import Model

PLOTS = {
    "soup": "A cook tries to save a small restaurant.",
    "cake": "Two bakers open a restaurant by the sea.",
    "mars": "Four astronauts are stranded on another planet.",
    "moon": "A crew in space loses contact with the earth.",
    "goal": "A young team trains for the final match.",
    "none": None,
    "race": "An old driver returns to the race track.",
}


def items_of(module):
    data = {"plot": list(PLOTS.values()), "n": range(len(PLOTS))}
    return pl.DataFrame(data) if module is pl else pd.DataFrame(data, index=list(PLOTS))


@pytest.fixture
def unit(tiny_encoder: Model) -> np.ndarray:
    """Vectors of the items with a plot, by `embed`; zeros for the one without."""
    answered = items_of(pd).llm.embed("plot", model=tiny_encoder)["plot_embed"]
    return unit_vectors([np.zeros(64) if vector is None else vector for vector in answered])


@pytest.mark.parametrize("module", [pd, pl])
def test_the_nearest_to_any_liked_item_come_first(module, tiny_encoder: Model, unit) -> None:
    liked = [0, 3]
    history = ["soup", "moon"] if module is pd else liked
    found = items_of(module).llm.recommend("plot", history, k=3, model=tiny_encoder)
    assert list(found.columns) == [
        "plot",
        "n",
        "plot_recommend",
        "plot_recommend_score",
        "plot_recommend_because",
        "plot_recommend_run",
    ]
    near = unit @ unit[liked].T
    others = [n for n in range(len(PLOTS)) if n not in (*liked, 5)]
    order = sorted(others, key=lambda n: -near[n].max())[:3]
    assert found["n"].to_list() == order
    assert found["plot_recommend"].to_list() == [1, 2, 3]
    np.testing.assert_allclose(
        found["plot_recommend_score"].to_list(), near[order].max(axis=1), atol=1e-5
    )
    because = [history[n] for n in near[order].argmax(axis=1)]
    assert found["plot_recommend_because"].to_list() == because
    if module is pd:
        assert list(found.index) == [list(PLOTS)[n] for n in order]
    assert found.llm.report().verb == "embed"


@pytest.mark.parametrize("module", [pd, pl])
def test_a_column_says_what_was_liked(module, tiny_encoder: Model) -> None:
    marks = [True, None, False, True, False, False, None]
    items = items_of(module)
    items = items.assign(liked=marks) if module is pd else items.with_columns(
        pl.Series("liked", marks)
    )  # fmt: skip
    found = items.llm.recommend("plot", "liked", model=tiny_encoder)
    history = ["soup", "moon"] if module is pd else [0, 3]
    named = items.llm.recommend("plot", history, model=tiny_encoder)
    assert found["n"].to_list() == named["n"].to_list()
    once = items.llm.recommend("plot", iter(history), model=tiny_encoder)
    assert once["n"].to_list() == named["n"].to_list()
    for mask in (items["liked"], [bool(mark) for mark in marks], np.array(marks) == np.True_):
        masked = items.llm.recommend("plot", mask, model=tiny_encoder)
        assert masked["n"].to_list() == named["n"].to_list()
    assert sorted(found["n"].to_list()) == [1, 2, 4, 6]


@pytest.mark.parametrize("module", [pd, pl])
def test_many_users_by_a_frame(module, tiny_encoder: Model) -> None:
    labels = list(PLOTS) if module is pd else list(range(len(PLOTS)))
    likes = [("ann", 2), ("bob", 0), ("ann", 3)]
    history = module.DataFrame(
        {"who": [who for who, _ in likes], "what": [labels[n] for _, n in likes]}
    )
    items = items_of(module)
    found = items.llm.recommend("plot", history, k=2, model=tiny_encoder)
    assert found["plot_recommend_user"].to_list() == ["ann", "ann", "bob", "bob"]
    ann = items.llm.recommend("plot", [labels[2], labels[3]], k=2, model=tiny_encoder)
    bob = items.llm.recommend("plot", [labels[0]], k=2, model=tiny_encoder)
    assert found["n"].to_list() == ann["n"].to_list() + bob["n"].to_list()


def test_a_history_without_a_text_recommends_nothing_and_says_so(tiny_encoder: Model) -> None:
    with pytest.warns(UserWarning, match="no item of the history has a vector"):
        found = items_of(pd).llm.recommend("plot", ["none"], model=tiny_encoder)
    assert len(found) == 0
    history = pd.DataFrame({"who": ["ann", "bob"], "what": ["none", "soup"]})
    with pytest.warns(UserWarning, match="the history of 'ann'"):
        found = items_of(pd).llm.recommend("plot", history, k=1, model=tiny_encoder)
    assert found["plot_recommend_user"].tolist() == ["bob"]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (["soup", "sou"], "no item is labelled 'sou'"),
        ([], "the history has no items"),
        ("liked", "history='liked' is no column"),
        ("plot", "is not true or false"),
        ([True, False], "has 2 values that are true or false, and the frame has 7"),
        (pd.Series([True] * 7), "a Series with another index"),
        ([False] * 7, "no item is true in history="),
        ([True, *["soup"] * 6], "history= holds 'soup', which is not true or false"),
        (pd.DataFrame({"who": ["ann"]}), "this one has 1"),
        (pd.DataFrame({"who": [], "what": []}), "the history has no items"),
    ],
)
def test_a_history_that_is_refused(history, message, tiny_encoder: Model) -> None:
    with pytest.raises(FrameError, match=message):
        items_of(pd).llm.recommend("plot", history, model=tiny_encoder)


def test_what_else_is_refused(tiny_encoder: Model) -> None:
    items = items_of(pd)
    with pytest.raises(FrameError, match="k=0"):
        items.llm.recommend("plot", ["soup"], k=0, model=tiny_encoder)
    with pytest.raises(ColumnError, match="Did you mean 'plot'"):
        items.llm.recommend("plott", ["soup"], model=tiny_encoder)
    with pytest.raises(ColumnError, match="already has a column 'n'"):
        items.llm.recommend("plot", ["soup"], into="n", model=tiny_encoder)
    with pytest.raises(FrameError, match="several items are labelled 'soup'"):
        pd.concat([items, items]).llm.recommend("plot", ["soup"], model=tiny_encoder)
    with pytest.raises(FrameError, match="no item is true"):
        items.assign(liked=False).llm.recommend("plot", "liked", model=tiny_encoder)


def test_beside_the_notebook_the_same_is_recommended(tiny_encoder: Model) -> None:
    items = items_of(pd)
    run = items.llm.recommend("plot", ["soup"], model=tiny_encoder, ledger=False, background=True)
    whole = items.llm.recommend("plot", ["soup"], model=tiny_encoder, ledger=False)
    pd.testing.assert_frame_equal(run.result(60), whole)
    assert str(run).startswith("recommend: done") and run.report.verb == "embed"


def test_minilm_recommends_what_is_about_the_same(network_guard) -> None:
    with network_guard.open():
        model = nbllm.load("minilm")
    found = items_of(pd).llm.recommend("plot", ["soup", "mars"], k=2, model=model)
    assert set(found.index) == {"cake", "moon"}
    assert found["plot_recommend_because"].to_dict() == {"cake": "soup", "moon": "mars"}

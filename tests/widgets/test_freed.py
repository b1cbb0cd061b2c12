"""A closed widget is freed, with its recording, its children and its place in the registry."""

from __future__ import annotations

import gc
import importlib
import inspect
import pkgutil
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pandas as pd
import pytest
from ipywidgets import Widget
from ipywidgets.widgets.widget import _instances

import nbllm.widgets
import nbllm.widgets.run.view as run
from nbllm.attention.recording.capture import record
from nbllm.errors import ColumnError, UnsupportedModelError
from nbllm.frame.running.progress import RunMonitor
from nbllm.models.model import Model
from nbllm.widgets.attention.view import AttentionView
from nbllm.widgets.explanation import Explanation
from nbllm.widgets.explorer.view import Explorer
from nbllm.widgets.run.view import RunView
from nbllm.widgets.view import View

TEXT = "The soup was warm."


@pytest.fixture
def answered(tiny_llama: Model) -> pd.DataFrame:
    frame = pd.DataFrame({"review": [TEXT, "Cold, and an hour too late."]})
    return frame.llm.sentiment("review", model=tiny_llama, ledger=False)


Parts = list[Any]  # what has to be freed with the widget


def attention(model: Model, answered: pd.DataFrame) -> tuple[Widget, Parts]:
    first, second = record(model, TEXT), record(model, f"{TEXT} Very.", offload=True)
    view = AttentionView(first, second)
    view._repr_mimebundle_()
    view.comparand = "difference"
    list(view.to_frame()["weight"])
    return view, [first, second, view.handler]


def explorer(model: Model, answered: pd.DataFrame) -> tuple[Widget, Parts]:
    view = answered.llm.explore(model=model)
    view.filtered  # noqa: B018
    earlier = view.explain(0)
    view.panel.start(1).result()
    now = view.explanation
    return view, [earlier, earlier.attention, earlier.recording, now, now.attention, now.recording]


def of_run(model: Model, answered: pd.DataFrame) -> tuple[Widget, Parts]:
    monitor = RunMonitor("classify", "label")
    view = RunView(state=run.state_of(monitor))
    run._end_view(view, monitor)
    assert run._ended_views.pop() is view
    return view, [monitor]


MADE: dict[type[Widget], Callable[[Model, pd.DataFrame], tuple[Widget, Parts]]] = {
    AttentionView: attention,
    Explorer: explorer,
    RunView: of_run,
}


def widget_classes() -> set[type[Widget]]:
    found = set()
    for module in pkgutil.walk_packages(nbllm.widgets.__path__, "nbllm.widgets."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Widget) and kind.__module__.startswith("nbllm."):
                found.add(kind)
    return found - {View}


def test_each_widget_is_made_here_and_closes_what_is_its_own() -> None:
    assert widget_classes() == MADE.keys()
    assert all(issubclass(kind, View) for kind in MADE)


def registered() -> Counter[str]:
    return Counter(type(widget).__name__ for widget in _instances.values())


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_nothing_of_a_closed_widget_stays(
    kind: type[Widget], tiny_llama: Model, answered: pd.DataFrame
) -> None:
    before = registered()
    view, parts = MADE[kind](tiny_llama, answered)
    assert registered() > before
    alive = [weakref.ref(part) for part in (view, *parts)]
    view.close()
    assert registered() == before
    view.close()  # once more does nothing
    del view, parts
    gc.collect()
    assert [ref() for ref in alive if ref() is not None] == []


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_scripts_and_styles_are_text(kind: type[Widget]) -> None:
    """For a path, anywidget would hold each instance through a signal of the file."""
    assert isinstance(kind._esm, str) and "export" in kind._esm
    assert isinstance(kind._css, str) and "{" in kind._css


def test_an_explanation_that_comes_after_the_end_is_dropped(
    tiny_llama: Model, answered: pd.DataFrame
) -> None:
    before = registered()
    begun, go_on = Event(), Event()
    made: list[Explanation] = []

    def explain(row: int) -> Explanation:
        begun.set()
        assert go_on.wait(30)
        made.append(answered.llm.explain(row, model=tiny_llama))
        return made[0]

    view = Explorer(answered, "review_sentiment", explain=explain)
    asked = view.panel.start(0)
    assert begun.wait(30)
    view.close()
    go_on.set()
    asked.result(30)
    assert made and view.explanation is None
    assert registered() == before
    freed = weakref.ref(made.pop().recording)
    gc.collect()
    assert freed() is None


def test_a_closed_view_shows_its_picture_alone(
    tiny_llama: Model, answered: pd.DataFrame, outputs_of: Callable[[Any], list[dict[str, Any]]]
) -> None:
    for view in (nbllm.inspect(tiny_llama, TEXT), answered.llm.explore(model=tiny_llama)):
        still = view._static_html()
        view.close()
        [shown] = outputs_of(view)
        assert shown == {"text/plain": repr(view), "text/html": still}


def test_a_widget_that_could_not_be_made_leaves_nothing(
    tiny_llama: Model, tiny_encoder: Model, answered: pd.DataFrame
) -> None:
    before = registered()
    with pytest.raises(ColumnError):
        answered.llm.explore(truth="no such column")
    with pytest.raises(UnsupportedModelError):
        AttentionView(record(tiny_llama, TEXT), record(tiny_encoder, TEXT))
    gc.collect()
    assert registered() == before


@pytest.fixture(autouse=True)
def closes_what_others_left() -> Iterator[None]:
    """Views of other tests in this process, which garbage collection could take out meanwhile."""
    Widget.close_all()
    gc.collect()
    yield

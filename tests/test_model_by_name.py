"""`model="minilm"` in everything that takes a model: loaded by its name, and only once."""

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pandas as pd
import pytest

import nbllm
import nbllm.attention
from nbllm.accessor import FrameAccessor
from nbllm.errors import ArgumentError, NbllmError
from nbllm.models import loader
from nbllm.models.model import Model
from tests.conftest import tiny_model

FRAME = pd.DataFrame({"text": ["The soup was warm.", "Cold food, slow staff."]})
TEXT = "The soup was warm."


def verb(name: str, *given: Any, **options: Any) -> Callable[..., Any]:
    """A verb on the frame, with what it needs beside a model."""
    return lambda **models: getattr(FRAME.llm, name)(*given, **options, **models)


def answered(name: str, *given: Any) -> Callable[..., Any]:
    """A method on answers of the model named, with what it needs beside it."""

    def call(**models: Any) -> Any:
        frame = FRAME.llm.sentiment("text", model=loader.resolve("tiny-causal"))
        return getattr(frame.llm, name)(*given, **models)

    return call


# What takes a model under the name `model`, and the kind to ask with.
CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "df.llm.sentiment": ("causal", verb("sentiment", "text")),
    "df.llm.classify": ("causal", verb("classify", "text", ["food", "staff"])),
    "df.llm.filter": ("causal", verb("filter", "text", "is about food")),
    "df.llm.summarize": ("causal", verb("summarize", "text", max_words=4)),
    "df.llm.translate": ("causal", verb("translate", "text", max_new_tokens=4)),
    "df.llm.answer": ("causal", verb("answer", "text", question="What?", max_new_tokens=4)),
    "df.llm.prompt": ("causal", verb("prompt", "{text}", into="said", max_new_tokens=4)),
    "df.llm.extract": ("causal", verb("extract", "text", {"n": bool}, max_new_tokens=16)),
    "df.llm.reply": (
        "causal",
        verb("reply", "text", ["Soup is warm."], intents=["food", "staff"], max_new_tokens=4),
    ),
    "df.llm.verify": ("causal", verb("verify", "text", against="text")),
    "df.llm.embed": ("encoder", verb("embed", "text")),
    "df.llm.similarity": ("encoder", verb("similarity", "text", to=TEXT)),
    "df.llm.search": ("encoder", verb("search", "text", "soup")),
    "df.llm.recommend": ("encoder", verb("recommend", "text", [0])),
    "df.llm.preview": ("causal", verb("preview", "sentiment", "text")),
    "df.llm.estimate": ("causal", verb("estimate", "sentiment", "text")),
    "df.llm.explain": ("causal", answered("explain", 0)),
    "df.llm.explore": ("causal", answered("explore")),
    "nbllm.inspect": ("causal", lambda model: nbllm.inspect(model, TEXT)),
    "nbllm.perplexity": ("causal", lambda model: nbllm.perplexity(model, [TEXT])),
    "nbllm.record": ("causal", lambda model: nbllm.record(model, TEXT)),
    "nbllm.attention.record": ("causal", lambda model: nbllm.record(model, TEXT)),
    "nbllm.attention.record_batch": (
        "causal",
        lambda model: nbllm.attention.record_batch(model, [TEXT]),
    ),
    "nbllm.attention.attribute": (
        "causal",
        lambda model: nbllm.attention.attribute(model, TEXT, steps=1),
    ),
    "nbllm.attention.direct_logit_attribution": (
        "causal",
        lambda model: nbllm.attention.direct_logit_attribution(model, TEXT, 5),
    ),
    "nbllm.attention.head_importance": (
        "causal",
        lambda model: nbllm.attention.head_importance(model, TEXT),
    ),
    "nbllm.attention.induction_scores": (
        "causal",
        lambda model: nbllm.attention.induction_scores(model, length=4, sequences=1),
    ),
    "nbllm.attention.logit_lens": ("causal", lambda model: nbllm.attention.logit_lens(model, TEXT)),
}
# Read by name as files, whose weights are loaded anew: a copy is trained, workers load theirs.
BY_FILES = {"nbllm.finetune", "nbllm.answer_folder"}


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, function in inspect.getmembers(FrameAccessor):
        if not name.startswith("_"):
            yield f"df.llm.{name}", function
    for module in (nbllm, nbllm.attention):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                yield f"{module.__name__}.{name}", function


def test_what_takes_a_model_is_in_the_table() -> None:
    taking = {
        name for name, made in public_functions() if "model" in inspect.signature(made).parameters
    }
    assert taking == CALLS.keys() | BY_FILES


def test_no_other_public_name_is_forgotten() -> None:
    """A new module of public functions is looked at here too."""
    found = set()
    for module in pkgutil.iter_modules(nbllm.__path__, "nbllm."):
        if module.ispkg and module.name not in ("nbllm.lab", "nbllm.notebook"):
            names = getattr(import_module(module.name), "__all__", ())
            found |= {
                f"{module.name}.{name}"
                for name in names
                if inspect.isfunction(made := getattr(import_module(module.name), name))
                and "model" in inspect.signature(made).parameters
            }
    assert found <= CALLS.keys() | BY_FILES


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were loaded, each a tiny model of the kind that the name says."""
    names: list[str] = []
    held: list[Model] = []

    def load(name: str, **_: Any) -> Model:
        names.append(name)
        held.append(tiny_model(name.removeprefix("tiny-")))
        return held[-1]

    monkeypatch.setattr(loader, "load", load)
    monkeypatch.setattr(loader, "loaded", lambda: held)
    return names


@pytest.mark.parametrize("name", CALLS)
def test_a_name_is_loaded_once(name: str, loads: list[str]) -> None:
    kind, call = CALLS[name]
    for _ in range(2):
        call(model=f"tiny-{kind}")
    # An explorer asks its model only where a row is explained.
    assert loads == [f"tiny-{kind}"]


def test_an_encoder_beside_the_model_may_be_named_too(loads: list[str]) -> None:
    _, reply = CALLS["df.llm.reply"]
    reply(model="tiny-causal", encoder="tiny-encoder")
    reply(model="tiny-causal", encoder="tiny-encoder")
    assert loads == ["tiny-causal", "tiny-encoder"]


WRONG: list[Any] = [3, float("nan"), [], {}, "", " ", object(), True, b"minilm"]


@pytest.mark.parametrize("name", [*CALLS, "nbllm.finetune", "nbllm.estimate"])
def test_what_is_no_model_is_refused_in_words(name: str, loads: list[str]) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "nbllm.finetune": lambda model: nbllm.finetune(FRAME, text="text", label="t", model=model),
        "nbllm.estimate": lambda model: nbllm.estimate(model),
    }
    call = calls[name] if name in calls else CALLS[name][1]
    for wrong in WRONG:
        with pytest.raises(ArgumentError, match=r"neither a model nor the name of one\. Pass"):
            call(model=wrong)
    # That of the answers, which are there before one of their rows is explained.
    assert set(loads) <= {"tiny-causal"}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_name_is_not_loaded(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"name_or_path=.* is neither a model nor the name"):
        nbllm.load(wrong)


def test_a_model_is_not_loaded_as_a_name() -> None:
    with pytest.raises(NbllmError, match="tiny-causal is a model already"):
        nbllm.load(tiny_model("causal"))  # type: ignore[arg-type]

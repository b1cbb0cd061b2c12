"""What a user writes for an argument of a public function is read, or refused in words."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbllm
import nbllm.attention as att
import nbllm.data
from nbllm.errors import ModelError, NbllmError
from nbllm.models.model import Model
from tests.conftest import tiny_model

TEXT = "The soup was warm."
FRAME = pd.DataFrame({"text": [TEXT, "Cold food."] * 3, "label": ["a"] * 6})
WRONG: list[Any] = [
    None, float("nan"), -1, 0, 2.5, True, "", " ", "no such thing", b"x", [], ["text", "text"],
    [None], {}, object(), pd.Series(["a"], name="text"), np.zeros((2, 2)),
]  # fmt: skip
# Functions of a user's own objects, whose types their signatures say.
OBJECTS = {"recording", "attribution", "frame", "name_or_path", "model"}
# What decides where files lie, or is asked of torch and accelerate as it stands.
OTHERS = {"folder", "resume", "dry_run", "device_map", "adapter", "trust_remote_code", "truncate"}


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("causal")


def calls(model: Model) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Each public function that is cheap to call, with what it needs."""
    recording = nbllm.record(model, TEXT)
    yield "record", nbllm.record, {"model": model, "text": TEXT}
    yield "record_batch", att.record_batch, {"model": model, "texts": [TEXT]}
    yield "perplexity", nbllm.perplexity, {"model": model, "texts": [TEXT]}
    yield "attribute", att.attribute, {"model": model, "text": TEXT, "steps": 1}
    yield (
        "direct_logit_attribution",
        att.direct_logit_attribution,
        {"model": model, "text": TEXT, "token": 5},
    )
    yield "head_importance", att.head_importance, {"model": model, "text": "Soup"}
    yield (
        "induction_scores",
        att.induction_scores,
        {"model": model, "length": 4, "sequences": 1},
    )
    yield "logit_lens", att.logit_lens, {"model": model, "text": TEXT}
    yield "inspect", nbllm.inspect, {"model": model, "text": TEXT}
    for function in (att.attention_rollout, att.head_measures, att.survey):
        yield function.__name__, function, {"recording": recording}
    for function in (att.pooled, att.combined, att.top_edges, att.dimension_scores, att.thumbnails):
        needed = {"layer": 0, "head": 0, "k": 3, "query": 1, "key": 0, "sink": None, "size": 8}
        known = inspect.signature(function).parameters
        given = {name: value for name, value in needed.items() if name in known}
        yield function.__name__, function, {"recording": recording, **given}
    yield "data.load", nbllm.data.load, {"name": "reviews"}
    models = {"a": model, "b": model}
    yield (
        "compare",
        nbllm.compare,
        {**models, "frame": FRAME, "verb": "sentiment", "subject": "text"},
    )
    yield "estimate", nbllm.estimate, {"name_or_path": "smollm2"}
    yield "load", nbllm.load, {"name_or_path": "smollm2"}
    # Their labels are all alike, which is said after the arguments were read.
    yield "finetune", nbllm.finetune, {"frame": FRAME, "text": "text", "label": "label"}
    yield "pretrain", nbllm.pretrain, {"frame": FRAME.iloc[:0], "text": "text"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_function_reads_a_value_or_names_what_is_wrong(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where an offloaded recording finds "no such thing"

    def stop(*_: Any, **__: Any) -> None:
        raise ModelError("Arguments were read before anything is fetched.")

    monkeypatch.setattr("nbllm.models.loader.fetch", stop)
    faults = []
    for name, function, given in calls(model):
        for argument, parameter in inspect.signature(function).parameters.items():
            if argument in OBJECTS | OTHERS or parameter.kind is parameter.VAR_KEYWORD:
                continue
            for value in WRONG:
                if value is None and parameter.default is None:
                    continue
                try:
                    function(**{**given, argument: value})
                except NbllmError as error:
                    if not str(error).rstrip().endswith("."):
                        faults.append(f"{name}({argument}={value!r:.40}): {error}")
                except Exception as error:
                    kind = type(error).__name__
                    faults.append(f"{name}({argument}={value!r:.40}): {kind}: {error}")
    assert not faults, "\n".join(faults)

"""pretrain() from a column to a model that is asked as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import nbllm
from nbllm.errors import ArgumentError, TooLargeError, TrainingError
from nbllm.train.plan import Forecast
from nbllm.train.pretrained import Pretrained

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "hill", "quickly"]


@pytest.fixture(scope="module")
def stories() -> pd.DataFrame:
    """60 texts in which each word follows from the one two before it, which pairs cannot tell."""
    random = np.random.default_rng(0)
    texts = []
    for n in range(60):
        words = [int(x) for x in random.integers(0, 10, size=2)]
        while len(words) < 14:
            words.append((words[-2] * 3 + 1) % 10)
        texts.append(" ".join(WORDS[w] for w in words) + f" {n}")
    return pd.DataFrame({"story": [*texts, None, " "]})


def pretrained(frame: Any, folder: Path, **options: Any) -> Pretrained:
    """A model of two layers, in some seconds."""
    how: dict[str, Any] = {"layers": 2, "heads": 2, "hidden": 32, "vocabulary": 300, "context": 32}
    how |= {"steps": 6, "batch": 4, "learning_rate": 3e-3, "validation": 0.2, "patience": None}
    found = nbllm.pretrain(frame, text="story", folder=folder, **{**how, **options})
    assert isinstance(found, Pretrained)
    return found


def test_it_learns_what_counting_pairs_cannot(stories: pd.DataFrame, tmp_path: Path) -> None:
    found = pretrained(stories, tmp_path / "out", steps=90, learning_rate=1e-2)
    figures = found.metrics
    assert figures["perplexity"] < figures["perplexity, bigram"] < figures["perplexity, unigram"]
    assert "2 without a text" in found.record["rows"]["said"]
    steps = [sample["step"] for sample in found.samples]
    assert steps == sorted(set(steps)) and steps[-1] == found.record["steps"]
    with nbllm.load(tmp_path / "out", dtype="fp32") as model:
        assert model.kind == "causal" and model.context_length == 32
        assert nbllm.record(model, "the cat sat").closure() < 1e-4
        frame = pd.DataFrame({"begin": WORDS[:8]})  # some of which may well end a text
        written = frame.llm.prompt(
            "{begin}", into="more", max_new_tokens=8, model=model, ledger=False
        )
        assert set(" ".join(written["more"].dropna()).split()) & set(WORDS)


def test_its_figures_are_those_of_the_held_out_texts(stories: pd.DataFrame, tmp_path: Path) -> None:
    held = stories.iloc[:8]
    found = pretrained(stories.iloc[8:60], tmp_path / "out", validation=held, steps=2)
    with nbllm.load(tmp_path / "out", dtype="fp32") as model:
        nats: list[float] = []
        for text in held["story"]:
            ids = model.tokenizer(text, return_tensors="pt").input_ids
            assert ids.shape[1] <= 33  # one window
            with torch.inference_mode():
                logp = model.network(input_ids=ids).logits[0].log_softmax(-1)
            nats += (-logp[range(ids.shape[1] - 1), ids[0, 1:]]).tolist()
    # The loaded model is asked in bf16 where the processor has it.
    assert found.metrics["perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=2e-2)


class _Killed(BaseException):
    """As a kill, nothing is tidied up after it."""


def test_a_run_that_was_cut_off_ends_at_the_same_loss(
    stories: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrained(stories, tmp_path / "whole")

    def kill(self: Any, history: Any, step: int) -> None:
        if step == 5:
            raise _Killed

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr("nbllm.train.live.Live.__call__", kill)
        pretrained(stories, tmp_path / "cut")
    again = pretrained(stories, tmp_path / "cut")
    assert again.history == whole.history
    assert again.samples == whole.samples
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_minutes_become_steps_by_a_step_that_was_measured(
    stories: pd.DataFrame, tmp_path: Path
) -> None:
    found = nbllm.pretrain(
        stories, text="story", hidden=32, heads=2, layers=1, context=32, vocabulary=300,
        validation=0.2, minutes=1, folder=tmp_path / "out", dry_run=True,
    )  # fmt: skip
    assert isinstance(found, Forecast) and not (tmp_path / "out").exists()
    validations = found.seconds - 60
    assert found.steps > 20 and -6 < validations < 30


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"hidden": 30, "heads": 4}, TrainingError, "Pass a multiple of 8"),
        ({"layers": 0}, ArgumentError, "layers=0 is no whole number"),
        ({"vocabulary": 50}, TrainingError, "no room for all 256 bytes"),
        ({"context": 4000}, TrainingError, "which fill no block of context=4000"),
        ({"minutes": 1}, TrainingError, "Pass one of them"),
        ({"hidden": 65536, "layers": 100}, TooLargeError, "before a single text is read"),
    ],
)
def test_bad_settings_are_refused(
    options: dict[str, Any],
    error: type[Exception],
    said: str,
    stories: pd.DataFrame,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=said):
        pretrained(stories, tmp_path / "out", **options)

"""finetune() from a frame to a model that answers the verbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import nbllm
from nbllm.activity.jobs import Job, cancel, jobs
from nbllm.errors import (
    ArgumentError,
    ColumnError,
    FrameError,
    LabelError,
    TooLargeError,
    TrainingError,
    UnsupportedModelError,
)
from nbllm.models.kind import Kind
from nbllm.models.model import Model
from nbllm.train.finetuned import Finetuned
from nbllm.train.plan import Forecast
from nbllm.train.recipe import Schedule

Write = Callable[[Kind], Path]


def tuned(frame: Any, **options: Any) -> Finetuned:
    """Fine-tuned in a second or two."""
    how: dict[str, Any] = {"text": "text", "label": "label", "learning_rate": 3e-3, "batch": 8}
    found = nbllm.finetune(frame, **{**how, "epochs": 3, "validation": 0.2, **options})
    assert isinstance(found, Finetuned)
    return found


def test_an_encoder_becomes_a_classifier(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    frame = reviews.copy()
    frame.loc["row 3", "text"] = None
    frame.loc["row 4", "label"] = None
    found = tuned(frame, model=tiny_folder("encoder"), folder=tmp_path / "out", epochs=6)
    assert found.record["rows"]["train"] + found.record["rows"]["held"] == 38
    assert "1 without a text, 1 without an answer" in found.record["rows"]["said"]
    assert found.metrics["held-out loss"] < found.metrics["held-out loss before"]
    assert found.metrics["accuracy"] > found.metrics["accuracy of the commonest label"]
    with nbllm.load(tmp_path / "out", dtype="fp32") as model:
        assert model.kind == "classifier"
        answered = reviews.llm.sentiment("text", model=model, ledger=False)
    assert (answered["text_sentiment"] == answered["label"]).mean() >= 0.8
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_figures_are_those_of_the_rows_held_out(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    held = reviews.sample(16, random_state=0)
    found = tuned(
        reviews.drop(held.index),
        validation=held,
        model=tiny_folder("classifier"),
        folder=tmp_path / "out",
        epochs=1,
    )
    with found.load() as model:
        answers = held.llm.classify("text", model=model, ledger=False)["text_classify"]
    right = answers.to_numpy() == held["label"].to_numpy()
    assert found.metrics["accuracy"] == right.mean()
    positive = (answers == "positive").to_numpy()
    true = (held["label"] == "positive").to_numpy()
    recall = (positive & true).sum() / true.sum()
    assert found.metrics["labels"]["positive"]["recall"] == pytest.approx(recall)


@pytest.mark.parametrize("labels", [None, ["positive", "negative"], ["negative", "positive"]])
def test_a_head_that_is_kept_keeps_the_order_of_its_labels(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, labels: list[str] | None
) -> None:
    base = tiny_folder("classifier")
    config = json.loads((base / "config.json").read_text())
    config["id2label"] = {"0": "positive", "1": "negative"}
    config["label2id"] = {"positive": 0, "negative": 1}
    config["problem_type"] = "multi_label_classification"
    (base / "config.json").write_text(json.dumps(config))
    before = load_file(base / "model.safetensors")["classifier.weight"]
    found = tuned(reviews, model=base, folder=tmp_path / "out", epochs=9, labels=labels)
    assert found.metrics["accuracy"] > 0.6  # in the other order, as much below a half
    after = load_file(tmp_path / "out" / "model.safetensors")["classifier.weight"]
    assert (after - before).norm() < before.norm()  # not a new one
    with found.load() as model:
        assert model.network.config.id2label == {0: "positive", 1: "negative"}
        answered = reviews.llm.sentiment("text", model=model, ledger=False, probabilities=True)
    assert (answered["text_sentiment"] == answered["label"]).mean() >= 0.8
    # One label a text, so that the probabilities are of either.
    chances = answered[["text_sentiment_positive", "text_sentiment_negative"]].sum(axis=1)
    np.testing.assert_allclose(chances, 1, atol=1e-5)


def test_lora_learns_the_prompt_that_the_verb_asks(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    base = tiny_folder("causal")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    found = tuned(reviews, model=base, folder=tmp_path / "out", epochs=9, learning_rate=1e-2)
    assert found.is_adapter and found.record["method"] == "lora"
    assert found.metrics["held-out loss"] < found.metrics["held-out loss before"] / 2
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all("lora_" in name for name in stored)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["licence"] == "apache-2.0"
    assert record["base"]["revision"] == found.record["base"]["revision"]
    assert {"torch", "peft", "transformers"} <= record["versions"].keys()
    assert "license: apache-2.0" in (tmp_path / "out" / "README.md").read_text()
    with nbllm.load(base, adapter=tmp_path / "out") as model:
        answered = reviews.llm.sentiment("text", model=model, ledger=False, probabilities=True)
        # It has learned how often each label is right, so nothing is taken off.
        run = next(iter(answered.attrs["nbllm_runs"].values()))
        assert run["offset"] == [0.0, 0.0]
        # Another question is calibrated as ever.
        other = reviews.llm.classify("text", labels=["warm", "cold"], model=model, ledger=False)
        assert next(iter(other.attrs["nbllm_runs"].values()))["offset"] != [0.0, 0.0]
    assert (answered["text_sentiment"] == answered["label"]).mean() > 0.8


def test_labels_of_any_name_are_classified(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    frame = pl.from_pandas(reviews).with_columns(
        stars=pl.col("label").replace_strict({"positive": 5, "negative": 1})
    )
    base = tiny_folder("causal")
    found = tuned(frame, label="stars", model=base, folder=tmp_path / "out", epochs=1)
    assert found.record["verb"] == "classify"
    assert found.lines()["ask"] == "df.llm.classify('text', labels=['1', '5'], model=model)"
    with found.load() as model:
        answered = frame.llm.classify("text", labels=["1", "5"], model=model, ledger=False)  # type: ignore[attr-defined]
    assert set(answered["text_classify"]) <= {"1", "5"}


def test_answers_are_learned_behind_a_prompt(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    frame = reviews.assign(
        answer=reviews["label"].map({"positive": "warm", "negative": "cold"}), place=7
    )
    found = tuned(
        frame,
        text=None,
        label=None,
        prompt="{text} ({place})",
        answer="answer",
        model=tiny_folder("causal"),
        folder=tmp_path / "out",
        learning_rate=1e-2,
        epochs=10,
        method="full",
        patience=None,
    )
    assert found.record["verb"] == "prompt"
    assert found.metrics["perplexity of answers"] == pytest.approx(
        np.exp(found.metrics["held-out loss"])
    )
    with found.load() as model:
        written = frame.llm.prompt("{text} ({place})", into="said", model=model, ledger=False)
    assert (written["said"] == frame["answer"]).mean() > 0.8


def test_qlora_trains_beside_weights_in_four_bits(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    found = tuned(
        reviews,
        model=tiny_folder("causal"),
        method="qlora",
        folder=tmp_path / "out",
        epochs=2,
        learning_rate=1e-2,
    )
    assert found.record["base"]["quantization"] == "nf4"
    assert found.metrics["held-out loss"] < found.metrics["held-out loss before"]
    with found.load() as model:
        assert model.quantization == "nf4"
        assert model.adapter == str(tmp_path / "out")


def test_a_loaded_model_is_left_as_it_is(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    with nbllm.load(tiny_folder("causal"), dtype="fp32") as model:
        before = {name: p.clone() for name, p in model.network.state_dict().items()}
        tuned(reviews, model=model, method="full", epochs=1, folder=tmp_path / "out")
        after = model.network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert isinstance(model, Model) and not model.network.training


_CHILD = """
import sys, pandas as pd, torch
torch.set_num_threads(1)
import nbllm
nbllm.finetune(
    pd.read_json(sys.argv[1], lines=True), text="text", label="label", model=sys.argv[2],
    folder=sys.argv[3], epochs=12, batch=4, learning_rate=1e-3, validation=0.2, patience=None,
)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums come to the same in this process and in another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.long
def test_a_killed_run_goes_on_to_the_same_result(
    reviews: pd.DataFrame,
    tiny_folder: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
) -> None:
    rows, base = tmp_path / "rows.jsonl", tiny_folder("encoder")
    reviews.to_json(rows, orient="records", lines=True)
    command = [sys.executable, "-c", _CHILD, str(rows), str(base), str(tmp_path / "killed")]
    child = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed" / "checkpoints").glob("*/trainer_state.json")):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "killed" / "training.json").exists()
    decided = json.loads((tmp_path / "killed" / "run.json").read_text())["decided"]
    # How often a run is validated hangs on how fast the machine is, and is kept for a restart.
    monkeypatch.setattr(
        "nbllm.train.plan.schedule", lambda *_, **__: Schedule(**decided["schedule"])
    )
    frame = pd.read_json(rows, lines=True)
    first, second = (
        tuned(
            frame,
            model=base,
            folder=tmp_path / name,
            epochs=12,
            batch=4,
            learning_rate=1e-3,
            patience=None,
        )
        for name in ("killed", "whole")
    )
    assert first.record["steps"] == second.record["steps"] == 96
    assert first.history == second.history
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_interrupt_gives_what_there_is_and_the_same_call_goes_on(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBLLM_ACTIVITY", str(tmp_path / "activity"))
    base = tiny_folder("encoder")

    def interrupt(self: Any, history: Any, step: int) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nbllm.train.live.Live.__call__", interrupt)
        first = tuned(reviews, model=base, folder=tmp_path / "out")
    assert first.record["interrupted"] and first.record["steps"] == 9
    assert first.record["best_step"] in (3, 6)
    first.load().unload()
    again = tuned(reviews, model=base, folder=tmp_path / "out")
    assert not again.record["interrupted"] and again.record["steps"] == 12
    assert again.history[: len(first.history) - 2] == first.history[:-2]
    assert [(job.state, job.answered) for job in jobs()] == [("done", 12), ("interrupted", 9)]


def test_it_is_a_job_that_can_be_cancelled(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(job: Job, answered: int, **counts: Any) -> None:
        whole(job, answered=answered, **counts)
        if answered == 7:
            cancel(job.id)

    whole = Job.update
    monkeypatch.setenv("NBLLM_ACTIVITY", str(tmp_path / "activity"))
    monkeypatch.setattr(Job, "update", update)
    made = tuned(reviews, model=tiny_folder("encoder"), folder=tmp_path / "out")
    assert made.record["interrupted"] and made.record["steps"] == 7
    (job,) = jobs()
    assert (job.verb, job.output, job.state) == ("finetune", "out", "cancelled")
    assert (job.answered, job.texts, job.rows) == (7, 12, 12 * 8)


def test_one_that_fails_is_a_failed_job(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBLLM_ACTIVITY", str(tmp_path / "activity"))
    with pytest.raises(TrainingError, match="not a finite number"):
        tuned(reviews, model=tiny_folder("encoder"), learning_rate=1e30, folder=tmp_path / "out")
    assert [(job.state, "finite" in job.error) for job in jobs()] == [("failed", True)]


def test_two_do_not_train_in_one_folder(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    from filelock import FileLock

    with (
        FileLock(tmp_path / "out.lock"),
        pytest.raises(TrainingError, match="Another process is training"),
    ):
        tuned(reviews, model=tiny_folder("encoder"), folder=tmp_path / "out")


def test_the_same_call_gives_the_result_again_and_another_is_refused(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_folder("encoder")
    first = tuned(reviews, model=base, epochs=1, folder=tmp_path / "out")
    capsys.readouterr()
    again = tuned(reviews, model=base, epochs=1, folder=tmp_path / "out")
    assert "has ended before" in capsys.readouterr().out
    assert again.record == first.record
    with pytest.raises(TrainingError, match="other settings: epochs was 1 and is 2"):
        tuned(reviews, model=base, epochs=2, folder=tmp_path / "out")
    with pytest.raises(TrainingError, match=r"other settings: .*train"):
        tuned(reviews.iloc[:30], model=base, epochs=1, folder=tmp_path / "out")
    with pytest.raises(TrainingError, match="resume=True"):
        tuned(reviews, model=base, epochs=1, folder=tmp_path / "out", resume=False)


def test_a_folder_with_something_else_is_left_alone(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match="something that no training wrote"):
        tuned(reviews, model=tiny_folder("encoder"), folder=tmp_path / "mine")
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_disk_that_refuses_is_explained(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrainingError, match="cannot be written to"):
        tuned(reviews, model=tiny_folder("encoder"), folder=tmp_path / "file" / "out")


def test_a_disk_that_fills_up_loses_nothing(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_folder("encoder")
    full = OSError(28, "No space left on device")

    def refuse(*args: Any, **options: Any) -> None:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr("transformers.Trainer._save_rng_state", refuse)
        with pytest.raises(TrainingError, match=r"No space left on device.*goes on from the last"):
            tuned(reviews, model=base, epochs=1, folder=tmp_path / "out")
    assert tuned(reviews, model=base, epochs=1, folder=tmp_path / "out").record["steps"] == 4


def test_a_dry_run_forecasts_and_writes_nothing(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    found = nbllm.finetune(
        reviews,
        text="text",
        label="label",
        model=tiny_folder("encoder"),
        folder=tmp_path / "out",
        dry_run=True,
    )
    assert isinstance(found, Forecast) and not (tmp_path / "out").exists()
    assert found.gradients == found.weights == found.optimizer / 2
    assert found.activations > 0 and found.seconds > 0


def test_what_does_not_fit_is_refused_before_it_is_read(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbllm.train.base.free_memory", lambda device: 1_000_000)
    monkeypatch.setattr("nbllm.train.base.opened", lambda base: pytest.fail("read"))
    with pytest.raises(TooLargeError, match=r"takes 2 MB before.*method='lora'.*Nothing was read"):
        tuned(reviews, model=tiny_folder("causal"), method="full", folder=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({"label": "positive"}, {}, LabelError, "nothing to tell apart"),
        ({"label": [["positive"]] * 40}, {}, ColumnError, "one label or answer"),
        ({"label": np.arange(40) / 7}, {}, FrameError, "each of 40 labels has one text"),
        ({"text": "the same"}, {}, FrameError, "all 40 rows have the same text"),
        ({}, {"labels": ["positive", "neutral"]}, LabelError, "'negative', which is none of"),
        ({}, {"text": None}, FrameError, "requires text= and label="),
        ({}, {"method": "lora"}, UnsupportedModelError, "for causal models"),
        ({}, {"method": "ppo"}, ArgumentError, "method='ppo' is none of"),
        ({}, {"epochs": 0}, ArgumentError, "epochs=0 is no number above 0"),
        ({}, {"validation": None}, FrameError, "validation=None is no share"),
        ({}, {"max_tokens": 3}, FrameError, "have more tokens than the 3"),
        ({}, {"validation": 1.5}, FrameError, "no share"),
    ],
)
def test_bad_input_is_refused(
    change: dict[str, str],
    options: dict[str, Any],
    error: type[Exception],
    said: str,
    reviews: pd.DataFrame,
    tiny_folder: Write,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=said):
        tuned(
            reviews.assign(**change),
            model=tiny_folder("encoder"),
            folder=tmp_path / "out",
            **options,
        )


def test_a_label_of_one_row_is_told_of(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    frame = pd.concat([reviews, pd.DataFrame({"text": ["so so"], "label": ["neutral"]})])
    with pytest.warns(UserWarning, match="1 of 3 labels have a single row"):
        found = tuned(frame, model=tiny_folder("encoder"), epochs=1, folder=tmp_path / "out")
    assert found.record["labels"] == ["negative", "neutral", "positive"]


def test_held_out_rows_that_are_trained_on_too_are_counted(
    reviews: pd.DataFrame, tiny_folder: Write, tmp_path: Path
) -> None:
    found = tuned(
        reviews,
        validation=reviews.iloc[:8],
        model=tiny_folder("encoder"),
        epochs=1,
        folder=tmp_path / "out",
    )
    assert "8 held-out texts are among those to train on too" in found.record["rows"]["said"]

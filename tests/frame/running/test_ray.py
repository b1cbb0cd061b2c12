"""Workers answer as this process does, also when one of them dies."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import ray
import torch
from filelock import FileLock

import nbllm
from nbllm.errors import FrameError
from nbllm.frame.calls import folder as parquet
from nbllm.frame.calls import registry
from nbllm.frame.calls.folder import answer_folder
from nbllm.frame.running.provenance import find_record, run_ids
from nbllm.frame.running.ray import _Answering, _start, pool_of_workers
from nbllm.models.model import Model
from nbllm.verbs import Verb, text_task

pytestmark = pytest.mark.long

ROWS = 400


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    yield
    ray.shutdown()


@pytest.fixture
def model(tiny_folder: Callable[[str], Path]) -> Model:
    return nbllm.load(tiny_folder("causal"), quantize="none", dtype="fp32")


def frame() -> pd.DataFrame:
    words = ["warm", "cold", "kind", "slow"]
    texts: list[Any] = [f"Visit {n}: it was {words[n % 4]}" + " so" * (n % 7) for n in range(ROWS)]
    texts[3], texts[7], texts[11] = None, texts[8], "too long " * 1000
    return pd.DataFrame({"review": texts, "stars": range(ROWS)})


def dying(died: Path) -> type:
    """A worker; the first of them to answer its second chunk dies."""

    class Dying(_Answering):
        def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
            if hasattr(self, "answered") and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            self.answered = True
            return super().__call__(batch)

    return Dying


def compared(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.columns) == list(expected.columns)
    for name in ("review_sentiment", "review_sentiment_error"):
        assert found[name].fillna("-").tolist() == expected[name].fillna("-").tolist()
    np.testing.assert_allclose(
        found["review_sentiment_score"], expected["review_sentiment_score"], atol=1e-5
    )


def test_where_ray_is_slow_to_start_it_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def init(**options: Any) -> None:
        asked.append(options)
        if len(asked) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    _start(ray)
    assert len(asked) == 2 and asked[0] == asked[1]
    monkeypatch.setattr(ray, "init", lambda **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _start(ray)


@pytest.mark.parametrize(
    ("places", "workers", "there", "size", "gpus", "says"),
    [
        ({}, None, 2, 2, 1, "shares a GPU with the .* that it takes here"),
        ({}, 1, 2, 1, 1, None),
        ({}, None, 1, 1, 1, r"answer without engine='ray'.*unload\(\)"),
        ({"model": "cuda:0", "lm_head": "cuda:1"}, None, 4, 2, 2, "shares a GPU"),
        ({"model": "cuda:1", "lm_head": "disk"}, 1, 4, 1, 2, None),
    ],
)
def test_workers_get_the_gpus_that_the_model_needs(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch,
    places: dict[str, str], workers: int | None, there: int, size: int, gpus: int, says: str | None,
) -> None:  # fmt: skip
    on_gpus(monkeypatch, places, there)
    warned = pytest.warns(UserWarning, match=says) if says else nullcontext()
    with warned, pool_of_workers(workers, tiny_llama) as pool:
        assert (pool.size, pool.gpus) == (size, gpus)


@pytest.mark.parametrize(
    ("places", "workers", "says"),
    [
        ({}, 3, r"3 workers want a GPU each, and Ray has 2\. Pass fewer"),
        ({"model": "cuda:0", "lm_head": "cuda:1"}, 2, "2 workers want 2 GPUs each, and Ray has 2"),
        ({"a": "cuda:0", "b": "cuda:2"}, None, r"1 worker wants 3 GPUs each.*without engine='ray'"),
    ],
)
def test_gpus_that_are_not_there_are_said(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch,
    places: dict[str, str], workers: int | None, says: str,
) -> None:  # fmt: skip
    on_gpus(monkeypatch, places, 2)
    with pytest.raises(FrameError, match=says), pool_of_workers(workers, tiny_llama):
        pass


def on_gpus(monkeypatch: pytest.MonkeyPatch, places: dict[str, str], there: int) -> None:
    """A model on GPUs, and as many of them in Ray, on one machine."""
    monkeypatch.setattr(Model, "device", torch.device("cuda:0"))
    monkeypatch.setattr("nbllm.frame.running.ray.placement", lambda network: places)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8, "GPU": there})
    monkeypatch.setattr(ray, "nodes", lambda: [{}])


@pytest.mark.filterwarnings("ignore:sentiment. 1 of have no answer")
def test_labels_are_the_same_and_those_of_a_dead_worker_are_asked_again(
    model: Model, tmp_path: Path, ledger_path: Path
) -> None:
    died = tmp_path / "died"
    expected = frame().llm.sentiment("review", model=model, ledger=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbllm.frame.running.ray._Answering", dying(died))
        found = frame().llm.sentiment("review", model=model, engine="ray", workers=2)
    assert died.exists(), "a worker died"
    compared(found, expected)
    report = found.llm.report()
    assert (report.computed, report.merged, report.blank, report.failed) == (ROWS - 3, 1, 1, 1)
    answerable = frame().drop(index=11)
    again = answerable.llm.sentiment("review", model=model, engine="ray", workers=2)
    assert again.llm.report().known == ROWS - 3, "the answers are in the ledger of this process"


@pytest.mark.filterwarnings("ignore:sentiment. 1 of have no answer")
def test_a_folder_goes_in_and_a_folder_comes_out(model: Model, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    parts = {"a.parquet": slice(0, 150), "b/c.parquet": slice(150, 399), "empty.parquet": slice(0)}
    for name, rows in parts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        frame()[rows].to_parquet(source / name)
    options = {"model": model, "workers": 1}
    written = answer_folder(source, target, "sentiment", "review", **options)
    assert written == [target / name for name in sorted(parts)]
    expected = frame()[:399].llm.sentiment("review", model=model, ledger=False)
    found = pd.concat([pd.read_parquet(target / name) for name in ("a.parquet", "b/c.parquet")])
    compared(found, expected)
    assert found["stars"].equals(expected["stars"])
    assert not list(target.rglob("*.half"))
    one = pd.read_parquet(target / "a.parquet")
    view = one.llm.explain(0, model=model)
    assert "Visit 0" in view.recording.text
    schemas = [pyarrow.parquet.read_schema(path).remove_metadata() for path in written]
    assert schemas[0] == schemas[1] == schemas[2]

    (target / "a.parquet").unlink()
    assert answer_folder(source, target, "sentiment", "review", **options) == [target / "a.parquet"]
    assert answer_folder(source, target, "sentiment", "review", **options) == []

    # Asked again, an answered file has each column once, and none of the answers before.
    options |= {"keep": ("value", "run"), "into": "review_sentiment", "labels": ["x", "y"]}
    [again, *_] = answer_folder(target, tmp_path / "again", "classify", "review", **options)
    columns = ["review", "stars", "review_sentiment", "review_sentiment_run"]
    assert pyarrow.parquet.read_schema(again).names == columns
    assert pd.read_parquet(again)["stars"].equals(one["stars"])


class _Here:
    """A pool whose one worker is this process."""

    data = SimpleNamespace(from_items=lambda items, **_: items)

    def stream(self, items: Any, worker: type, arguments: Any, **_: Any) -> Iterator[Any]:
        one = worker(*arguments)
        for item in items:
            yield one({name: [value] for name, value in item.items()})


def test_files_are_claimed_fail_alone_and_leave_nothing_behind(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, temporary = (tmp_path / name for name in ("in", "out", "tmp"))
    for folder in (source, target, temporary):
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(parquet, "pool_of_workers", lambda *_: nullcontext(_Here()))
    for name in ("b", "c", "d"):
        frame()[:20].to_parquet(source / f"{name}.parquet")
    (source / "a.parquet").write_bytes(b"PAR1 is how it begins")
    frame()[:5].rename(columns={"review": "text"}).to_parquet(source / "e.parquet")
    (target / ".b.parquet.0badbad0.half").write_bytes(b"of a call that was killed")
    whole = [target / "b.parquet", target / "d.parquet"]

    def ask() -> list[Path]:
        return answer_folder(source, target, "sentiment", "review", model=model, workers=1)

    with FileLock(target / ".c.parquet.lock"), pytest.warns(UserWarning) as said:
        assert ask() == whole
    messages = sorted(str(each.message) for each in said if "file" in str(each.message))
    assert "1 file is left to another call that is at work on them (c.parquet)" in messages[0]
    assert "2 of 5 files were not answered; a.parquet: ArrowInvalid" in messages[1]
    with pytest.warns(UserWarning, match="2 of 3 files were not answered"):
        assert ask() == [target / "c.parquet"]
    assert sorted(target.iterdir()) == [target / f"{name}.parquet" for name in "bcd"]
    assert not list(temporary.glob("nbllm-*"))


def test_what_cannot_be_asked_is_said(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="none of local, ray"):
        frame().llm.sentiment("review", model=model, engine="spark")
    with pytest.raises(FrameError, match="workers=0 is no whole number"):
        frame().llm.sentiment("review", model=model, engine="ray", workers=0)
    source = tmp_path / "in"
    source.mkdir()
    with pytest.raises(FrameError, match="no Parquet file"):
        answer_folder(source, tmp_path / "out", "sentiment", "review", model=model)
    for target in (source, source / "out"):
        with pytest.raises(FrameError, match="which is or lies in the source"):
            answer_folder(source, target, "sentiment", "review", model=model)
    with pytest.raises(FrameError, match="verb='transliterate' is none of"):
        answer_folder(source, tmp_path / "out", "transliterate", "review", model=model)


@dataclass(frozen=True)
class NoOptions:
    """None."""


class Rewrite(Verb[NoOptions]):
    """Rewrite each text."""

    name = "rewrite"
    options = NoOptions
    format = 1

    def task(self, model: Model, subject: str, options: NoOptions) -> Any:
        return text_task(model, self.name, "Rewrite the text.", max_new_tokens=4)


def question_of(frame: pd.DataFrame, column: str) -> str:
    [run] = run_ids(frame, column)
    return str(find_record(run, frame)["question"])


def test_a_verb_of_the_users_own_runs_on_workers_and_over_files(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    nbllm.register_verb(Rewrite())
    some = frame()[:9]
    here = some.llm.rewrite("review", model=model, ledger=False)
    there = some.llm.rewrite("review", model=model, ledger=False, engine="ray", workers=1)
    answers = here["review_rewrite"].fillna("-").tolist()
    assert there["review_rewrite"].fillna("-").tolist() == answers
    (tmp_path / "in").mkdir()
    some.to_parquet(tmp_path / "in" / "a.parquet")
    [file] = answer_folder(
        tmp_path / "in", tmp_path / "out", "rewrite", "review", model=model, workers=1
    )
    answered = pd.read_parquet(file)
    assert answered["review_rewrite"].fillna("-").tolist() == answers
    asked = {question_of(each, "review_rewrite_run") for each in (here, there, answered)}
    assert len(asked) == 1


def test_search_finds_on_workers_what_it_finds_here(
    tiny_folder: Callable[[str], Path],
) -> None:
    encoder = nbllm.load(tiny_folder("encoder"))
    some = frame()[:9]
    asked = {"k": 3, "how": "dense", "model": encoder, "ledger": False}
    here = some.llm.search("review", "kind", **asked)
    there = some.llm.search("review", "kind", engine="ray", workers=1, **asked)
    assert list(there.index) == list(here.index)

"""Data sets by name: what is found where, and what is said when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import nbllm.data
from nbllm.data.catalog import KNOWN, SHIPPED_FOLDER
from nbllm.errors import ArgumentError, DataError


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLLM_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets with a two-split sst2 below it, as NBLLM_DATA."""
    below = tmp_path / "research-only"
    below.mkdir()
    pd.DataFrame(
        {
            "split": ["train"] * 6 + ["validation"] * 4,
            "text": [f"text {row}" for row in range(10)],
            "label": [0, 1] * 5,
        }
    ).to_parquet(below / "sst2.parquet")
    monkeypatch.setenv("NBLLM_DATA", str(tmp_path))
    return tmp_path


def test_shipped_sets_are_clean_and_large_enough() -> None:
    reviews = nbllm.data.load("reviews")
    assert len(reviews) >= 120
    assert reviews["label"].value_counts(normalize=True).between(0.45, 0.55).all()
    assert ((reviews["stars"] > 3) == (reviews["label"] == "positive")).all()

    articles = nbllm.data.load("articles")
    assert len(articles) >= 12
    assert articles["text"].str.split().str.len().between(120, 250).all()
    assert (articles["summary"].str.len() < articles["text"].str.len() / 3).all()

    messages = nbllm.data.load("messages")
    assert len(messages) >= 40
    assert (messages["language"] == "en").all()
    assert messages["label"].value_counts().min() >= 5

    for frame in (reviews, articles, messages):
        assert frame.notna().all(axis=None)
        assert frame["text"].str.strip().eq(frame["text"]).all()
        assert not frame["text"].duplicated().any()


def test_every_shipped_set_has_a_licence() -> None:
    shipped = {path.stem for path in SHIPPED_FOLDER.glob("*.jsonl")}
    assert {"reviews", "articles", "messages", "questions", "sentences", "films"} <= shipped
    assert all(KNOWN[name].licence == "Apache-2.0" for name in shipped)


def test_shipped_questions_have_their_answers_in_their_contexts() -> None:
    for name in ("questions", "questions_zh"):
        frame = nbllm.data.load(name)
        for context, answers in zip(frame["context"], frame["answers"], strict=True):
            assert all(answer in context for answer in answers)
    open_ones = nbllm.data.load("questions")["answers"].str.len().eq(0)
    assert 5 <= open_ones.sum() <= 15


def test_shipped_likes_are_of_shipped_films() -> None:
    films, likes = nbllm.data.load("films"), nbllm.data.load("film_likes")
    assert set(likes["title"]) <= set(films["title"])
    assert not films["title"].duplicated().any()
    assert not likes.duplicated(["user", "title"]).any()


def test_says_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    frame = nbllm.data.load("reviews", rows=10)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [frame.attrs["source"]]
    assert "10 of" in printed[0] and "Apache-2.0" in printed[0]


def test_rows_are_drawn_by_seed_and_keep_order_and_index() -> None:
    whole = nbllm.data.load("reviews")
    first, again = nbllm.data.load("reviews", rows=20), nbllm.data.load("reviews", rows=20)
    other = nbllm.data.load("reviews", rows=20, seed=1)
    pd.testing.assert_frame_equal(first, again)
    assert list(first.index) != list(other.index)
    assert first.index.is_monotonic_increasing
    pd.testing.assert_frame_equal(first, whole.loc[first.index], check_flags=False)
    assert len(nbllm.data.load("reviews", rows=10_000)) == len(whole)


@pytest.mark.parametrize("rows", [0, -3])
def test_rows_below_one_are_refused(rows: int) -> None:
    with pytest.raises(ArgumentError, match=f"rows={rows} is no whole number of 1 or more"):
        nbllm.data.load("reviews", rows=rows)


def test_folder_is_found_below_and_reads_like_the_shipped_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = nbllm.data.load("sst2", split="validation")
    assert list(frame["label"]) == ["negative", "positive"] * 2
    assert {"text", "label"} <= set(frame) & set(nbllm.data.load("reviews"))
    printed = capsys.readouterr().out
    assert "research-only/sst2.parquet in NBLLM_DATA" in printed
    assert "research only" in printed and "Socher" in printed
    assert str(folder) not in printed  # a stored notebook tells nothing of the machine


def test_own_folder_comes_before_shipped_and_upper_before_lower(folder: Path) -> None:
    pd.DataFrame({"text": ["mine"]}).to_parquet(folder / "reviews.parquet")
    pd.DataFrame({"text": ["deeper"]}).to_parquet(folder / "research-only" / "reviews.parquet")
    frame = nbllm.data.load("reviews")
    assert list(frame["text"]) == ["mine"]
    assert "reviews.parquet in NBLLM_DATA" in frame.attrs["source"]


def test_otherwise_stands_in_only_when_needed(folder: Path) -> None:
    assert nbllm.data.load("sst2", otherwise="reviews").attrs["source"].startswith("sst2")
    stand_in = nbllm.data.load("xsum_500", split="test", otherwise="articles", rows=3)
    assert len(stand_in) == 3
    assert stand_in.attrs["source"].startswith("articles: 3 of")


def test_unknown_set_names_the_nearest_and_the_ways() -> None:
    with pytest.raises(DataError) as caught:
        nbllm.data.load("review")
    message = str(caught.value)
    for part in ("'review'", "Did you mean reviews", "articles", "NBLLM_DATA", "hub:owner/name"):
        assert part in message


def test_unknown_split_names_those_there_are(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'test': it has train, validation"):
        nbllm.data.load("sst2", split="test")
    with pytest.raises(DataError, match="it has no splits"):
        nbllm.data.load("reviews", split="test")


def test_missing_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLLM_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="not a folder"):
        nbllm.data.load("reviews")


def test_broken_file_is_said(folder: Path) -> None:
    (folder / "broken.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"broken\.parquet could not be read"):
        nbllm.data.load("broken")


def test_hub_wants_owner_and_name() -> None:
    with pytest.raises(DataError, match="write hub:owner/name"):
        nbllm.data.load("hub:sst2")


def test_hub_without_datasets_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        nbllm.data.load("hub:owner/name")


HUB_SCRIPT = """
import nbllm.data
from nbllm.errors import DataError

whole = nbllm.data.load("hub:owner/name")
assert whole["split"].value_counts().to_dict() == {"train": 3, "test": 2}, whole
test = nbllm.data.load("hub:owner/name", split="test")
assert list(test["text"]) == ["d", "e"], test
assert "owner/name" in test.attrs["source"]
try:
    nbllm.data.load("hub:nobody/nothing")
except DataError as error:
    assert "could not be loaded" in str(error)
else:
    raise AssertionError("a data set that is nowhere was loaded")
"""


def test_hub_stacks_splits(tmp_path: Path) -> None:
    """`datasets` reads a folder of the repository's name just as it reads the repository."""
    repository = tmp_path / "owner" / "name"
    repository.mkdir(parents=True)
    (repository / "train.jsonl").write_text("".join(f'{{"text": "{t}"}}\n' for t in "abc"))
    (repository / "test.jsonl").write_text("".join(f'{{"text": "{t}"}}\n' for t in "de"))
    environment = {
        "PATH": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(nbllm.data.__file__).parents[2]),
    }
    finished = subprocess.run(
        [sys.executable, "-c", HUB_SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_package_is_light() -> None:
    code = "import sys, nbllm.data; sys.exit('pandas' in sys.modules)"
    environment = {"PATH": "", "PYTHONPATH": str(Path(nbllm.data.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0

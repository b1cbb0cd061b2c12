"""Vectors of texts and how alike they are: on a small random encoder, and on MiniLM."""

import base64
import json
import sqlite3

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import nbllm  # registers df.llm
from nbllm.engine.encoding import TextEncoder
from nbllm.errors import (
    ColumnError,
    FrameError,
    ModelError,
    TextTooLongError,
    UnsupportedModelError,
)
from nbllm.frame.retrieval.words import terms
from nbllm.frame.tasks.vector import unit_vectors
from nbllm.models.model import Model

TEXTS = [
    "The soup was warm.",
    None,
    "A quiet film about two brothers.",
    "  ",
    "The soup was warm.",
    "房间很干净。",
]
OTHERS = ["The soup was warm.", "A film.", "Terrible service.", "A film.", None, "The room."]


@pytest.fixture
def forwards(tiny_encoder: Model) -> list[int]:
    """The rows of each forward pass, as they happen."""
    rows: list[int] = []
    TextEncoder(tiny_encoder)  # which tries the network once
    tiny_encoder.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return rows


def frame_of(module):
    data = {"review": TEXTS, "other": OTHERS}
    return pl.DataFrame(data) if module is pl else pd.DataFrame(data, index=list("abcdef"))


def reference(model: Model, text: str) -> np.ndarray:
    """The mean of the tokens' last hidden states, of one text alone."""
    inputs = model.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        hidden = model.network(**inputs).last_hidden_state
    return hidden[0].mean(dim=0).numpy()


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("module", [pd, pl])
def test_embed_adds_a_column_of_vectors(module, tiny_encoder: Model) -> None:
    frame = frame_of(module)
    answered = frame.llm.embed("review", model=tiny_encoder)
    assert list(answered.columns) == [
        "review",
        "other",
        "review_embed",
        "review_embed_error",
        "review_embed_run",
    ]
    vectors = list(answered["review_embed"])
    assert [vector is None for vector in vectors] == [False, True, False, True, False, False]
    for text, vector in zip(TEXTS, vectors, strict=True):
        if vector is not None:
            assert np.asarray(vector).dtype == np.float32
            np.testing.assert_allclose(vector, reference(tiny_encoder, text), atol=1e-5)
    present = answered["review_embed"]
    matrix = np.stack(present.dropna() if module is pd else present.drop_nulls())
    assert matrix.shape == (4, 64) and matrix.dtype == np.float32
    if module is pd:
        pd.testing.assert_index_equal(answered.index, frame.index)
    else:
        assert answered.schema["review_embed"] == pl.List(pl.Float32)


@pytest.mark.parametrize("module", [pd, pl])
def test_vectors_survive_parquet(module, tiny_encoder: Model, tmp_path) -> None:
    answered = frame_of(module).llm.embed("review", model=tiny_encoder)
    file = tmp_path / "answered.parquet"
    if module is pd:
        answered.to_parquet(file)
        again = pd.read_parquet(file)
    else:
        answered.write_parquet(file)
        again = pl.read_parquet(file)
    pairs = list(zip(answered["review_embed"], again["review_embed"], strict=True))
    assert [after is None for _, after in pairs] == [before is None for before, _ in pairs]
    for before, after in pairs:
        if before is not None:
            np.testing.assert_array_equal(after, before)
            assert np.asarray(after).dtype == np.float32
    assert again.llm.report().rows == 6


def test_a_frame_without_a_text_has_no_vector(tiny_encoder: Model) -> None:
    for module in (pd, pl):
        frame = module.DataFrame({"review": ["", " "]})
        answered = frame.llm.embed("review", model=tiny_encoder)
        assert list(answered["review_embed"]) == [None, None]


def test_the_ledger_holds_vectors_as_base64_and_gives_them_back(
    tiny_encoder: Model, forwards, ledger_path
) -> None:
    first = frame_of(pd).llm.embed("review", model=tiny_encoder)
    assert sum(forwards) == 3
    with sqlite3.connect(ledger_path) as ledger:
        answers = [json.loads(text) for (text,) in ledger.execute("select answer from answers")]
    assert {len(base64.b64decode(answer)) for answer in answers} == {64 * 4}
    again = frame_of(pd).llm.embed("review", model=tiny_encoder)
    other = frame_of(pl).llm.embed("review", model=tiny_encoder)
    assert sum(forwards) == 3
    assert again.llm.report().known == other.llm.report().known == 3
    for one, two, three in zip(
        first["review_embed"], again["review_embed"], other["review_embed"], strict=True
    ):
        if one is not None:
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, np.asarray(three))
    again["review_embed"].iloc[0][0] = 7  # a cell may be written to


def test_a_text_that_does_not_fit_is_an_error_of_its_row(tiny_encoder: Model) -> None:
    frame = pd.DataFrame({"review": ["soup " * 400, "A film."]})
    with pytest.warns(UserWarning, match="1 of 2 rows have no answer"):
        answered = frame.llm.embed("review", model=tiny_encoder)
    assert answered["review_embed"][0] is None
    assert "truncate=True" in answered["review_embed_error"][0]
    cut = frame.llm.embed("review", model=tiny_encoder, truncate=True)
    assert cut["review_embed_error"].isna().all()
    assert all(len(vector) == 64 for vector in cut["review_embed"])


def test_a_vector_that_is_not_finite_is_an_error_of_its_row(
    tiny_encoder: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TextEncoder.__call__

    def broken(self, prompts):
        rows = zip(prompts, real(self, prompts), strict=True)
        return [ModelError("not finite") if "film" in prompt.text else row for prompt, row in rows]

    monkeypatch.setattr(TextEncoder, "__call__", broken)
    with pytest.warns(UserWarning, match="not finite"):
        answered = frame_of(pd).llm.embed("review", model=tiny_encoder)
    assert answered["review_embed_error"].tolist()[2] == "not finite"
    with pytest.warns(UserWarning, match="not finite"):
        answered = frame_of(pd).llm.similarity("review", "other", model=tiny_encoder)
    assert answered["review_similarity_error"].tolist()[2] == "not finite"
    assert answered["review_similarity"].notna().tolist() == [True] + [False] * 4 + [True]


def test_without_a_model_the_encoder_loaded_last_is_asked(
    tiny_llama: Model, tiny_encoder: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbllm.frame.calls.models.loaded", lambda: [tiny_encoder, tiny_llama])
    answered = frame_of(pd).llm.embed("review", ledger=False)
    assert answered.llm.report().model["name"] == "tiny-encoder"
    monkeypatch.setattr("nbllm.frame.calls.models.loaded", lambda: [tiny_llama])
    for ask in (
        lambda llm: llm.embed("review"),
        lambda llm: llm.similarity("review", "other"),
        lambda llm: llm.search("review", "soup"),
        lambda llm: llm.recommend("review", ["a"]),
    ):
        with pytest.raises(ModelError, match=r"none is loaded.*model='minilm'"):
            ask(frame_of(pd).llm)


def test_a_model_of_another_kind_is_refused(tiny_llama: Model) -> None:
    with pytest.raises(UnsupportedModelError, match="embed asks a sentence encoder"):
        frame_of(pd).llm.embed("review", model=tiny_llama)
    with pytest.raises(UnsupportedModelError, match="similarity asks a sentence encoder"):
        frame_of(pd).llm.similarity("review", "other", model=tiny_llama)


@pytest.mark.parametrize("module", [pd, pl])
def test_similarity_of_two_columns(module, tiny_encoder: Model) -> None:
    answered = frame_of(module).llm.similarity("review", "other", model=tiny_encoder)
    assert list(answered.columns)[2:] == [
        "review_similarity",
        "review_similarity_error",
        "review_similarity_run",
    ]
    found = answered["review_similarity"].to_list()
    expected = [
        cosine(reference(tiny_encoder, a), reference(tiny_encoder, b))
        if a and a.strip() and b
        else None
        for a, b in zip(TEXTS, OTHERS, strict=True)
    ]
    assert expected[0] == pytest.approx(1.0)
    for value, wanted in zip(found, expected, strict=True):
        if wanted is None:
            assert pd.isna(value)
        else:
            assert value == pytest.approx(wanted, abs=1e-5)


def test_similarity_to_one_text(tiny_encoder: Model, forwards) -> None:
    answered = frame_of(pd).llm.similarity("review", to="A film.", model=tiny_encoder)
    # Three texts, and the fixed one once.
    assert forwards == [4]
    vector = reference(tiny_encoder, "A film.")
    for text, value in zip(TEXTS, answered["review_similarity"], strict=True):
        if text and text.strip():
            wanted = cosine(reference(tiny_encoder, text), vector)
            assert value == pytest.approx(wanted, abs=1e-5)
        else:
            assert pd.isna(value)
    # It is part of the question: another is not answered from the ledger.
    forwards.clear()
    frame_of(pd).llm.similarity("review", to="A film.", model=tiny_encoder)
    assert forwards == []
    frame_of(pd).llm.similarity("review", to="The room.", model=tiny_encoder)
    assert forwards == [4]


def test_similarity_is_told_what_to_compare_with(tiny_encoder: Model) -> None:
    llm = frame_of(pd).llm
    for arguments in ({}, {"other": "other", "to": "A film."}):
        with pytest.raises(FrameError, match="and not both"):
            llm.similarity("review", **arguments, model=tiny_encoder)
    with pytest.raises(FrameError, match="to=' ' says nothing"):
        llm.similarity("review", to=" ", model=tiny_encoder)
    with pytest.raises(ColumnError, match="Did you mean 'other'"):
        llm.similarity("review", "othr", model=tiny_encoder)
    with pytest.raises(TextTooLongError):
        llm.similarity("review", to="soup " * 400, model=tiny_encoder)


def test_unit_vectors_have_length_1_unless_they_are_zero() -> None:
    unit = unit_vectors([[3, 4], [0, 0], np.array([0, -2.0])])
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [0, -1]], atol=1e-7)
    assert unit.dtype == np.float32


def test_minilm_agrees_with_people_better_than_shared_words_do(data_dir, network_guard) -> None:
    from scipy.stats import spearmanr

    frame = pd.read_parquet(data_dir / "research-only" / "stsb_en_zh_de.parquet")
    frame = frame[(frame["lang"] == "en") & (frame["split"] == "test")].sample(400, random_state=0)
    with network_guard.open():
        model = nbllm.load("minilm")
    answered = frame.llm.similarity("sentence1", "sentence2", model=model)

    def shared(row) -> float:
        first, second = set(terms(row["sentence1"])), set(terms(row["sentence2"]))
        return len(first & second) / len(first | second)

    by_meaning = spearmanr(answered["sentence1_similarity"], frame["score"]).statistic
    by_words = spearmanr(frame.apply(shared, axis=1), frame["score"]).statistic
    print(f"\nSTS-B test, 400 pairs: Spearman {by_meaning:.3f} MiniLM, {by_words:.3f} shared words")
    assert by_meaning >= 0.78
    assert by_meaning >= by_words + 0.15

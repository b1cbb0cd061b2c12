"""Rows to learn from: none is lost silently, and none is on both sides."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import ColumnError, FrameError, LabelError
from nbllm.frame.evaluation.truth import right_answers
from nbllm.train.job import choose_labels
from nbllm.train.rows import LearnedRow, digest, hold_out, learned_rows

FRAME = {
    "text": ["one", None, "  ", "two", "three", "four"],
    "label": ["a", "a", "b", None, "b", " a "],
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_rows_without_a_text_or_a_label_are_counted(make: type) -> None:
    rows, counts = learned_rows(make(FRAME), ["text"], "label")
    assert [(row.texts, row.answer) for row in rows] == [
        (("one",), "a"),
        (("three",), "b"),
        (("four",), "a"),
    ]
    assert (counts.rows, counts.used, counts.blank, counts.unanswered) == (6, 3, 2, 1)
    assert str(counts) == "3 of 6 rows (set aside: 2 without a text, 1 without an answer)"


def test_half_a_surrogate_pair_is_no_text() -> None:
    frame = pd.DataFrame({"text": ["fine", "half \ud83d"], "label": ["a", "b"]}, dtype=object)
    rows, counts = learned_rows(frame, ["text"], "label")
    assert [row.texts for row in rows] == [("fine",)] and counts.not_text == 1


def test_labels_of_any_type_are_words() -> None:
    rows, _ = learned_rows(pd.DataFrame({"text": ["x", "y"], "stars": [1, 5]}), ["text"], "stars")
    assert [row.answer for row in rows] == ["1", "5"]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([1, 5, 1], ["1", "5", "1"]),
        ([1, None, 5], ["1", "5"]),  # floats in pandas
        ([1.0, 5.0, 0.5], ["1", "5", "0.5"]),
        ([True, None, False], ["True", "False"]),
        (["pos ", "\tneg\n", "\u200b"], ["pos", "neg"]),
        ([datetime.date(2026, 1, 2), None, None], ["2026-01-02"]),
    ],
)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_label_is_trained_as_evaluate_reads_it(
    make: type, labels: list[Any], read: list[str]
) -> None:
    frame = make({"text": ["x", "y", "z"], "label": labels})
    rows, counts = learned_rows(frame, ["text"], "label")
    assert [row.answer for row in rows] == read and counts.unanswered == 3 - len(read)
    assert [right for right in right_answers(frame, "label") if right is not None] == read
    # Nor does it hang on the other rows.
    assert learned_rows(frame[:1], ["text"], "label")[0] == rows[:1]


@pytest.mark.parametrize(
    "value", [["a", "b"], [], ("a",), {"a": 1}, {"a"}, np.array(["a"]), b"a", pd.Series(["a"])],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_several_labels_in_a_cell_are_refused(value: Any) -> None:
    for cells in ([value, value], ["a", value]):
        labels = pd.Series([None, None], dtype=object)
        labels[:] = cells if isinstance(value, str) else [cells[0], None]
        labels.iat[1] = cells[1]
        frame = pd.DataFrame({"text": ["x", "y"], "label": labels}, dtype=object)
        with pytest.raises(ColumnError, match=r"(?s)'label' holds .* and a row has one label"):
            learned_rows(frame, ["text"], "label")


def test_lists_of_polars_are_refused_too() -> None:
    frame = pl.DataFrame({"text": ["x", "y"], "label": [["a"], ["b", "c"]]})
    with pytest.raises(ColumnError, match="explode"):
        learned_rows(frame, ["text"], "label")


@pytest.mark.parametrize("frame", [{"text": [], "label": []}, {"text": [None], "label": ["a"]}])
def test_no_row_at_all_is_an_error(frame: dict[str, list[str]]) -> None:
    with pytest.raises(FrameError, match="no row can be learned from"):
        learned_rows(pd.DataFrame(frame, dtype=object), ["text"], "label")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ColumnError, match="no column 'texts'"):
        learned_rows(pd.DataFrame(FRAME), ["texts"], "label")


def rows_of(*pairs: tuple[str, str]) -> list[LearnedRow]:
    return [LearnedRow((text,), answer) for text, answer in pairs]


def test_a_text_that_is_there_twice_lies_on_one_side() -> None:
    rows = rows_of(*[(f"text {n % 20}", "ab"[n % 2]) for n in range(60)])
    train, held = hold_out(rows, 0.25, seed=1, by_answer=True)
    assert len(train) + len(held) == 60
    assert {r.texts for r in train}.isdisjoint(r.texts for r in held)


def test_each_label_gives_its_share_and_a_label_of_one_row_stays() -> None:
    rows = rows_of(*[(f"a{n}", "a") for n in range(80)], *[(f"b{n}", "b") for n in range(20)])
    train, held = hold_out([*rows, *rows_of(("c", "c"))], 0.2, seed=0, by_answer=True)
    assert [row.answer for row in held].count("a") == 16
    assert [row.answer for row in held].count("b") == 4
    assert [row.answer for row in train].count("c") == 1


def test_the_split_is_the_seeds() -> None:
    rows = rows_of(*[(f"a{n}", "a") for n in range(50)])
    assert hold_out(rows, 0.2, 0, by_answer=True) == hold_out(rows, 0.2, 0, by_answer=True)
    assert hold_out(rows, 0.2, 0, by_answer=True) != hold_out(rows, 0.2, 1, by_answer=True)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(FrameError, match="no share"):
        hold_out(rows_of(("a", "a"), ("b", "b")), share, 0, by_answer=True)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(FrameError, match="too few"):
        hold_out(rows_of(("a", "a"), ("b", "b")), 0.5, 0, by_answer=True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            rows_of(*[(f"text {n}", str(n / 7)) for n in range(500)]),
            "each of 500 labels has one text",
        ),
        (rows_of(*[("same", "ab"[n % 2]) for n in range(500)]), "all 500 rows have the same text"),
        (rows_of(*[("same", "a") for _ in range(500)]), "all 500 rows have the same text"),
        (rows_of(("one", "a")), "1 row with 1 different text: too few"),
    ],
)
def test_why_no_row_can_be_held_out_is_said(rows: list[LearnedRow], said: str) -> None:
    with pytest.raises(FrameError, match=said):
        hold_out(rows, 0.1, seed=0, by_answer=True)


def test_numbers_of_a_measurement_are_no_classes() -> None:
    measured = rows_of(*[(f"text {n}", str(n % 200 / 7)) for n in range(1000)])
    with pytest.raises(LabelError, match=r"200 different numbers.*pandas\.cut"):
        choose_labels(measured, [], None)
    stars = rows_of(*[(f"text {n}", str(n % 10 / 2)) for n in range(100)])
    assert choose_labels(stars, [], None) == tuple(str(n / 2) for n in range(10))
    numbered = rows_of(*[(f"text {n}", str(n % 77)) for n in range(1000)])
    assert len(choose_labels(numbered, [], None)) == 77


@pytest.mark.parametrize("asked", [["b ", "a"], [" b", "a\n"], np.array(["b", "a"])], ids=str)
def test_labels_that_are_asked_for_are_read_alike(asked: Any) -> None:
    assert choose_labels(rows_of(("x", "a"), ("y", "b")) * 2, [], asked) == ("b", "a")


def test_labels_of_numbers_are_asked_for_by_numbers() -> None:
    rows = rows_of(("x", "1"), ("y", "5"))
    assert choose_labels(rows * 2, [], [5, 1]) == choose_labels(rows, [], [5.0, 1.0]) == ("5", "1")


def test_the_digest_tells_rows_apart() -> None:
    assert digest(rows_of(("a", "b"))) != digest(rows_of(("b", "a")))
    assert digest(rows_of(("a", "b"))) == digest(rows_of(("a", "b")))

"""Rows to texts and back, on pandas and polars."""

import datetime
from collections.abc import Iterator

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import ColumnError, FrameError
from nbllm.frame.columns import RowPositions, read_rows, row_position, row_values
from nbllm.frame.new_columns import refuse_taken, write_columns

MISSING = [None, float("nan"), pd.NA, pd.NaT, "", "  \n\t"]


def test_missing_and_blank_have_nothing_to_ask_and_duplicates_are_one() -> None:
    frame = pd.DataFrame({"t": ["a", *MISSING, "b", "a"]}, dtype=object)
    rows = read_rows(frame, ["t"])
    assert rows.texts == [("a",), ("b",)]
    assert rows.text_indices == [0, *[None] * len(MISSING), 1, 0]
    assert rows.errors == {}


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b", "a", None], dtype="category"),
        pd.Series(["a", "b", "a", None], dtype="string[pyarrow]"),
        pd.Series(["a", "b", "a", None], dtype=object),
        pl.Series(["a", "b", "a", None]),
        pl.Series(["a", "b", "a", None], dtype=pl.Categorical),
    ],
    ids=str,
)
def test_any_kind_of_text_column(column: pd.Series | pl.Series) -> None:
    frame = (pl if isinstance(column, pl.Series) else pd).DataFrame({"t": column})
    rows = read_rows(frame, ["t"])
    assert rows.texts == [("a",), ("b",)]
    assert rows.text_indices == [0, 1, 0, None]


def test_a_value_that_is_no_text_is_its_rows_error() -> None:
    frame = pd.DataFrame({"t": ["a", 3, b"x", ["l"], np.array([1, 2])]}, dtype=object)
    rows = read_rows(frame, ["t"])
    assert rows.texts == [("a",)]
    assert list(rows.errors) == [1, 2, 3, 4]
    assert "int: 3" in rows.errors[1]


@pytest.mark.parametrize("module", [pd, pl])
def test_a_column_of_numbers_is_refused_unless_any_type_will_do(module) -> None:
    frame = module.DataFrame({"price": [1.5, 2.5]})
    with pytest.raises(ColumnError, match=r"'price' is Float64, not text.*astype\(str\)"):
        read_rows(frame, ["price"])
    assert read_rows(frame, ["price"], any_type=True).texts == [("1.5",), ("2.5",)]
    days = module.DataFrame({"day": [datetime.date(2026, 1, 2)]})
    assert read_rows(days, ["day"], any_type=True).texts == [("2026-01-02",)]


@pytest.mark.parametrize("module", [pd, pl])
def test_a_missing_column_is_named_with_its_nearest(module) -> None:
    with pytest.raises(ColumnError, match=r"no column 'reviews'\. Did you mean 'review'"):
        read_rows(module.DataFrame({"review": ["a"], "stars": [1]}), ["reviews"])


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([["a", "b"]], columns=["t", "t"])
    with pytest.raises(ColumnError, match="same name"):
        read_rows(frame, ["t"])


@pytest.mark.parametrize("module", [pd, pl])
def test_a_frame_without_rows(module) -> None:
    frame = module.DataFrame({"t": []})
    assert read_rows(frame, ["t"]).texts == []
    written = write_columns(frame, {"a": ([], nw.String), "r": ([], nw.Categorical)})
    assert list(written.columns) == ["t", "a", "r"] and len(written) == 0


def test_index_order_attrs_and_the_frame_given_are_left_alone() -> None:
    index = pd.MultiIndex.from_tuples([("x", 2), ("x", 1), ("x", 1)])
    frame = pd.DataFrame({"t": ["a", "b", "c"]}, index=index)
    frame.attrs["source"] = "here"
    written = write_columns(frame, {"v": ([1.0, None, 3.0], nw.Float64)})
    pd.testing.assert_index_equal(written.index, index)
    assert written["v"].tolist()[::2] == [1.0, 3.0] and np.isnan(written["v"].iloc[1])
    assert written.attrs == {"source": "here"}
    assert list(frame.columns) == ["t"]


def test_the_users_own_column_is_not_overwritten_but_nbllms_is() -> None:
    frame = pd.DataFrame({"t": ["a"], "v": ["mine"]})
    with pytest.raises(ColumnError, match=r"already has a column 'v'.*into="):
        refuse_taken(frame, ["v", "w"], marker="v_run")
    ours = frame.assign(v_run=["r"])
    refuse_taken(ours, ["v", "w"], marker="v_run")
    assert write_columns(ours, {"v": (["new"], nw.String)})["v"].tolist() == ["new"]


def test_rows_by_label_and_by_position() -> None:
    frame = pd.DataFrame({"t": ["a", "b", "c"]}, index=[7, 8, 8])
    assert row_position(frame, 7) == 0
    assert row_position(frame, None) == 0
    with pytest.raises(FrameError, match=r"no row is labelled 0\. The first is 7"):
        row_position(frame, 0)
    with pytest.raises(FrameError, match="2 rows are labelled 8"):
        row_position(frame, 8)
    assert row_position(pl.DataFrame({"t": ["a", "b"]}), 1) == 1
    with pytest.raises(FrameError, match="no rows"):
        row_position(frame[:0], 7)
    with pytest.raises(FrameError, match="no text in 't'"):
        row_values(pd.DataFrame({"t": [None]}), ["t"], 0)


def test_a_column_that_is_not_called_by_a_string_is_refused() -> None:
    with pytest.raises(ColumnError, match="called 0, which is no string"):
        read_rows(pd.DataFrame({0: ["a"], "b": ["c"]}), [0])


def test_texts_that_arrow_does_not_hold_are_written_in_pandas_and_mended_in_polars() -> None:
    values = ["plain", "half \ud800", None, "é"]
    written = write_columns(pd.DataFrame({"n": range(4)}), {"new": (values, nw.String)})
    assert written["new"].tolist() == values
    mended = write_columns(pl.DataFrame({"n": range(4)}), {"new": (values, nw.String)})
    assert mended["new"].to_list() == ["plain", "half ?", None, "é"]


def test_labels_of_any_type_are_found() -> None:
    frame = pd.DataFrame({"t": ["a"] * 5}, index=[3, "x", 2.5, 3, pd.Timestamp("2026-01-01")])
    positions = RowPositions(frame)
    assert [positions.of(label) for label in ("x", 2.5, pd.Timestamp("2026-01-01"))] == [1, 2, 4]
    with pytest.raises(FrameError, match="2 rows are labelled 3"):
        positions.of(3)
    for odd in ([1], np.zeros(2), float("nan"), "y"):
        with pytest.raises(FrameError, match="no row is labelled"):
            positions.of(odd)


class _Counted(list[int]):
    """An index that counts how often it is looked through."""

    looked = 0

    def __iter__(self) -> Iterator[int]:
        self.looked += 1
        return super().__iter__()


def test_an_index_is_looked_through_once_for_many_labels() -> None:
    positions = RowPositions(pd.DataFrame({"t": range(1000)}))
    positions._index = index = _Counted(range(1000))
    assert [positions.of(n) for n in range(0, 1000, 3)] == list(range(0, 1000, 3))
    assert index.looked <= 2

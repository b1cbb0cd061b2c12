"""The Python half of the results explorer: rows by query, counts, corrections, explanations."""

import json
import re
import threading
from html import unescape
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbllm.errors import ColumnError, FrameError, LabelError, ProvenanceError, SelectionError
from nbllm.widgets.explorer.answers import Answers
from nbllm.widgets.explorer.column import CELL_LENGTH, Column, cell_text
from nbllm.widgets.explorer.filtering import chart_counts, matching_rows
from nbllm.widgets.explorer.query import Query
from nbllm.widgets.explorer.static_html import static_html
from nbllm.widgets.explorer.view import Explorer
from tests.conftest import tiny_model

TEXTS = [
    "A warm and clever film.",
    "Dull, and an hour too long.",
    None,
    "The SOUP was cold; Ärger mit der Rechnung.",
    "<script>alert(1)</script>",
    "We waited. " * 60,
    "Kind staff, fresh soup.",
    "half a surrogate \ud83d here",
]
OUTPUT = "review_sentiment"


@pytest.fixture(scope="module")
def once() -> pd.DataFrame:
    """Eight rows, answered by a tiny model."""
    asked = pd.Series([*TEXTS[:7], "half"], dtype=object)
    frame = pd.DataFrame({"review": asked, "stars": [5, 1, 3, 1, 2, 1, 5, 4]})
    found = frame.llm.sentiment(
        "review", model=tiny_model("causal"), probabilities=True, ledger=False
    )
    found["review"] = pd.Series(TEXTS, dtype=object)
    found["label"] = [
        "positive",
        "negative",
        None,
        "negative",
        "positive",
        " ",
        "positive",
        "positive",
    ]
    found[OUTPUT] = [*"PN", None, *"PN", None, *"PN"]
    found[OUTPUT] = found[OUTPUT].map({"P": "positive", "N": "negative"})
    found[f"{OUTPUT}_score"] = [0.9, 0.8, np.nan, 0.7, 0.6, np.nan, 0.75, 0.51]
    found[f"{OUTPUT}_positive"] = [0.9, 0.2, np.nan, 0.7, 0.4, np.nan, 0.75, 0.49]
    found[f"{OUTPUT}_negative"] = [0.1, 0.8, np.nan, 0.3, 0.6, np.nan, 0.25, 0.51]
    found.loc[5, f"{OUTPUT}_error"] = "no room"
    return found


@pytest.fixture
def answered(once) -> pd.DataFrame:
    """Of those rows one has no text, one failed, and the answers are known."""
    return once.copy()


@pytest.fixture
def view(answered) -> Explorer:
    return answered.llm.explore(truth="label")


def rows(answers: Answers, **query: Any) -> list[int]:
    return matching_rows(answers, Query.parse(query)).tolist()


def asked(view: Explorer, kind: str, **request: Any) -> Any:
    """The answer to a request, through JSON, as the browser gets it."""
    sent: list[Any] = []
    view.send = lambda message, buffers=(): sent.append((message, buffers))
    numbered = {"id": 7, "request": {"kind": kind, **request}}
    view._handle_custom_msg({"requests": [numbered]}, [])
    [(message, buffers)] = sent
    json.dumps(message, allow_nan=False).encode()
    [answer] = message["answers"]
    assert answer["id"] == 7 and answer["buffers"] == len(buffers)
    if answer["error"] is not None:
        return answer
    return json.loads(bytes(buffers[0])) if buffers and kind == "rows" else answer["content"]


def test_the_columns_of_the_run_come_first(answered) -> None:
    found = Answers(answered[["stars", *answered.columns.drop("stars")]], OUTPUT, "label").roles
    assert list(found.items()) == [
        ("review", "text"),
        (OUTPUT, "answer"),
        ("label", "truth"),
        (f"{OUTPUT}_score", "score"),
        (f"{OUTPUT}_error", "error"),
        (f"{OUTPUT}_positive", "probability"),
        (f"{OUTPUT}_negative", "probability"),
        ("stars", "other"),
        (f"{OUTPUT}_run", "run"),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"text": "soup"}, [3, 6]),
        ({"text": "ÄRGER"}, [3]),
        ({"text": ".*"}, []),  # no pattern
        ({"text": "<script>"}, [4]),
        ({"text": "surrogate \ud83d"}, [7]),
        ({"labels": ["negative"]}, [1, 4, 7]),
        ({"labels": ["negative", "positive"]}, [0, 1, 3, 4, 6, 7]),
        ({"truths": ["positive"], "labels": ["negative"]}, [4, 7]),
        ({"score": [0.6, 0.75]}, [3, 4, 6]),
        ({"only": "failed"}, [5]),
        ({"only": "unasked"}, [2]),
        ({"only": "wrong"}, [3, 4, 7]),
        ({"only": "corrected"}, []),
        ({"only": "wrong", "labels": ["positive"], "text": "soup"}, [3]),
        ({"sort": f"{OUTPUT}_score"}, [7, 4, 3, 6, 1, 0, 2, 5]),
        ({"sort": f"{OUTPUT}_score", "descending": True}, [0, 1, 6, 3, 4, 7, 2, 5]),
        ({"sort": "stars"}, [1, 3, 5, 4, 2, 7, 0, 6]),  # equals stay in their order
        ({"sort": OUTPUT}, [1, 4, 7, 0, 3, 6, 2, 5]),
        ({"sort": "review", "only": "wrong"}, [4, 3, 7]),
        ({"descending": True, "only": "wrong"}, [7, 4, 3]),
    ],
    ids=str,
)
def test_rows_of_a_query(answered, query: dict[str, Any], expected: list[int]) -> None:
    assert rows(Answers(answered, OUTPUT, "label"), **query) == expected


def test_filter_and_sort_as_pandas_does_them(tiny_llama) -> None:
    random = np.random.default_rng(0)
    few = pd.DataFrame({"t": ["good soup", "bad soup", "a film"]})
    few = few.llm.sentiment("t", into="s", model=tiny_llama, ledger=False)
    frame = few.iloc[random.integers(3, size=2000)].reset_index(drop=True)
    frame["s_score"] = random.choice([np.nan, *np.linspace(0.5, 1, 17)], 2000)
    frame["when"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(
        random.integers(99, size=2000), "D"
    )
    frame["kind"] = pd.Categorical(random.choice(["a", "b", None], 2000))
    frame["odd"] = random.choice(np.array([1, "x", None, 2.5], dtype=object), 2000)
    answers = Answers(frame, "s")
    for column in ("s_score", "when", "kind", "t"):
        for descending in (False, True):
            expected = frame.sort_values(column, ascending=not descending, kind="stable").index
            assert rows(answers, sort=column, descending=descending) == expected.tolist()
    assert sorted(rows(answers, sort="odd")) == list(range(2000))
    some = frame[frame["t"].str.contains("soup") & frame["s_score"].between(0.6, 0.8)]
    assert rows(answers, text="soup", score=(0.6, 0.8)) == some.index.tolist()


def test_counts_leave_out_their_own_part_of_the_query(answered) -> None:
    answers = Answers(answered, OUTPUT, "label")
    found = chart_counts(answers, Query(labels=("negative",), score=(0.0, 0.65)))
    assert found["labels"]["names"] == ["positive", "negative"]
    assert (found["labels"]["all"], found["labels"]["shown"]) == ([3, 3], [0, 2])
    assert sum(found["scores"]["all"]) == 6 and sum(found["scores"]["shown"]) == 3
    everything = chart_counts(answers, Query())["confusion"]
    assert everything["truths"] == ["positive", "negative"]
    assert everything["counts"] == [[2, 2], [1, 1]]


def test_what_the_rows_do_not_have_is_refused(view) -> None:
    for name, value, said in [
        ("labels", ["glad"], "none of the labels here: positive, negative"),
        ("truths", ["glad"], "none of the truths"),
        ("sort", "starz", "no column 'starz' to sort by"),
        ("score", (0.9, 0.1), "ends before it begins"),
    ]:
        before = getattr(view, name)
        with pytest.raises(SelectionError, match=said):
            setattr(view, name, value)
        assert getattr(view, name) == before
    with pytest.raises(SelectionError, match="explore\\(truth="):
        view.frame.llm.explore().only = "wrong"
    with pytest.raises(SelectionError, match="cannot be selected: no row is labelled 99"):
        view.selected = [99]
    message = asked(view, "rows", query={"sort": "starz"}, start=0, stop=9)
    assert message["error"].startswith("SelectionError: the frame has no column 'starz'")
    assert "error" in asked(view, "row", row=99) and "error" in asked(view, "nonsense", row=1)


def test_what_is_set_in_python_and_in_the_browser_is_one(view, answered) -> None:
    view.only, view.sort = "wrong", f"{OUTPUT}_score"
    assert view.filtered.index.tolist() == [7, 4, 3]
    assert view.filtered.columns.tolist() == answered.columns.tolist()
    assert view.filtered.attrs == answered.attrs != {}
    view.set_state({"text": "soup", "rows": [3, 6]})  # as the browser does
    assert view.filtered.index.tolist() == [3] and view.selected == [3, 6]
    window = asked(view, "rows", query={"text": "soup"}, start=0, stop=64)
    assert window["rows"] == [3, 6] and window["total"] == 2


def test_cells_are_cut_and_the_row_in_focus_is_whole(view) -> None:
    window = asked(view, "rows", query={}, start=0, stop=64)
    names = [column["name"] for column in view.outline["columns"]]
    texts = window["cells"][names.index("review")]
    assert texts[5] == TEXTS[5][:CELL_LENGTH] + "…" and texts[2] is None
    assert texts[7] == "half a surrogate ? here"
    assert (window["failed"][5], window["wrong"][4]) == (True, True)
    whole = asked(view, "row", row=5)
    assert {"name": "review", "role": "text", "text": TEXTS[5]} in whole["texts"]
    assert "no room" in [field["text"] for field in whole["texts"]]
    assert asked(view, "row", row=3)["probabilities"] == [("positive", 0.7), ("negative", 0.3)]


def test_corrections_are_what_calibrate_and_examples_take(view, answered) -> None:
    for row, label in [(3, "negative"), (4, "positive"), (7, "positive"), (4, None)]:
        assert asked(view, "correct", row=row, label=label, turn=row) == {}
    assert view.edits == 4
    found = view.corrections
    assert found[["row", "label", "answer"]].values.tolist() == [
        [3, "negative", "positive"],
        [7, "positive", "negative"],
    ]
    assert found["review"].tolist()[0] == TEXTS[3]
    examples = answered.llm.corrected(found)
    assert examples[OUTPUT].tolist() == ["negative", "positive"]
    pd.testing.assert_frame_equal(view.examples, examples)
    view.only = "corrected"
    assert view.filtered.index.tolist() == [3, 7]
    view.correct(0, "negative")
    assert view.filtered.index.tolist() == [0, 3, 7]
    with pytest.raises(LabelError, match="none of the labels of the run: positive, negative"):
        view.correct(0, "glad")
    assert "LabelError" in asked(view, "correct", row=1, label="glad")["error"]
    many = pd.concat([answered] * 3, ignore_index=True)
    explorer = many.llm.explore()
    for row in range(24):
        explorer._correct(row, "positive" if row % 3 else "negative")
    scaled = many.llm.calibrate(explorer.corrections)
    assert scaled[f"{OUTPUT}_score"].notna().sum() == 18


def test_polars(answered, tiny_llama) -> None:
    texts = [text for text in TEXTS[:7]]
    frame = pl.DataFrame({"review": texts, "n": range(7)})
    found = frame.llm.sentiment("review", model=tiny_llama, probabilities=True)
    view = found.llm.explore(truth=["positive"] * 7, model=tiny_llama)
    assert view.outline["truth"] == "truth" and "truth" not in view.filtered.columns
    view.sort, view.descending = "n", True
    assert view.filtered["n"].to_list() == [6, 5, 4, 3, 2, 1, 0]
    view.selected = [1]
    view.correct(1, "negative")
    assert isinstance(view.corrections, pl.DataFrame)
    assert found.llm.corrected(view.corrections)[OUTPUT].to_list() == ["negative"]
    assert view.examples["review"].to_list() == [texts[1]]
    wrong = [v for v in found[OUTPUT].to_list() if v not in (None, "positive")]
    view.only = "wrong"
    assert len(view.filtered) == len(wrong) > 0


@pytest.mark.parametrize(
    "index",
    [
        pd.MultiIndex.from_product([["a", "b"], [1, 2, 3, 4]], names=["shop", "day"]),
        pd.date_range("2026-01-01", periods=8),
        pd.Index([None, 1.5, "x", 2, 3, 4, 5, 6], dtype=object),
    ],
    ids=["levels", "dates", "mixed"],
)
def test_an_index_of_any_kind(answered, index: pd.Index) -> None:
    frame = answered.set_axis(index)
    view = frame.llm.explore()
    view.selected = [index[4]]
    assert view.rows == [4] and view.selected == [index.tolist()[4]]
    view.correct(index[3], "negative")
    assert frame.llm.corrected(view.corrections).index.tolist() == [index.tolist()[3]]
    assert asked(view, "rows", query={}, start=0, stop=9)["index"][7]
    assert view.filtered.index.equals(index)


def test_labels_of_rows_that_are_there_twice(answered) -> None:
    view = answered.set_axis([0, 0, 1, 1, 2, 2, 3, 3]).llm.explore()
    with pytest.raises(SelectionError, match="2 rows are labelled 1"):
        view.selected = [1]
    view.set_state({"rows": [2, 3]})
    assert view.selected == [1, 1]
    assert asked(view, "correct", row=3, label="negative") == {}
    assert view.corrections["row"].tolist() == [1]


def test_no_rows(answered) -> None:
    view = answered.head(0).llm.explore(truth="label")
    assert asked(view, "rows", query={"sort": "review"}, start=0, stop=9)["total"] == 0
    assert asked(view, "counts", query={"text": "x"}) is not None
    assert len(view.filtered) == 0 and len(view.corrections) == 0
    assert "0 rows" in view._static_html()


def test_frames_that_cannot_be_explored(answered) -> None:
    with pytest.raises(ProvenanceError, match="Use the frame that a verb"):
        answered[["review", "stars"]].llm.explore()
    twice = pd.concat([answered, answered[["stars"]]], axis=1)
    with pytest.raises(ColumnError, match="two columns of the frame have the same name"):
        twice.llm.explore()
    with pytest.raises(ColumnError, match=r"no column 'lable'\. Did you mean 'label'"):
        answered.llm.explore(truth="lable")
    with pytest.raises(FrameError, match="truth has 2 values and the frame 8 rows"):
        answered.llm.explore(truth=["positive", "negative"])


def test_a_run_that_is_not_on_record_can_still_be_looked_at(answered, monkeypatch) -> None:
    lost = answered.copy()
    lost.attrs = {}
    lost[f"{OUTPUT}_run"] = "sentiment-gone"
    view = lost.llm.explore(truth="label")
    assert view.outline["labels"] == ["negative", "positive"] and view.outline["choices"] == []
    view.labels = ["negative"]
    assert view.filtered.index.tolist() == [1, 4, 7]
    view.panel.start(3).result(10)
    assert (
        "ProvenanceError: what is asked of run &#x27;sentiment-gone&#x27; is not on record"
        in view.panel.message.value
    )


def test_answers_that_are_texts(tiny_llama) -> None:
    frame = pd.DataFrame({"review": TEXTS[:2]})
    found = frame.llm.prompt("Why? {review}", into="why", model=tiny_llama, max_new_tokens=3)
    view = found.llm.explore(model=tiny_llama)
    assert view.outline["labels"] == [] and asked(view, "counts", query={}) == {}
    found = found.assign(why=["Because of the PLOT", "no"])
    view = found.llm.explore(model=tiny_llama)
    view.text = "plot"
    assert view.filtered.index.tolist() == [0]
    with pytest.raises(LabelError, match="it wrote its answers"):
        view.correct(0, "yes")


def test_a_row_is_explained_below_the_table(answered, tiny_llama) -> None:
    frame = pd.DataFrame({"review": TEXTS[:3]})
    found = frame.llm.sentiment("review", model=tiny_llama)
    view = found.llm.explore(model=tiny_llama)
    assert asked(view, "explain", row=1, turn=0.5) == {}
    view.panel.run_in_thread(int).result(60)
    label = found[OUTPUT][1]
    assert view.explanation.contrast.label == label
    assert view.panel.box.children == (view.panel.message, view.explanation.attention)
    assert (
        f"Row 1: {label}" in view.panel.message.value
        and "nbllm-explanation" in view.panel.message.value
    )
    first = view.explanation.attention
    assert view.explain(0) is view.explanation and first.comm is None
    assert asked(view, "explain", row=2, turn=1.5) == {}
    view.panel.run_in_thread(int).result(60)
    assert view.explanation is None and view.panel.box.children == (view.panel.message,)
    assert "No explanation. ProvenanceError: this row was not asked" in view.panel.message.value


def test_a_reader_who_goes_on_waits_for_the_last_row_alone(answered) -> None:
    seen: list[int] = []

    def explain(row: int) -> Any:
        seen.append(row)
        raise FrameError("no.")

    view = Explorer(answered, OUTPUT, explain=explain)
    gate = threading.Event()
    view.panel.run_in_thread(lambda: bool(gate.wait(10)))
    for row in (0, 1, 3):
        asked(view, "explain", row=row, turn=row)
    gate.set()
    view.panel.run_in_thread(int).result(10)
    assert seen == [3]


def of_all(answers: Answers) -> str:
    return static_html(answers, Query(), range(len(answers)))


def test_the_still_is_text(answered) -> None:
    shown = of_all(Answers(pd.concat([answered] * 20, ignore_index=True), OUTPUT, "label"))
    assert "<script" not in shown and "&lt;script&gt;alert(1)" in shown
    assert shown.count("<tr>") == 51
    assert "160 rows, 60 positive, 60 negative, 20 failed, 20 not asked, 60 other than" in shown
    assert len(shown) < 40_000


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"only": "wrong"},
        {"only": "failed"},
        {"only": "unasked"},
        {"only": "corrected"},
        {"labels": ["positive"], "sort": f"{OUTPUT}_score"},
        {"truths": ["negative"], "sort": "stars", "descending": True},
        {"score": (0.65, 0.95), "descending": True},
        {"text": "soup", "sort": "review"},
    ],
)
def test_the_still_shows_the_rows_that_the_table_shows(view, query) -> None:
    view.correct(3, "positive")
    for name, value in query.items():
        setattr(view, name, value)
    shown = view._static_html()
    rows = re.findall("<tr><td nowrap>([^<]*)<td", shown)
    assert rows == [str(row) for row in view._rows(view.query)]
    assert ("Only " in shown) == any(name not in ("sort", "descending") for name in query)
    assert (f"Sorted by {query.get('sort')}, " in shown) == ("sort" in query)


def test_the_stills_short_cells_have_one_line_and_its_texts_few(view) -> None:
    [head, *body] = re.findall("<tr>(.*?)(?=<tr>|</table>)", view._static_html(), re.DOTALL)
    names = re.findall("<th[^>]*>([^<]*)", head)
    assert names[:3] == ["", "review", OUTPUT] and f"{OUTPUT}_run" not in names
    for line in body:
        cells = re.findall("<td( nowrap)?>([^<]*)", line)
        for name, (nowrap, cell) in zip(names, cells, strict=True):
            is_text = name in ("review", f"{OUTPUT}_error")
            assert (nowrap == "") == is_text
            assert len(unescape(cell)) <= (121 if is_text else 33)


def test_the_still_leaves_out_a_column_of_errors_that_has_none(answered) -> None:
    fine = answered.assign(**{f"{OUTPUT}_error": None})
    assert f"<th nowrap>{OUTPUT}_error" in of_all(Answers(answered, OUTPUT))
    assert f"<th nowrap>{OUTPUT}_error" not in of_all(Answers(fine, OUTPUT))


def test_what_the_widget_holds_is_small_however_many_rows(answered) -> None:
    many = pd.concat([answered] * 2500, ignore_index=True)
    view = many.llm.explore(truth="label")
    state = {k: v for k, v in view.get_state().items() if not k.startswith("_")}
    assert len(json.dumps(state, default=str)) < 30_000
    data = view._repr_mimebundle_()[0]
    assert len(data["text/html"]) < 40_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((None, None), (0.123456, "0.1235"), (12, "12"), ([1], "[1]")),
        ("x" * 300, "x" * CELL_LENGTH + "…"),
    ],
)
def test_how_a_value_reads(value: Any, shown: str | None) -> None:
    assert cell_text(value) == shown


def test_a_column_of_vectors(answered) -> None:
    frame = pd.DataFrame({"v": [np.ones(3), None, np.zeros(3)]})
    column = Column(nw.from_native(frame, eager_only=True)["v"])
    assert column.cells([0, 1]) == ["[1. 1. 1.]", None]
    assert column.missing.tolist() == [False, True, False]
    assert re.match(r"\[0", column.texts[2].as_py())

"""Two models on the same rows: what is counted, against the verbs themselves and by hand."""

import re

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.stats import binomtest

import nbllm
from nbllm.engine.batching import TokenBudget
from nbllm.engine.perplexity import perplexity
from nbllm.engine.scoring import LabelScorer
from nbllm.errors import (
    ColumnError,
    FrameError,
    LabelError,
    ModelError,
    QuantizationError,
    UnknownModelError,
    UnsupportedModelError,
)
from nbllm.frame.comparison.runs import compare
from nbllm.models.model import Model
from tests.conftest import tiny_model
from tests.frame.stops import interrupted_after

TEXTS = [
    None,
    "  ",
    *(
        f"The {a} {b} was {c}."
        for a in ("warm", "old", "cold")
        for b in ("soup", "room", "<b>film</b>")
        for c in ("kind", "slow", "good")
    ),
]


def frame_of(module, texts=TEXTS):
    truth = [("positive", "negative", None)[n % 3] for n in range(len(texts))]
    columns = {"review": texts, "truth": truth, "n": list(range(len(texts)))}
    if module is pl:
        return pl.DataFrame(columns)
    return pd.DataFrame(columns, index=[f"row {n}" for n in range(len(texts))])


@pytest.fixture
def other() -> Model:
    """The tiny model with its weights moved a little, as quantization would."""
    model = tiny_model("causal")
    model.name, model.revision = "other <model>", "1" * 64
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator) * 0.03)
    return model


def plain(frame, column: str) -> list:
    return nw.from_native(frame, eager_only=True)[column].to_list()


@pytest.mark.parametrize("module", [pd, pl])
def test_both_answer_as_the_verb_does_and_the_frame_stays(
    module, tiny_llama: Model, other: Model
) -> None:
    frame = frame_of(module)
    found = compare(tiny_llama, other, frame, "sentiment", "review")
    assert type(found.rows) is type(frame)
    assert list(found.rows.columns) == [
        *("review", "truth", "n"),
        *("a", "a_score", "a_margin", "a_error", "a_run"),
        *("b", "b_score", "b_margin", "b_error", "b_run"),
    ]
    assert plain(found.rows, "n") == list(range(len(TEXTS)))
    options = {"ledger": False, "probabilities": True}
    for side, model in (("a", tiny_llama), ("b", other)):
        alone = frame.llm.sentiment("review", model=model, **options)
        assert plain(found.rows, side)[2:] == plain(alone, "review_sentiment")[2:]
        chances = [plain(alone, f"review_sentiment_{x}")[2:] for x in ("positive", "negative")]
        margins = np.abs(np.subtract(*chances))
        np.testing.assert_allclose(plain(found.rows, f"{side}_margin")[2:], margins, atol=1e-12)
    if module is pd:
        pd.testing.assert_index_equal(found.rows.index, frame.index)


def test_agreement_and_where_a_is_sure(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review", confidence=0.9)
    rows = found.rows.iloc[2:]
    same = rows["a"] == rows["b"]
    assert 0 < same.mean() < 1, "the two have to differ in some rows, for this to test anything"
    assert found.count == 27
    assert found.agreement.value == same.mean()
    expected = binomtest(int(same.sum()), 27).proportion_ci(0.9, method="wilson")
    assert found.agreement[1:] == pytest.approx((expected.low, expected.high))
    for margin, count, agreement, *_ in found.by_margin.itertuples(index=False):
        sure = rows["a_margin"] > margin
        assert count == sure.sum()
        if count:
            assert agreement == same[sure].mean()
    assert np.isnan(found.agreement_above(1.0)).all()


def test_differences_are_the_rows_that_differ_surest_first(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review", truth="truth")
    rows = found.rows.dropna(subset=["a", "b"])
    differ = rows[rows["a"] != rows["b"]]
    shown = found.differences
    assert list(shown.columns) == [
        *("review", "truth", "a", "a_score", "a_margin", "b", "b_score", "b_margin"),
        *("a_run", "b_run"),
    ]
    assert len(shown) > 1 and set(shown.index) == set(differ.index)
    surprise = shown[["a_margin", "b_margin"]].min(axis=1)
    assert surprise.is_monotonic_decreasing
    in_polars = compare(
        tiny_llama, other, frame_of(pl), "sentiment", "review", truth="truth"
    ).differences
    assert in_polars["review"].to_list() == shown["review"].tolist()


def test_a_row_that_differs_can_be_explained(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review").differences
    view = found.llm.explain(found.index[0], output="b", model=other)
    assert found["review"].iloc[0] in view.recording.text


def test_accuracy_is_of_the_rows_that_have_a_truth(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review", truth="truth")
    rows = found.rows.iloc[2:].dropna(subset="truth")
    right = {side: rows[side] == rows["truth"] for side in "ab"}
    summary = found.summary.set_index(["measure", "of"])
    for side in "ab":
        expected = binomtest(int(right[side].sum()), len(rows)).proportion_ci(method="wilson")
        line = summary.loc[("accuracy", side)]
        assert line["value"] == right[side].mean()
        assert (line["low"], line["high"]) == pytest.approx((expected.low, expected.high))
    change = summary.loc[("accuracy", "b − a")]
    assert change["value"] == pytest.approx(right["b"].mean() - right["a"].mean())
    assert change["low"] < change["value"] < change["high"]
    only = [int((right[x] & ~right[y]).sum()) for x, y in ("ab", "ba")]
    p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
    assert f"McNemar p = {p:.2g}" in str(found)
    assert f"Accuracy is of the {len(rows)} rows that have a truth." in str(found)


def test_labels_of_ones_own_and_their_margin(tiny_llama: Model, other: Model) -> None:
    labels = ["food", "film", "device"]
    found = compare(tiny_llama, other, frame_of(pd), "classify", "review", labels=labels)
    alone = frame_of(pd).llm.classify("review", labels, model=other, probabilities=True)
    chances = alone[[f"review_classify_{label}" for label in labels]].dropna().to_numpy()
    chances.sort(axis=1)
    np.testing.assert_allclose(
        found.rows["b_margin"].dropna(), chances[:, 2] - chances[:, 1], atol=1e-12
    )
    assert set(found.rows["a"].dropna()) <= set(labels)


def test_perplexity_is_that_of_the_distinct_texts(tiny_llama: Model, other: Model) -> None:
    frame = frame_of(pd, [*TEXTS, TEXTS[5]])
    found = compare(tiny_llama, other, frame, "sentiment", "review", perplexity=True, seed=1)
    expected = [perplexity(model, TEXTS[2:]) for model in (tiny_llama, other)]
    summary = found.summary.set_index(["measure", "of"])["value"]
    for side, alone in zip("ab", expected, strict=True):
        assert summary["bits a byte", side] == pytest.approx(alone.bits_per_byte)
        assert summary["perplexity", side] == pytest.approx(alone.value)
    assert summary["bits a byte", "b − a"] == pytest.approx(
        expected[1].bits_per_byte - expected[0].bits_per_byte
    )


def test_what_it_takes(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other.network and other, frame_of(pd), "sentiment", "review")
    summary = found.summary.set_index(["measure", "of"])["value"]
    parameters = sum(p.numel() for p in tiny_llama.network.parameters())
    assert summary["weights", "a"] >= 4 * parameters
    assert summary["rows / s", "a"] == pytest.approx(27 / found.a.seconds)
    assert summary["tokens / s", "b"] == pytest.approx(found.b.report.tokens / found.b.seconds)
    assert summary["rows / s", "b / a"] == pytest.approx(
        summary["rows / s", "b"] / summary["rows / s", "a"]
    )
    assert found.a.cpu_seconds > 0


def test_speed_is_measured_unless_the_ledger_knows_the_answers(
    tiny_llama: Model, other: Model, ledger_path
) -> None:
    compare(tiny_llama, other, frame_of(pd), "sentiment", "review")
    assert not ledger_path.exists()
    options = {"ledger": True}
    first = compare(tiny_llama, other, frame_of(pd).head(12), "sentiment", "review", **options)
    assert "ledger" not in str(first)
    again = compare(tiny_llama, other, frame_of(pd), "sentiment", "review", **options)
    assert "10 texts with a and 10 with b came from the ledger" in str(again)
    assert "of the 17 and 17 computed here" in str(again)
    summary = again.summary.set_index(["measure", "of"])["value"]
    assert summary["rows / s", "a"] == pytest.approx(17 / again.a.seconds)
    known = compare(tiny_llama, other, frame_of(pd), "sentiment", "review", **options)
    assert "rows / s" not in str(known) and "CPU" not in str(known)
    assert known.agreement == again.agreement


def test_a_model_by_name_is_loaded_for_as_long_as_it_is_needed(
    tiny_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbllm.models.in_memory import loaded

    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    folder, in_memory = tiny_folder("causal"), []
    score = LabelScorer.score

    def watched(self: LabelScorer, prompts):
        in_memory.append([m.quantization for m in loaded() if m.name == str(folder)])
        return score(self, prompts)

    monkeypatch.setattr(LabelScorer, "score", watched)
    found = compare(folder, folder, frame_of(pd), "sentiment", "review", quantize=("none", "nf4"))
    assert {tuple(names) for names in in_memory} == {("none",), ("nf4",)}
    assert [m for m in loaded() if m.name == str(folder)] == []
    assert (found.a.model["quantization"], found.b.model["quantization"]) == ("none", "nf4")
    assert found.b.weights < found.a.weights
    with nbllm.load(folder, quantize="nf4", dtype=found.b.model["dtype"]) as model:
        alone = frame_of(pd).llm.sentiment("review", model=model, ledger=False)
    assert list(found.rows["b"].dropna()) == list(alone["review_sentiment"].dropna())


def test_the_same_model_twice_is_said(tiny_llama: Model) -> None:
    with pytest.warns(UserWarning, match=r"a and b are the same model .* quantize=") as caught:
        found = compare(tiny_llama, tiny_model("causal"), frame_of(pd), "sentiment", "review")
    assert caught[0].filename == __file__
    assert found.agreement.value == 1.0 and found.agreement.low < 0.9
    assert len(found.differences) == 0
    assert "0 rows differ." in found._repr_html_()
    assert len(found.plot().data) > 0


def test_texts_are_compared_word_by_word(tiny_llama: Model, other: Model) -> None:
    frame = pd.DataFrame({"thing": ["soup", "room", None], "price": [3.5, 4.0, None]})
    prompt = "A {thing} for {price}?"
    found = compare(tiny_llama, other, frame, "prompt", prompt, max_new_tokens=8)
    alone = frame.llm.prompt(prompt, into="x", model=other, max_new_tokens=8, ledger=False)
    assert list(found.rows["b"].dropna()) == list(alone["x"].dropna())
    assert "similarity" in found.rows and "a_margin" not in found.rows
    assert found.count == 2
    assert "words in common" in str(found) and "margin" not in str(found)
    assert len(found.plot().data) == 1


def test_words_in_common() -> None:
    from nbllm.frame.comparison.runs import _similarity

    assert _similarity("the soup was cold", "the soup was cold") == 1.0
    assert _similarity("the soup", "two films") == 0.0
    # Three of four words on either side, in order: 2·3 / (4 + 4).
    assert _similarity("the soup was cold", "the soup is cold") == 0.75
    assert _similarity("cold soup", "soup cold") == 0.5


def test_a_truth_of_texts_is_the_exact_answer(tiny_llama: Model, other: Model) -> None:
    frame = frame_of(pd).iloc[2:8]
    told = frame.llm.summarize("review", model=other, max_words=3, ledger=False)
    frame = frame.assign(truth=told["review_summarize"])
    options = {"max_words": 3, "truth": "truth"}
    found = compare(tiny_llama, other, frame, "summarize", "review", **options)
    summary = found.summary.set_index(["measure", "of"])["value"]
    assert summary["accuracy", "b"] == 1.0


def test_rows_that_failed_with_one_are_left_out_and_counted(
    tiny_llama: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = LabelScorer.score

    def poisoned(self: LabelScorer, prompts):
        if self.model is other and any("soup was kind" in p.text for p in prompts):
            raise RuntimeError("poisoned")
        return score(self, prompts)

    monkeypatch.setattr(LabelScorer, "score", poisoned)
    with pytest.warns(UserWarning, match=r"3 of 29 rows have no answer") as caught:
        found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review")
    assert caught[0].filename == __file__
    assert found.count == 24 and found.rows["a"].notna().sum() == 27
    assert "Of 29 rows 2 are blank; 0 failed with a, 3 with b." in str(found)
    assert found.rows["b_error"].str.contains("poisoned").sum() == 3


def test_rows_that_all_failed_are_no_comparison(tiny_llama: Model, other: Model) -> None:
    frame = pd.DataFrame({"review": ["kind staff", "word " * 3000, "cold " * 3000]})
    with (
        pytest.warns(UserWarning, match="2 of 3 rows have no answer"),
        pytest.raises(FrameError, match=r"answered 1 of 3 rows.*truncate=True"),
    ):
        compare(tiny_llama, other, frame, "sentiment", "review")
    assert compare(tiny_llama, other, frame, "sentiment", "review", truncate=True).count == 3


def test_what_is_shown_is_escaped_and_complete(tiny_llama: Model, other: Model) -> None:
    found = compare(
        tiny_llama, other, frame_of(pd), "sentiment", "review", truth="truth", perplexity=True
    )
    html = found._repr_html_()
    assert "other &lt;model&gt;" in html and "<model>" not in html and "<b>film" not in html
    assert not re.search(r"<script|https?:|class=", html)
    for measure in found.summary["measure"].unique():
        assert measure in html and measure in str(found)
    assert "where a&#x27;s margin &gt; 0.2" in html
    figure = found.plot()
    assert "<b>" not in str([trace.text for trace in figure.data])
    points = sum(len(trace.x) for trace in figure.data if trace.name)
    assert points == found.rows.iloc[2:]["truth"].notna().sum()


def test_points_below_zero_are_the_rows_that_differ(tiny_llama: Model, other: Model) -> None:
    found = compare(tiny_llama, other, frame_of(pd), "sentiment", "review")
    same, different = (trace for trace in found.plot().data if trace.name)
    assert (same.y >= 0).all() and (different.y <= 0).all()
    assert len(different.y) == len(found.differences)


@pytest.mark.parametrize(
    ("subject", "options", "error", "message"),
    [
        ("reviw", {}, ColumnError, "Did you mean 'review'"),
        ("n", {}, ColumnError, "not text"),
        ("review", {"truth": "nothing"}, ColumnError, "no column 'nothing'"),
        ("review", {"truth": "n"}, LabelError, r"column 'n' holds '0', '1', '10', \.\.\., and"),
        ("review", {"verb": "transliterate"}, FrameError, "verb='transliterate' is none of"),
        ("review", {"verb": "prompt"}, FrameError, "names no column"),
        ("review", {"confidence": 95}, FrameError, "confidence=95 is no probability"),
        ("review", {"quantize": "nf4"}, ModelError, "loaded already, as none"),
        ("review", {"quantize": ("none",)}, ModelError, "one quantization, or one for each"),
        ("review", {"verb": "classify", "labels": ["error", "b"]}, LabelError, "label 'error'"),
        (
            "{review} {n}",
            {"verb": "prompt", "perplexity": True},
            FrameError,
            "reads one column, and the prompt names 2",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    tiny_llama: Model, other: Model, forwards, subject, options, error, message
) -> None:
    with pytest.raises(error, match=message):
        compare(
            tiny_llama, other, frame_of(pd), **{"verb": "sentiment", "subject": subject, **options}
        )
    assert forwards == []


def test_a_model_that_is_not_there_or_cannot_be_so_is_said_first(
    tiny_llama: Model, forwards, tiny_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBLLM_HOME", str(tmp_path / "home"))
    with pytest.raises(UnknownModelError):
        compare(tiny_llama, "no such model", frame_of(pd), "sentiment", "review")
    with pytest.raises(QuantizationError, match="no quantization 'q4'"):
        folder = tiny_folder("causal")
        compare(tiny_llama, folder, frame_of(pd), "sentiment", "review", quantize=("auto", "q4"))
    assert forwards == []


def test_a_model_of_another_kind_is_refused(
    tiny_llama: Model, tiny_encoder: Model, forwards
) -> None:
    with pytest.raises(UnsupportedModelError, match="sentiment asks a causal language model"):
        compare(tiny_llama, tiny_encoder, frame_of(pd), "sentiment", "review")
    assert forwards == []


@pytest.mark.parametrize("module", [pd, pl])
@pytest.mark.parametrize("texts", [[], ["one"], [None, " ", "one"]], ids=["none", "one", "blank"])
def test_fewer_than_two_rows_are_no_comparison(
    module, texts, tiny_llama: Model, other: Model
) -> None:
    with pytest.raises(FrameError, match="fewer than two rows"):
        compare(tiny_llama, other, frame_of(module, texts), "sentiment", "review")


def test_a_column_in_the_way_is_named(tiny_llama: Model, other: Model) -> None:
    with pytest.raises(ColumnError, match="has a column 'b'"):
        compare(tiny_llama, other, frame_of(pd).assign(b=1), "sentiment", "review")


def test_columns_that_are_not_asked_about_are_in_nobodys_way(
    tiny_llama: Model, other: Model
) -> None:
    frame = frame_of(pd).assign(a_positive="kept")
    found = compare(tiny_llama, other, frame, "sentiment", "review")
    assert (found.rows["a_positive"] == "kept").all()


def test_truths_of_other_types(tiny_llama: Model, other: Model) -> None:
    frame = frame_of(pd).assign(
        category=pd.Categorical(["0", "1", None] * 9 + ["1", "0"]),
        number=pd.array([0, 1, None] * 9 + [1, 0], dtype="Int64"),
    )
    options = {"labels": ["0", "1"]}
    found = [
        compare(tiny_llama, other, frame, "classify", "review", truth=column, **options)
        for column in ("category", "number")
    ]
    values = [f.summary[f.summary["measure"] == "accuracy"]["value"].tolist() for f in found]
    assert values[0] == values[1]


@pytest.mark.parametrize("batches", [0, 1])
def test_an_interrupt_ends_it_before_the_other_model_is_asked(
    batches: int, tiny_llama: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(64))
    interrupted_after(batches, KeyboardInterrupt(), monkeypatch)
    asked = []
    other.network.register_forward_hook(lambda *_: asked.append("a pass"))
    with (
        pytest.warns(UserWarning, match="interrupted with"),
        pytest.raises(FrameError, match=r"stopped while .* was asked.*ledger=True"),
    ):
        compare(tiny_llama, other, frame_of(pd), "sentiment", "review")
    assert not asked

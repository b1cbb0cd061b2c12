"""Sentiment by aspect: its columns, its arithmetic, and its accuracy against a constant label."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from nbllm.errors import LabelError, UnsupportedModelError
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS

ASPECTS = ["food", "waiting time", "音乐"]
WITH_TEXT = (0, 1, 3, 4, 6)  # the rows with a text

# Written for this test after the prompt was fixed. + positive, - negative, 0 not mentioned.
JUDGED = {
    ("food", "staff", "atmosphere"): [
        ("The ramen was rich and perfect, though the place is loud and cramped.", "+0-"),
        ("Our waiter smiled all evening and knew every wine.", "0+0"),
        ("My steak came burnt, and the manager only shrugged.", "--0"),
        ("Candles, soft jazz, an open fire: I could have stayed all night.", "00+"),
        ("They are closed on Mondays.", "000"),
        ("Stale bread and a sauce out of a tin.", "-00"),
        ("A lovely old room and fresh oysters.", "+0+"),
        ("The waitress rolled her eyes when we asked for water.", "0-0"),
        ("You have to book two weeks ahead.", "000"),
        ("Kind people, wonderful dumplings.", "++0"),
    ],
    ("keyboard", "speakers", "price"): [
        ("Typing on it is a joy, but the sound is tinny.", "+-0"),
        ("For what it costs, nothing else comes close.", "00+"),
        ("Two keys stuck within a week.", "-00"),
        ("It came with a charger and a manual in six languages.", "000"),
        ("Music sounds full and clear on it, and it was cheaper than I had feared.", "0++"),
        ("Far too expensive for keys this mushy.", "-0-"),
        ("I use it at work and at home.", "000"),
        ("The speakers crackle at any volume.", "0-0"),
    ],
    ("plot", "acting", "music"): [
        ("The story makes no sense, but the lead gives the performance of her life.", "-+0"),
        ("A soundtrack that I have been humming ever since.", "00+"),
        ("Wooden actors in a clever, twisting story.", "+-0"),
        ("It runs for a little over two hours.", "000"),
        ("The score drowns every quiet moment.", "00-"),
        ("Everyone on the screen seems to be reading from a card.", "0-0"),
    ],
}
SIGNS = {"+": "positive", "-": "negative", "0": "none"}


def frame_of(module):
    return module.DataFrame({"review": REVIEWS})


@pytest.mark.parametrize("module", [pd, pl])
def test_one_column_for_each_aspect_and_all_as_json(module, tiny_llama: Model, tmp_path) -> None:
    answered = frame_of(module).llm.sentiment(
        "review", aspects=ASPECTS, model=tiny_llama, probabilities=True
    )
    each = [f"review_sentiment_{name}{end}" for name in ASPECTS for end in ("", "_score")]
    ends = ["review_sentiment_error", "review_sentiment_run"]
    assert list(answered.columns)[:10] == ["review", "review_sentiment", *each, *ends]
    path = tmp_path / "answered.parquet"
    answered.to_parquet(path) if module is pd else answered.write_parquet(path)
    again = pl.read_parquet(path)
    for row in WITH_TEXT:
        labels_found = {name: again[f"review_sentiment_{name}"][row] for name in ASPECTS}
        mentioned = {name: label for name, label in labels_found.items() if label is not None}
        assert json.loads(again["review_sentiment"][row]) == mentioned
        for name in ASPECTS:
            labels = ("positive", "negative", "none")
            chances = {x: again[f"review_sentiment_{name}_{x}"][row] for x in labels}
            assert sum(chances.values()) == pytest.approx(1)
            assert chances[labels_found[name] or "none"] == max(chances.values())
            assert again[f"review_sentiment_{name}_score"][row] == max(chances.values())
    for row in (2, 5):
        assert again["review_sentiment"][row] is None
        assert again["review_sentiment_food_score"][row] is None


def test_no_row_or_aspect_depends_on_its_neighbours(tiny_llama: Model) -> None:
    options = {"model": tiny_llama, "ledger": False}
    whole = frame_of(pd).llm.sentiment("review", aspects=ASPECTS, **options)
    alone = frame_of(pd)[3:4].llm.sentiment("review", aspects=ASPECTS[2:], **options)
    name = "review_sentiment_音乐"
    assert alone[f"{name}_score"][3] == pytest.approx(whole[f"{name}_score"][3], abs=1e-5)
    assert alone.index.tolist() == [3]


def test_the_score_is_bayes_rule_on_likelihoods(tiny_llama: Model) -> None:
    from nbllm.frame.verbs.sentiment import _CALIBRATION

    frame = pd.DataFrame({"review": [REVIEWS[0]]})
    options = {"aspects": ["food"], "model": tiny_llama}
    found = frame.llm.sentiment("review", probabilities=True, **options).iloc[0]
    head = str(pd.DataFrame({"t": ["@"]}).llm.preview("sentiment", "t", **options))
    before, after = head.split("Review: @")

    def likelihood(text: str, statement: str) -> float:
        pieces = [before + "Review:", f" {text}", after, statement]
        ids = tiny_llama.tokenizer(pieces, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([[token for piece in ids for token in piece]])
        with torch.inference_mode():
            logp = tiny_llama.network(whole).logits[0].log_softmax(-1)
        start = whole.shape[1] - len(ids[-1])
        return sum(float(logp[n - 1, whole[0, n]]) for n in range(start, whole.shape[1]))

    ratios = []
    for statement in (" food as good", " food as bad"):
        average = np.mean([np.exp(likelihood(text, statement)) for text in _CALIBRATION])
        ratios.append(0.2 / 0.6 * np.exp(likelihood(REVIEWS[0], statement)) / average)
    expected = np.array([*ratios, 1]) / (sum(ratios) + 1)
    names = [f"review_sentiment_food_{x}" for x in ("positive", "negative", "none")]
    np.testing.assert_allclose(found[names].astype(float), expected, atol=1e-4)


def test_aspects_come_from_the_ledger(tiny_llama: Model, forwards) -> None:
    once = frame_of(pd).llm.sentiment("review", aspects=ASPECTS, model=tiny_llama)
    count = len(forwards)
    again = frame_of(pd).llm.sentiment("review", aspects=ASPECTS, model=tiny_llama)
    pd.testing.assert_frame_equal(once, again)
    assert len(forwards) == count
    # Other aspects, or a prompt with Chinese examples, have entries of their own.
    frame_of(pd).llm.sentiment("review", aspects=ASPECTS[:1], model=tiny_llama)
    assert len(forwards) > count


def test_a_failed_row_has_its_error_and_stops_nothing(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"review": ["Good soup.", "soup " * 2000, 7]}, index=[4, 5, 6])
    with pytest.warns(UserWarning, match="2 of 3 rows have no answer"):
        answered = frame.llm.sentiment("review", aspects=["food"], model=tiny_llama)
    assert answered["review_sentiment"].notna().tolist() == [True, False, False]
    assert answered["review_sentiment_error"].notna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("aspects", "message"),
    [
        ("food", "one string"),
        ([], "aspects is empty"),
        (["food", " "], r"aspect 1 of \['food', ' '\] is empty"),
        (["food", None], r"aspect 1 of aspects= is missing \(None\)"),
        ({"food", "service"}, "aspects is a set"),
        (["food", "food "], "repeated aspects: food"),
        (["food", "error"], "'error' wants the column"),
        (["food", "food_score"], "'food_score' wants the column"),
    ],
)
def test_aspects_that_are_refused(aspects, message, tiny_llama: Model) -> None:
    with pytest.raises(LabelError, match=message):
        frame_of(pd).llm.sentiment("review", aspects=aspects, model=tiny_llama)


@pytest.mark.parametrize("conflicting", [{"neutral": True}, {"examples": [("x", "positive")]}])
def test_options_that_conflict_with_aspects(conflicting, tiny_llama: Model) -> None:
    with pytest.raises(LabelError, match="cannot be combined with"):
        frame_of(pd).llm.sentiment("review", aspects=["food"], model=tiny_llama, **conflicting)


def test_other_models_than_causal_ones_are_refused(
    tiny_classifier: Model, tiny_encoder: Model
) -> None:
    for model in (tiny_classifier, tiny_encoder):
        with pytest.raises(UnsupportedModelError, match="aspects asks a causal language model"):
            frame_of(pd).llm.sentiment("review", aspects=["food"], model=model)


def measured(judged, model: Model) -> tuple[float, float]:
    """Return the macro-F1 over all labels, and the macro-F1 of the best constant label."""
    from sklearn.metrics import f1_score

    truth, found = [], []
    for aspects, texts in judged.items():
        frame = pd.DataFrame(texts, columns=["text", "signs"])
        answered = frame.llm.sentiment("text", aspects=aspects, model=model)
        for n, aspect in enumerate(aspects):
            truth += [SIGNS[signs[n]] for signs in frame["signs"]]
            found += answered[f"text_sentiment_{aspect}"].fillna("none").tolist()
    score = f1_score(truth, found, average="macro")
    baseline = max(
        f1_score(truth, [label] * len(truth), average="macro", zero_division=0)
        for label in set(truth)
    )
    right = np.mean(np.array(truth) == np.array(found))
    most = max(truth.count(label) for label in set(truth)) / len(truth)
    print(
        f"\n{model.name}, {len(truth)} judgements: macro-F1 {score:.3f}, always one label "
        f"{baseline:.3f}; right {right:.3f}, always one label {most:.3f}"
    )
    return score, baseline


def test_aspects_of_real_sentences(smollm2: Model) -> None:
    score, baseline = measured(JUDGED, smollm2)
    assert score > baseline + 0.2


def test_aspects_of_chinese_sentences(gemma: Model) -> None:
    judged = {
        ("菜品", "服务", "环境"): [
            ("鱼很新鲜，服务员也很耐心。", "++0"),
            ("菜太咸了，根本吃不下。", "-00"),
            ("店里又吵又脏。", "00-"),
            ("停车场在后面。", "000"),
            ("装修很有格调，可是服务员爱理不理。", "0-+"),
            ("叫了三次都没人过来。", "0-0"),
            ("烤鸭外脆里嫩，太香了。", "+00"),
            ("需要提前预订。", "000"),
        ]
    }
    score, baseline = measured(judged, gemma)
    assert score > baseline + 0.1

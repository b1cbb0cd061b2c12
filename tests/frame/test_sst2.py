"""What sentiment is worth on real reviews: SST-2 validation, which no prompt was chosen on."""

import numpy as np
import pandas as pd
import pytest

import nbllm
from nbllm.models.model import Model
from tests.conftest import computes_in_bf16

pytestmark = pytest.mark.long

CUTS = 10
LABELS = 200


@pytest.fixture(scope="module")
def sst2(data_dir) -> pd.DataFrame:
    frame = pd.read_parquet(data_dir / "research-only" / "sst2.parquet")
    frame["truth"] = frame["label"].map({0: "negative", 1: "positive"})
    return frame


@pytest.fixture(scope="module")
def reviews(sst2: pd.DataFrame) -> pd.DataFrame:
    return sst2[sst2["split"] == "validation"].reset_index(drop=True)


@pytest.fixture(scope="module")
def answered(reviews: pd.DataFrame, sst2: pd.DataFrame, smollm2: Model) -> pd.DataFrame:
    """Every second review (`make bench` takes all of them), and LABELS to fit on."""
    train = sst2[sst2["split"] == "train"].sample(LABELS, random_state=0)
    both = pd.concat([reviews.iloc[::2], train], ignore_index=True)
    return both.llm.sentiment("text", model=smollm2, probabilities=True, ledger=False)


def cut_to_85_percent_positive(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    positive = frame[frame["truth"] == "positive"]
    count = round(len(positive) * 15 / 85)
    negative = frame[frame["truth"] == "negative"].sample(count, random_state=seed)
    return pd.concat([positive, negative])


def test_accuracy_without_training(answered: pd.DataFrame) -> None:
    report = answered.llm.report()
    answered = answered[answered["split"] == "validation"]
    right = answered["text_sentiment"] == answered["truth"]
    cuts = [right[cut_to_85_percent_positive(answered, seed).index].mean() for seed in range(CUTS)]
    print(f"\nSST-2 validation: {right.mean():.4f}, at 85 % positive: {np.mean(cuts):.4f}")
    print(report)
    assert answered["text_sentiment"].isin(["positive", "negative"]).all()
    chances = answered[["text_sentiment_positive", "text_sentiment_negative"]]
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-9)
    assert right.mean() >= 0.80
    assert np.mean(cuts) >= 0.78


def test_two_hundred_labels_make_the_score_honest(answered: pd.DataFrame) -> None:
    """Fitted on the training split, measured on half of validation."""
    labelled = answered["split"] == "train"
    fitted = answered.llm.calibrate(answered["truth"][labelled])
    measures = [found[~labelled].llm.evaluate("truth").measures for found in (answered, fitted)]
    before, after = (found[2].value.value for found in measures)
    assert measures[0][2].name == "calibration error"
    print(f"\nSST-2, 200 labels: calibration error {before:.3f} before, {after:.3f} after")
    # All of validation: 0.02 to 0.04 for three draws of labels; half of it adds chance.
    assert after <= 0.06 < before


@pytest.mark.parametrize(
    ("dtype", "rows"),
    [
        ("fp32", 60),
        # Emulated it takes twelve minutes, and only int4 is still loaded in it.
        *([("bf16", 200)] if computes_in_bf16() else []),
    ],
)
def test_a_rows_label_is_the_same_alone_in_the_head_and_in_the_whole(
    reviews: pd.DataFrame, dtype: str, rows: int
) -> None:
    options = {"ledger": False, "model": nbllm.load(quantize="none", dtype=dtype)}
    reviews = reviews.head(rows)
    whole = reviews.llm.sentiment("text", **options)
    head = reviews.head(10).llm.sentiment("text", **options)
    assert list(head["text_sentiment"]) == list(whole["text_sentiment"].head(10))
    # The rows nearest to the fence are those that rounding could tip over.
    nearest = whole["text_sentiment_score"].nsmallest(4).index
    alone = [reviews.loc[[row]].llm.sentiment("text", **options) for row in nearest]
    assert list(pd.concat(alone)["text_sentiment"]) == list(whole["text_sentiment"][nearest])

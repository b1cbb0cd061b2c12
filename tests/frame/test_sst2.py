"""What sentiment is worth on real reviews: SST-2 validation, which no prompt was chosen on."""

import numpy as np
import pandas as pd
import pytest

import nbllm
from nbllm.models.model import Model
from tests.conftest import computes_in_bf16

CUTS = 10


@pytest.fixture(scope="module")
def reviews(data_dir) -> pd.DataFrame:
    frame = pd.read_parquet(data_dir / "research-only" / "sst2.parquet")
    frame = frame[frame["split"] == "validation"].reset_index(drop=True)
    frame["truth"] = frame["label"].map({0: "negative", 1: "positive"})
    return frame


def cut_to_85_percent_positive(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    positive = frame[frame["truth"] == "positive"]
    count = round(len(positive) * 15 / 85)
    negative = frame[frame["truth"] == "negative"].sample(count, random_state=seed)
    return pd.concat([positive, negative])


def test_accuracy_without_training(reviews: pd.DataFrame, smollm2: Model) -> None:
    reviews = reviews.iloc[::2]  # `make bench` takes all of them
    answered = reviews.llm.sentiment("text", model=smollm2, probabilities=True)
    right = answered["text_sentiment"] == answered["truth"]
    cuts = [right[cut_to_85_percent_positive(reviews, seed).index].mean() for seed in range(CUTS)]
    print(f"\nSST-2 validation: {right.mean():.4f}, at 85 % positive: {np.mean(cuts):.4f}")
    print(answered.llm.report())
    assert answered["text_sentiment"].isin(["positive", "negative"]).all()
    chances = answered[["text_sentiment_positive", "text_sentiment_negative"]]
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-9)
    assert right.mean() >= 0.80
    assert np.mean(cuts) >= 0.78


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

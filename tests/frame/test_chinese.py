"""Sentiment of Chinese reviews with a small multilingual model, on some of the benchmark's rows."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from nbllm.models.model import Model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS_A_LABEL = 50  # of 250: as many as take a few seconds

# First of all fixtures: without the data, the model is not fetched either.
pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.fixture(scope="module")
def chinese() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import bench_chinese

        yield bench_chinese


@pytest.fixture(scope="module")
def reviews(chinese: ModuleType, data_dir: Path) -> pd.DataFrame:
    frame: pd.DataFrame = chinese.reviews(data_dir).groupby("label").head(ROWS_A_LABEL)
    return frame


@pytest.mark.long
def test_accuracy_without_training(
    reviews: pd.DataFrame, chinese: ModuleType, gemma: Model
) -> None:
    answered = reviews.llm.sentiment("text", model=gemma, examples=chinese.EXAMPLES)
    right = answered["text_sentiment"] == answered["truth"]
    print(f"\nwaimai: {right.mean():.4f}")
    print(answered.llm.report())
    assert (reviews["truth"].value_counts() == ROWS_A_LABEL).all()
    assert right.mean() >= 0.75
    # Neither label lives off the other.
    assert right.groupby(answered["truth"]).mean().min() >= 0.6


def test_the_prompt_begins_with_bos_and_ends_where_the_label_goes(
    chinese: ModuleType, gemma: Model
) -> None:
    frame = pd.DataFrame({"text": ["汤很鲜，料也足。"]})
    shown = str(frame.llm.preview("sentiment", "text", model=gemma, examples=chinese.EXAMPLES))
    example = f"Review: {chinese.EXAMPLES[0][0]}\nSentiment: positive\n\n"
    assert shown.startswith(f"<bos>Tell whether each review is positive or negative.\n\n{example}")
    assert shown.count("<bos>") == 1
    assert shown.endswith("Review: 汤很鲜，料也足。\nSentiment:")

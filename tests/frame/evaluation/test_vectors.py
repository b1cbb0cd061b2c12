"""Vectors by their neighbours, against scikit-learn."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nbllm.errors import FrameError
from nbllm.frame.evaluation.vectors import neighbour_labels
from nbllm.models.model import Model
from tests.frame.evaluation.answered import ROWS, numbered, value_and_baseline


def test_neighbours_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    labels = random.choice(["a", "b", "c"], 200)
    vectors = random.normal(size=(200, 8)) + (labels == "a")[:, None]
    found = neighbour_labels(list(vectors), labels.tolist(), [1, 5])
    for row in range(0, 200, 7):
        others = np.arange(200) != row
        near = KNeighborsClassifier(1, metric="cosine").fit(vectors[others], labels[others])
        assert found[1][row] == near.predict(vectors[[row]])[0]
        five = near.kneighbors(vectors[[row]], 5, return_distance=False)[0]
        given = labels[others][five].tolist()
        assert found[5][row] == max(dict.fromkeys(given), key=given.count)


@pytest.mark.parametrize("module", [pd, pl])
def test_vectors_are_judged_by_their_neighbours(module, tiny_encoder: Model) -> None:
    labels = ["warm" if n % 3 else "cold" for n in range(ROWS)]
    frame = numbered(module, label=labels, own=range(ROWS))
    answered = frame.llm.embed("text", model=tiny_encoder)
    found = answered.llm.evaluate("label")
    assert set(value_and_baseline(found)) == {"label of the nearest", "label of the 5 nearest"}
    assert all(plain == pytest.approx(2 / 3) for _, plain in value_and_baseline(found).values())
    assert found.baseline == "always 'warm'" and found.count == ROWS
    with pytest.raises(FrameError, match="no two rows have the same value"):
        answered.llm.evaluate("own")

"""Labels that do not depend on the batch, where rounding does and where it does not."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from nbllm.engine.prompt import Prompt
from nbllm.frame.tasks.label import _BatchInvariantTask
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS


class Scorer:
    """The likelihoods of two labels; a batch of `rows` or more moves the first's by `noise`."""

    model = SimpleNamespace(dtype=torch.bfloat16)
    prefix = SimpleNamespace(length=0)

    def __init__(self, noise: float, rows: int = 2) -> None:
        self.noise, self.rows = noise, rows
        self.asked_apart: list[int] = []

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        moved = self.noise if len(prompts) >= self.rows else 0.0
        return [[prompt.ids[0] / 100 + moved, 0.5] for prompt in prompts]

    def score_fixed_shape(self, prompts: Sequence[Prompt]) -> list[list[float] | Exception]:
        self.asked_apart = [prompt.ids[0] for prompt in prompts]
        return [[0.0, 1.0] for _ in prompts]


@pytest.mark.parametrize(("noise", "apart"), [(0.0, []), (0.02, [45, 55])])
def test_rows_near_the_fence_are_scored_apart_where_a_batch_moves_them(
    noise: float, apart: list[int]
) -> None:
    scorer, template = Scorer(noise), Any
    asked = _BatchInvariantTask(template, scorer, 100, ())  # type: ignore[arg-type]
    answers = asked([Prompt((n,), "", (), ()) for n in (10, 45, 55, 90)])
    assert scorer.asked_apart == apart
    assert answers[0] == [0.1 + noise, 0.5]
    assert (answers[1] == [0.0, 1.0]) == bool(apart)


def test_a_larger_batch_may_move_rows_that_a_small_one_does_not() -> None:
    scorer = Scorer(0.02, rows=4)
    asked = _BatchInvariantTask(Any, scorer, 100, ())  # type: ignore[arg-type]
    for numbers, apart in (((45, 10), []), ((45, 10, 90, 55), [45, 55]), ((45, 10), [45])):
        asked([Prompt((n,), "", (), ()) for n in numbers])
        assert scorer.asked_apart == apart


def test_a_row_alone_is_scored_apart_where_it_is_not_known_whether_batches_move_it() -> None:
    scorer = Scorer(0.0)
    asked = _BatchInvariantTask(Any, scorer, 100, ())  # type: ignore[arg-type]
    asked([Prompt((45,), "", (), ())])
    assert scorer.asked_apart == [45]


def test_in_bf16_a_row_scores_alone_what_it_scores_among_others(smollm2: Model) -> None:
    frame = pd.DataFrame({"review": [text for text in REVIEWS if text and text.strip()]})
    options = {"model": smollm2, "ledger": False}
    together = frame.llm.sentiment("review", **options)
    alone = [frame.loc[[row]].llm.sentiment("review", **options) for row in frame.index]
    apart = pd.concat(alone)
    assert list(apart["review_sentiment"]) == list(together["review_sentiment"])
    moved = (apart["review_sentiment_score"] - together["review_sentiment_score"]).abs()
    # Sums in another order would move a score by some 0.005.
    known = torch.cpu.get_capabilities()
    exact = known.get("avx512_bf16") and not known.get("amx_bf16")  # where this was seen
    assert moved.max() < (1e-6 if exact else 0.03)

"""Rows of which nothing is known are left out of a filter, each named as what it is."""

from typing import Any

import pandas as pd
import polars as pl
import pytest

from nbllm.engine.batching import TokenBudget
from nbllm.engine.scoring import LabelScorer
from nbllm.frame.calls.registry import find_verb
from nbllm.models.model import Model


def matching(frame: Any) -> Any:
    """The rows of an answered frame that the verb takes."""
    verb = find_verb("filter")
    call = verb.call("t", {"predicate": "is fine"}, {"into": "a", "keep": ("value",)})
    return verb.finish(frame, call)


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 1, 2], None),
        ([0, 3, 4], "1 blank and 1 failed rows of 3"),
        ([0, 3, 5, 6], "2 blank, 0 failed and 1 unreached rows of 4"),
    ],
)
def test_rows_without_an_answer_are_named(library: Any, rows: list[int], said: str | None) -> None:
    cells = [
        ("fine", "yes", None), ("bad", "no", None), ("good", "yes", None), (None, None, None),
        ("long", None, "too long"), ("late", None, None), (" ", None, None),
    ]  # fmt: skip
    text, answer, error = zip(*[cells[row] for row in rows], strict=True)
    columns = {"t": text, "a": answer, "a_score": None, "a_error": error, "a_run": "r"}
    frame = library.DataFrame(columns)
    if said is None:
        found = matching(frame)
    else:
        with pytest.warns(UserWarning, match=said):
            found = matching(frame)
    assert list(found["t"]) == [cells[row][0] for row in rows if cells[row][1] == "yes"]
    assert list(found.columns) == ["t", "a"]


def test_an_interrupted_filter_does_not_call_the_rest_blank(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, read = LabelScorer.__call__, 0

    def interrupted(self: LabelScorer, prompts: list[Any]) -> Any:
        nonlocal read
        if any("row 07" in prompt.text for prompt in prompts):
            raise KeyboardInterrupt
        read += sum("row 0" in prompt.text for prompt in prompts)
        return score(self, prompts)

    monkeypatch.setattr(TokenBudget, "of", lambda *_, **__: TokenBudget(1))
    monkeypatch.setattr(LabelScorer, "__call__", interrupted)
    frame = pd.DataFrame({"t": [*(f"row {n:02}" for n in range(10)), None]})
    with pytest.warns(UserWarning) as warned:
        found = frame.llm.filter("t", "is kind", threshold=0.0, model=tiny_llama, ledger=False)
    assert len(found) == read == 7
    said = [str(warning.message) for warning in warned]
    assert any("1 blank, 0 failed and 3 unreached rows of 11 are left out" in text for text in said)

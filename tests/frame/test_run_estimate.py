"""What is said of a run beforehand is what the run then does."""

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.models.memory import kv_bytes
from nbllm.models.model import Model
from tests.frame.conftest import REVIEWS


@pytest.mark.parametrize("module", [pd, pl])
def test_rows_and_tokens_are_those_of_the_run(
    tiny_llama: Model, module, forwards: list[int]
) -> None:
    frame = module.DataFrame({"review": [*REVIEWS, "word " * 5000]})
    found = frame.llm.estimate("sentiment", "review", model=tiny_llama)
    with pytest.warns(UserWarning, match="1 of 8 rows have no answer"):
        report = frame.llm.sentiment("review", model=tiny_llama).llm.report()
    assert (found.rows, found.blank, found.texts, found.known) == (8, 2, 5, 0)
    assert (found.failing, found.tokens, found.padding) == (1, report.tokens, report.padding)
    assert (found.batches, found.answer_tokens) == (report.forwards, 0)
    assert found.seconds > 0 and found.weights > 0

    again = frame.llm.estimate("sentiment", "review", model=tiny_llama)
    assert (again.known, again.tokens, again.seconds, again.cache) == (4, 0, 0, 0)


def test_answers_are_counted_at_their_longest(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"thing": ["a soup", "a quiet film", "a bus"]})
    asked = {"model": tiny_llama, "max_new_tokens": 12}
    found = frame.llm.estimate("prompt", "Describe {thing}.", **asked)
    answered = frame.llm.prompt("Describe {thing}.", into="said", ledger=False, **asked)
    assert found.answer_tokens == 3 * 12
    assert found.tokens == answered.llm.report().tokens
    longest = max(
        frame.llm.preview("prompt", "Describe {thing}.", row=n, **asked).tokens for n in range(3)
    )
    assert found.cache == 3 * kv_bytes(tiny_llama.network.config, tiny_llama.dtype, longest + 12)
    assert "at most" in str(found) and "up to 36 written" in found._repr_html_()

"""What is said of a run beforehand is what the run then does."""

import pandas as pd
import polars as pl
import pytest

import nbllm  # noqa: F401  registers df.llm
from nbllm.models.memory.budget import kv_bytes
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


def test_every_verb_that_asks_a_row_can_be_estimated(
    tiny_llama: Model, tiny_encoder: Model
) -> None:
    frame = pd.DataFrame({"a": ["a soup", "a film"], "b": ["warm", "long"]})
    asked = [
        ("classify", "a", tiny_llama, {"labels": ["x", "y"], "multi": True}),
        ("sentiment", "a", tiny_llama, {"aspects": ["food"]}),
        ("filter", "a", tiny_llama, {"predicate": "is warm"}),
        ("extract", "a", tiny_llama, {"schema": {"dish": str, "price": float}}),
        ("answer", "a", tiny_llama, {"context_column": "b"}),
        ("translate", "a", tiny_llama, {"to": "German"}),
        ("embed", "a", tiny_encoder, {}),
        ("similarity", "a", tiny_encoder, {"other": "b"}),
        ("similarity", "a", tiny_encoder, {"to": "soup"}),
    ]
    for verb, column, model, options in asked:
        found = frame.llm.estimate(verb, column, model=model, **options)
        answered = getattr(frame.llm, verb)(column, model=model, **options)
        # `filter` gives back the rows that it takes, which here may be none.
        if verb != "filter":
            report = answered.llm.report()
            assert (found.tokens, found.texts) == (report.tokens, report.computed), verb
        assert found.seconds > 0, verb
        again = frame.llm.estimate(verb, column, model=model, **options)
        assert (again.known, again.tokens) == (2, 0), verb

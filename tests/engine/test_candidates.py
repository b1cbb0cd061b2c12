"""Likelihoods of each row's own continuations, against one row and one continuation at a time."""

import numpy as np
import pytest

from nbllm.engine import candidates, scoring
from nbllm.engine.candidates import CandidateScorer
from nbllm.engine.prompt import CompiledTemplate, Prompt
from nbllm.models.model import Model
from tests.engine.test_scoring import TEMPLATE, TEXTS, plain_likelihood

# A row has as many as it likes, and some begin alike.
OWN = [
    [' "soup".', ' "The soup".', ' "The soup was cold".'],
    [' "staff".'],
    [' "hour".', ' "nobody".', ' "table".', ' "the table".', ' "none".'],
    [' "x".', ' "none".'],
]


def prepare(
    model: Model, head: bool
) -> tuple[CandidateScorer, list[Prompt], list[list[list[int]]]]:
    compiled = CompiledTemplate(TEMPLATE if head else TEMPLATE[1:], model.tokenizer)
    tokens = [[model.tokenizer(words).input_ids for words in own] for own in OWN]
    prompts = compiled.encode([[text] for text in TEXTS], limit=2048)
    read = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
    return CandidateScorer(model, compiled.prefix_ids), read, tokens


@pytest.mark.parametrize("shares", [True, False], ids=["as tries", "branch by branch"])
@pytest.mark.parametrize("head", [True, False], ids=["with prefix", "without prefix"])
def test_one_pass_equals_one_row_and_one_candidate(
    tiny_llama: Model, head: bool, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (candidates, scoring):
        monkeypatch.setattr(module, "shares_prefix", lambda network: shares)
    scorer, prompts, tokens = prepare(tiny_llama, head)
    assert (scorer.prefix.length > 0) == (head and shares)
    found = scorer.score(prompts, tokens)
    for prompt, own, scores in zip(prompts, tokens, found, strict=True):
        expected = [plain_likelihood(tiny_llama, list(prompt.ids), ids) for ids in own]
        np.testing.assert_allclose(scores, expected, atol=2e-5)
    by_token = scorer.score_tokens(prompts, tokens)
    for own, rows, scores in zip(tokens, by_token, found, strict=True):
        assert [len(row) for row in rows] == [len(ids) for ids in own]
        np.testing.assert_allclose([row.sum() for row in rows], scores, atol=2e-5)


@pytest.mark.parametrize("at_once", [1, 7])
def test_parts_change_nothing(
    tiny_llama: Model, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, prompts, tokens = prepare(tiny_llama, True)
    whole = scorer.score(prompts, tokens)
    monkeypatch.setattr(candidates, "_TOKENS", 1)  # each row is a pass of its own
    monkeypatch.setattr(candidates, "_AT_ONCE", at_once)
    for one, other in zip(scorer.score(prompts, tokens), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)

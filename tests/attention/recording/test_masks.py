"""Masks and the rules that they follow."""

import pytest
import torch

from nbllm.attention.recording.masks import Rule, renormalized, rule_of

LOWEST = torch.finfo(torch.float32).min


def mask_of(rule: Rule, tokens: int, first: int = 0) -> torch.Tensor:
    """Written out query by query, (1, rows, tokens)."""
    rows = [
        [
            (key <= query or not rule.causal)
            and (rule.window is None or abs(query - key) < rule.window)
            for key in range(tokens)
        ]
        for query in range(first, tokens)
    ]
    return torch.tensor(rows)[None]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3, 8])
@pytest.mark.parametrize("additive", [LOWEST, -torch.inf, -1e4, None])
@pytest.mark.parametrize("tokens", [9, 300])
def test_a_rule_is_read_off_its_mask(causal, window, additive, tokens) -> None:
    rule = Rule(causal, window)
    mask = mask_of(rule, tokens)
    assert torch.equal(rule.mask(torch.arange(tokens), torch.arange(tokens)), mask[0])
    if additive is not None:
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(~mask, additive)
    # A query that sees itself alone hides what comes after it, too.
    assert rule_of(mask, causal=False) == Rule(causal or window == 1, window)


@pytest.mark.parametrize("window", [None, 3])
def test_a_later_step(window) -> None:
    rule = Rule(True, window)
    assert rule_of(mask_of(rule, 9, first=8), causal=True) == rule
    assert rule_of(mask_of(rule, 9, first=6), causal=True) == rule


def test_a_cross_mask_hides_nothing() -> None:
    for rows, columns in [(7, 3), (3, 7), (4, 1), (1, 4)]:
        seen = torch.ones(1, rows, columns, dtype=torch.bool)
        assert rule_of(seen, causal=False) == Rule(causal=False, window=None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda mask: mask[0, 400].fill_(LOWEST),  # one query that sees nothing
        lambda mask: mask[0, 400, :200].fill_(LOWEST),
        lambda mask: mask[0, 3, 500].fill_(0.0),  # one that looks ahead
        lambda mask: mask[0, 400, 5].fill_(-0.5),  # a bias, as ALiBi's
        lambda mask: mask[0, :, 0].fill_(LOWEST),  # padding on the left
    ],
)
def test_a_mask_without_a_rule(spoil) -> None:
    mask = torch.full((1, 600, 600), LOWEST).triu(1)
    assert rule_of(mask, causal=True) == Rule(True, None)
    spoil(mask)
    assert rule_of(mask, causal=True) is None


def test_a_mask_for_each_head_is_kept() -> None:
    assert rule_of(torch.ones(2, 5, 5, dtype=torch.bool).tril(), causal=True) is None


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("rows", [range(2, 5), [7, 0, 4], [6]])
@pytest.mark.parametrize("columns", [range(9), range(3, 6), [5, 1, 1, 8]])
def test_a_rule_hides_and_shows_the_same(causal, window, rows, columns) -> None:
    rule = Rule(causal, window)
    seen = rule.mask(torch.tensor(rows), torch.tensor(columns))
    assert seen.tolist() == [[rule.sees(row, key) for key in columns] for row in rows]
    scores = torch.zeros(2, len(rows), len(columns))
    rule.hide(scores, rows, columns)
    assert torch.equal(scores, torch.where(seen, 0.0, -torch.inf).expand_as(scores))
    any_row = rule.mask(torch.tensor(rows), torch.arange(9)).any(0).nonzero().flatten().tolist()
    visible = rule.visible(rows, 9)
    assert (visible[0], visible[-1]) == (any_row[0], any_row[-1])


def test_rows_without_a_key_sum_to_one_where_anything_is_left() -> None:
    weights = torch.tensor([[0.5, 0.1, 0.4], [1 - 1e-7, 1e-7, 0.0]])
    whole, left = renormalized(weights.clone(), 0)
    torch.testing.assert_close(whole, torch.tensor([[0, 0.2, 0.8], [0, 0, 0]]))
    assert left.tolist() == [[True], [False]]
    assert torch.equal(renormalized(weights.clone(), None)[0], weights / weights.sum(1)[:, None])

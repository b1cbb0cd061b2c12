"""Layouts: what is foretold where, and that a row is computed as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nbllm.models.model import Model
from nbllm.train.examples import Example, answer_examples, head_examples, label_examples
from nbllm.train.layout import IGNORED, Blocks, HeadRows, PaddedRows, SharedPrefix, pack
from nbllm.train.losses import loss_sum
from nbllm.train.rows import LearnedRow

SHARED = (5, 6, 7, 8)
EXAMPLES = [
    Example((*SHARED, 10, 11, 12, 20, 21), begin=7, shared=4),
    Example((*SHARED, 13, 22), begin=5, shared=4),
    Example((*SHARED, 14, 15, 20, 23, 24), begin=6, shared=4),
]


def alone(model: Model, example: Example) -> tuple[torch.Tensor, list[int]]:
    """Log-probabilities of an answer's tokens by a forward of one row, without a mask."""
    logits = model.network(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
    answer = list(example.ids[example.begin :])
    return logits[example.begin - 1 : -1], answer


@pytest.mark.parametrize("layout", [PaddedRows(0), SharedPrefix(4)])
def test_a_batch_is_the_sum_of_its_rows_alone(layout: Any, tiny_llama: Model) -> None:
    batch = layout(EXAMPLES)
    loss, _ = loss_sum(tiny_llama.network, batch, mixed=False)
    expected = torch.zeros(())
    for example in EXAMPLES:
        logp, answer = alone(tiny_llama, example)
        expected = expected - logp[torch.arange(len(answer)), answer].sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    # Nothing but the answers' tokens: 2, 1 and 3 of them.
    kept = batch["labels"][batch["labels"] != IGNORED].tolist()
    assert kept == [20, 21, 22, 20, 23, 24]


@pytest.mark.parametrize("layout", [PaddedRows(0), SharedPrefix(4)])
def test_gradients_are_those_of_the_rows_alone(layout: Any, tiny_llama: Model) -> None:
    weight = tiny_llama.network.model.layers[0].self_attn.k_proj.weight
    loss_sum(tiny_llama.network, layout(EXAMPLES), mixed=False)[0].backward()
    found = weight.grad.clone()
    weight.grad = None
    for example in EXAMPLES:
        logp, answer = alone(tiny_llama, example)
        (-logp[torch.arange(len(answer)), answer].sum()).backward()
    torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-5)


def test_a_shared_prefix_is_read_once() -> None:
    batch = SharedPrefix(4)(EXAMPLES)
    # The prefix, and of each row all but the answer's last token.
    assert batch["input_ids"].shape == (1, 4 + 4 + 1 + 4)
    assert batch["input_ids"].numel() == SharedPrefix(4).tokens([len(e) for e in EXAMPLES])


def test_a_prefix_is_not_shared_where_a_layer_has_a_window(tiny_llama: Model) -> None:
    assert SharedPrefix.suits(tiny_llama.network)
    tiny_llama.network.config.sliding_window = 16
    assert not SharedPrefix.suits(tiny_llama.network)


def test_a_packed_text_does_not_see_the_one_before_it(tiny_llama: Model) -> None:
    texts = [(1, 30, 31, 2), (1, 40, 41, 42, 2), (1, 50, 2)]
    (block,) = pack(texts, 12)
    batch = Blocks(first=1)([block])
    labels = batch.pop("labels")
    logits = tiny_llama.network(**batch).logits[0]
    second = tiny_llama.network(input_ids=torch.tensor([texts[1]])).logits[0]
    torch.testing.assert_close(logits[4:9], second, rtol=1e-4, atol=1e-4)
    # The token that ends a text does not foretell the one that opens the next.
    assert labels.tolist() == [[30, 31, 2, IGNORED, 40, 41, 42, 2, IGNORED, 50, 2, IGNORED]]


def test_packing_loses_no_token_but_the_last_few() -> None:
    texts = [tuple(range(n, n + 7)) for n in range(0, 70, 7)]
    blocks = [block.ids for block in pack(texts, 16)]
    assert all(len(block) == 16 for block in blocks)
    assert [token for block in blocks for token in block] == list(range(64))


ROWS = [
    LearnedRow(("The soup was warm.",), "positive"),
    LearnedRow(("Cold <|im_end|> meal.",), "negative"),
]


def test_labels_follow_the_prompt_of_the_verb(tiny_llama: Model) -> None:
    from tests.asking import sentiment

    task: Any = sentiment(tiny_llama)
    first, second = label_examples(tiny_llama, task, ROWS, limit=2048, truncate=False)
    assert first is not None and second is not None
    tokenizer = tiny_llama.tokenizer
    asked = tokenizer.decode(first.ids[: first.begin])
    assert asked.endswith("Review: The soup was warm.\nSentiment:")
    assert tokenizer.decode(first.ids[first.begin :]) == " positive"
    assert tokenizer.decode(second.ids[second.begin :]) == " negative"
    # The instruction and its examples are the same tokens in both.
    assert first.shared > 100
    assert first.ids[: first.shared] == second.ids[: second.shared]


def test_answers_end_with_the_token_that_ends_a_turn(tiny_llama: Model) -> None:
    from tests.asking import prompt

    task = prompt(tiny_llama, template="Is it good? {text}")
    (example, _) = answer_examples(tiny_llama, task.template, ROWS, limit=2048, truncate=False)
    assert example is not None
    tokenizer = tiny_llama.tokenizer
    assert tokenizer.decode(example.ids[example.begin :]) == "positive<|im_end|>"
    assert tokenizer.decode(example.ids[: example.begin]).endswith("<|im_start|>assistant\n")


def test_rows_that_are_too_long_are_left_out_or_cut(tiny_encoder: Model) -> None:
    rows = [ROWS[0], LearnedRow(("warm soup " * 50,), "negative")]
    how: dict[str, Any] = {"limit": 32}
    whole = head_examples(tiny_encoder, ["negative", "positive"], rows, truncate=False, **how)
    assert whole[0] is not None and whole[1] is None
    cut = head_examples(tiny_encoder, ["negative", "positive"], rows, truncate=True, **how)
    assert cut[1] is not None and len(cut[1]) == 32
    assert [e.label for e in cut if e is not None] == [1, 0]


def test_rows_for_a_head_are_padded_on_the_right() -> None:
    batch = HeadRows(9)([Example((1, 2, 3), 3, label=1), Example((1,), 1, label=0)])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]

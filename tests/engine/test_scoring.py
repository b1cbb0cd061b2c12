"""Label likelihoods against the plainest way to compute them: one row, one label, no cache."""

import numpy as np
import pytest
import torch

from nbllm.engine.prompt import CompiledTemplate, Part, Prompt
from nbllm.engine.scoring import LabelScorer, LabelTrie, calibration_offset, probabilities
from nbllm.models.model import Model

TEMPLATE = (
    Part("text", "Classify each text.\n\nText: a warm meal\nLabel: good\n\nText: "),
    Part("field", "text"),
    Part("text", "\nLabel:"),
)
TEXTS = ["The soup was cold.", "kind staff", "We waited an hour and nobody came to the table.", "x"]
LABELS = [" good", " bad", " goods and services", " bad luck in the end"]


def plain_likelihood(model: Model, ids: list[int], label: list[int]) -> float:
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor([ids + label]), use_cache=False).logits[0]
    logp = logits.float().log_softmax(-1)
    return sum(float(logp[len(ids) - 1 + n, token]) for n, token in enumerate(label))


def prepare(
    model: Model, template=TEMPLATE, labels=LABELS
) -> tuple[LabelScorer, list[Prompt], list[list[int]]]:
    compiled = CompiledTemplate(template, model.tokenizer)
    tokens = [model.tokenizer(label + "\n").input_ids for label in labels]
    prompts = compiled.encode([[text] for text in TEXTS], limit=2048)
    return LabelScorer(model, compiled.prefix_ids, tokens), prompts, tokens


@pytest.mark.parametrize("head", [True, False], ids=["with prefix", "without prefix"])
def test_one_forward_equals_one_row_one_label(tiny_llama: Model, head: bool) -> None:
    scorer, prompts, labels = prepare(tiny_llama, TEMPLATE if head else TEMPLATE[1:])
    assert (scorer.prefix.length > 0) == head
    expected = [[plain_likelihood(tiny_llama, list(p.ids), lb) for lb in labels] for p in prompts]
    np.testing.assert_allclose(scorer.score(prompts), expected, atol=2e-5)


@pytest.mark.parametrize("shared", [True, False], ids=["with prefix", "without prefix"])
@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_positions_are_read_part_by_part_where_logits_are_too_many(
    tiny_llama: Model, at_once: int, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, prompts, _ = prepare(tiny_llama, TEMPLATE if shared else TEMPLATE[1:])
    whole, positions = scorer.score(prompts), 1 + scorer.label_tokens
    assert 5 < positions < 100
    monkeypatch.setattr("nbllm.engine.scoring.positions_at_once", lambda model: at_once)
    read: list[int] = []
    head = getattr(scorer.prefix, "network", tiny_llama.network).get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, out: read.append(out.shape[1]))
    try:
        np.testing.assert_allclose(scorer.score(prompts), whole, atol=2e-5)
    finally:
        hook.remove()
    assert len(read) == -(-positions // at_once)
    assert max(read) <= at_once and sum(read) == positions
    np.testing.assert_array_equal(
        scorer.score_fixed_shape(prompts[:2])[0], scorer.score_fixed_shape(prompts)[0]
    )


def test_one_token_labels_cost_no_token(smollm2: Model) -> None:
    tokens = [smollm2.tokenizer(label).input_ids for label in (" positive", " negative")]
    assert LabelTrie(tokens).tokens == []


def test_the_real_model_in_its_own_dtype(smollm2: Model) -> None:
    scorer, prompts, labels = prepare(smollm2)
    expected = [[plain_likelihood(smollm2, list(p.ids), lb) for lb in labels] for p in prompts]
    # The reference reads its logits in bf16, in steps of 1/8 at 20.
    np.testing.assert_allclose(scorer.score(prompts), expected, atol=0.5)


def test_scores_are_finer_than_bf16_logits(smollm2: Model) -> None:
    compiled = CompiledTemplate(TEMPLATE, smollm2.tokenizer)
    prompts = compiled.encode([[f"meal number {n}"] for n in range(24)], limit=2048)
    labels = [smollm2.tokenizer(label).input_ids for label in (" good", " bad")]
    scores = LabelScorer(smollm2, compiled.prefix_ids, labels).score(prompts)
    assert len(set(scores[:, 0] - scores[:, 1])) == 24


def test_a_row_does_not_depend_on_its_batch(tiny_llama: Model) -> None:
    scorer, prompts, _ = prepare(tiny_llama)
    together = scorer.score(prompts)
    alone = np.concatenate([scorer.score([prompt]) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(scorer.score(prompts[::-1])[::-1], together, atol=2e-5)


def test_apart_a_row_is_to_the_last_bit_the_same_whoever_is_with_it(smollm2: Model) -> None:
    scorer, _, _ = prepare(smollm2)
    compiled = CompiledTemplate(TEMPLATE, smollm2.tokenizer)
    words = TEXTS[2].split()
    texts = [[" ".join(words[n % 3 : n % 3 + 1 + n % 8])] for n in range(16)]
    prompts = compiled.encode(texts, limit=2048)
    together = scorer.score_fixed_shape(prompts)
    assert scorer.score_fixed_shape(prompts[::-1])[::-1] == together
    assert [scorer.score_fixed_shape([prompt])[0] for prompt in prompts] == together
    assert scorer.score_fixed_shape(prompts[7:12]) == together[7:12]
    # The two unlikely labels have many tokens, and round by more. That both of the others move
    # alike is no matter; words cut out of a sentence move them by more than reviews do.
    margin = np.array([1, -1, 0, 0])
    np.testing.assert_allclose(together @ margin, scorer.score(prompts) @ margin, atol=0.4)


def test_scoring_leaves_the_shared_prefix_as_it_was(tiny_llama: Model) -> None:
    scorer, prompts, _ = prepare(tiny_llama)
    first = scorer.score(prompts[:1])
    scorer.score(prompts)
    np.testing.assert_array_equal(scorer.score(prompts[:1]), first)


def test_a_model_with_a_learned_position_a_sliding_window_and_a_soft_cap() -> None:
    """Architectures whose caches and masks differ from LLaMA's; all inside of the window."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

    from tests.conftest import seeded, tiny_model

    base = tiny_model("causal")
    size = {"vocab_size": len(base.tokenizer), "bos_token_id": 1, "eos_token_id": 2}
    gpt2 = GPT2Config(n_layer=2, n_head=4, n_embd=64, n_positions=512, **size)
    gemma2 = Gemma2Config(
        num_hidden_layers=2,
        hidden_size=64,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=512,
        attn_implementation="eager",
        **size,
    )
    for network, config in ((GPT2LMHeadModel, gpt2), (Gemma2ForCausalLM, gemma2)):
        model = tiny_model("causal")
        model.network = seeded(network, config)
        scorer, prompts, labels = prepare(model)
        expected = [[plain_likelihood(model, list(p.ids), lb) for lb in labels] for p in prompts]
        np.testing.assert_allclose(scorer.score(prompts), expected, atol=5e-5)


@pytest.mark.parametrize("window", [8, 24, 64])
@pytest.mark.parametrize("head", [True, False], ids=["with prefix", "without prefix"])
def test_beyond_a_sliding_window(window: int, head: bool) -> None:
    """The prefix and the texts are longer than the window, and so is the trie of the labels."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

    from tests.conftest import seeded, tiny_model

    model = tiny_model("causal")
    size = {
        "vocab_size": len(model.tokenizer),
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": window,
        "initializer_range": 0.2,
    }
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    for network, config in (
        (Gemma3ForCausalLM, Gemma3TextConfig(layer_types=kinds, **size)),
        (MistralForCausalLM, MistralConfig(**size)),
    ):
        model.network = seeded(network, config)
        scorer, prompts, labels = prepare(model, TEMPLATE if head else TEMPLATE[1:])
        expected = [[plain_likelihood(model, list(p.ids), lb) for lb in labels] for p in prompts]
        np.testing.assert_allclose(scorer.score(prompts), expected, atol=5e-5)


def test_the_trie_shares_what_labels_share() -> None:
    trie = LabelTrie([[5, 6, 7], [5, 6, 8], [9]])
    assert trie.tokens == [5, 6]
    assert trie.parents == [-1, 0]
    assert trie.steps == [[(-1, 5), (0, 6), (1, 7)], [(-1, 5), (0, 6), (1, 8)], [(-1, 9)]]
    assert trie.visible().tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("labels", [[[1], []], [[1], [1, 2]]], ids=["empty", "prefix of another"])
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[list[int]]) -> None:
    with pytest.raises(ValueError):
        LabelTrie(labels)


def test_an_answer_that_is_not_finite_is_its_rows_error(tiny_llama: Model) -> None:
    scorer, prompts, _ = prepare(tiny_llama)
    scores = scorer.score(prompts)
    scores[1, 0] = np.nan
    scorer.score = lambda _: scores
    answers = scorer(prompts)
    assert isinstance(answers[1], Exception)
    assert [isinstance(a, list) for a in answers] == [True, False, True, True]


def test_the_offset_takes_out_what_the_model_prefers() -> None:
    scores = np.log(np.array([[0.9, 0.1], [0.7, 0.3]])) - 3.0
    offset = calibration_offset(scores)
    # By hand: on average 0.8 goes to the first label and 0.2 to the second.
    np.testing.assert_allclose(offset, np.log([0.8, 0.2]))
    # 0.9/0.8 against 0.1/0.2, and 0.7/0.8 against 0.3/0.2.
    expected = np.array([[1.125, 0.5], [0.875, 1.5]])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(scores, offset), expected)

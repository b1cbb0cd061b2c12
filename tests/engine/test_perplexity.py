"""Perplexity against transformers' own loss, one text at a time."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from nbllm.engine import batch_memory, chunks
from nbllm.engine import perplexity as module
from nbllm.engine.perplexity import perplexity
from nbllm.errors import ModelError, NbllmError, TextError, UnsupportedModelError
from nbllm.models.model import Model
from tests.conftest import seeded, tiny_model

TEXTS = [
    "The soup was cold.",
    "kind staff",
    "We waited an hour and nobody came to the table, not even to say that they had closed. " * 2,
    "房间很干净。 👍",
]


def plain_nats(model: Model, ids: list[int]) -> float:
    """transformers' loss of one text, times the tokens that it is the mean of."""
    tensor = torch.tensor([ids])
    with torch.inference_mode():
        loss = model.network(input_ids=tensor, labels=tensor, use_cache=False).loss
    return float(loss) * (len(ids) - 1)


def ids_of(model: Model, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False).input_ids


def with_bos(model: Model) -> Model:
    """The model with a tokenizer that opens each text by itself, as LLaMA's does."""
    from tokenizers.processors import TemplateProcessing

    bos = model.tokenizer.bos_token
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, model.tokenizer.bos_token_id)]
    )
    return model


def test_each_text_is_what_transformers_loss_says(tiny_llama: Model) -> None:
    found = perplexity(tiny_llama, TEXTS)
    ids = [ids_of(tiny_llama, text) for text in TEXTS]
    np.testing.assert_allclose(found.nll, [plain_nats(tiny_llama, i) for i in ids], rtol=1e-5)
    assert list(found.tokens) == [len(i) - 1 for i in ids]
    np.testing.assert_allclose(found.per_text, np.exp(found.nll / found.tokens))
    # Weighted by tokens: a long text counts for more than a short one.
    assert found.value == pytest.approx(math.exp(found.nll.sum() / found.tokens.sum()))
    assert found.value != pytest.approx(found.per_text.mean(), rel=1e-3)


def test_a_first_token_counts_where_bos_stands_before_it(tiny_llama: Model) -> None:
    model = with_bos(tiny_llama)
    found = perplexity(model, TEXTS)
    bos = [model.tokenizer.bos_token_id]
    expected = [plain_nats(model, bos + ids_of(model, text)) for text in TEXTS]
    np.testing.assert_allclose(found.nll, expected, rtol=1e-5)
    assert list(found.utf8_bytes) == [len(text.encode()) for text in TEXTS]


def test_bytes_without_bos_are_those_after_the_first_token(tiny_llama: Model) -> None:
    text = "soup, soup"
    first = tiny_llama.tokenizer.decode(ids_of(tiny_llama, text)[0])
    found = perplexity(tiny_llama, [text])
    assert list(found.utf8_bytes) == [len(text) - len(first)]


def test_bits_a_byte_of_a_model_that_knows_nothing(tiny_llama: Model) -> None:
    with torch.no_grad():
        tiny_llama.network.lm_head.weight.zero_()
    found = perplexity(tiny_llama, TEXTS)
    size = tiny_llama.network.config.vocab_size
    assert found.value == pytest.approx(size, rel=1e-6)
    bits = found.tokens.sum() * math.log2(size) / found.utf8_bytes.sum()
    assert found.bits_per_byte == pytest.approx(bits, rel=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 16), (16, 3), (2, 1), (64, 64)])
def test_windows_slide_as_in_the_documentation(tiny_llama: Model, window: int, stride: int) -> None:
    """The loop of https://huggingface.co/docs/transformers/perplexity."""
    ids = torch.tensor([ids_of(tiny_llama, TEXTS[2])])
    length, previous, nats, tokens = ids.shape[1], 0, 0.0, 0
    for begin in range(0, length, stride):
        end = min(begin + window, length)
        piece = ids[:, begin:end]
        target = piece.clone()
        target[:, : -(end - previous)] = -100
        count = int((target[:, 1:] != -100).sum())
        if count:
            with torch.inference_mode():
                loss = tiny_llama.network(input_ids=piece, labels=target).loss
            nats += float(loss) * count
            tokens += count
        previous = end
        if end == length:
            break
    found = perplexity(tiny_llama, [TEXTS[2]], window=window, stride=stride)
    assert found.nll[0] == pytest.approx(nats, rel=1e-5)
    assert found.tokens[0] == tokens


def test_the_default_window_is_what_the_model_takes(tiny_llama: Model) -> None:
    tiny_llama.context_length = 16
    found = perplexity(tiny_llama, TEXTS)
    assert (found.window, found.stride) == (16, 8)
    assert found.tokens[2] == len(ids_of(tiny_llama, TEXTS[2])) - 1


def test_soft_caps_scales_and_other_bodies() -> None:
    """Networks that change their logits, or whose decoder lies elsewhere than LLaMA's."""
    from transformers import (
        CohereConfig,
        CohereForCausalLM,
        Gemma2Config,
        Gemma2ForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        OPTConfig,
        OPTForCausalLM,
    )

    common = {"vocab_size": len(tiny_model("causal").tokenizer), "pad_token_id": 0}
    llama = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    cap = {"head_dim": 16, "final_logit_softcapping": 0.5, "attn_implementation": "eager"}
    opt = {"num_hidden_layers": 2, "hidden_size": 64, "ffn_dim": 64, "num_attention_heads": 4}
    for network, config in (
        (GPT2LMHeadModel, GPT2Config(n_layer=2, n_head=4, n_embd=64, **common)),
        (Gemma2ForCausalLM, Gemma2Config(**llama, **cap, **common)),
        (CohereForCausalLM, CohereConfig(**llama, logit_scale=0.1, **common)),
        (OPTForCausalLM, OPTConfig(**opt, word_embed_proj_dim=32, **common)),
    ):
        model = tiny_model("causal")
        model.network = seeded(network, config)
        expected = [plain_nats(model, ids_of(model, text)) for text in TEXTS]
        np.testing.assert_allclose(perplexity(model, TEXTS).nll, expected, rtol=2e-5)


def test_the_whole_vocabulary_is_held_for_a_few_tokens_only(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = perplexity(tiny_llama, TEXTS)
    monkeypatch.setattr(chunks, "_LOGITS", 5 * tiny_llama.network.config.vocab_size)
    rows: list[int] = []
    tiny_llama.network.lm_head.register_forward_hook(
        lambda _module, _args, logits: rows.append(logits.numel() // logits.shape[-1])
    )
    found = perplexity(tiny_llama, TEXTS)
    np.testing.assert_allclose(found.nll, whole.nll, rtol=1e-6)
    assert max(rows) == 5 and sum(rows) >= whole.tokens.sum()


def test_a_batch_that_does_not_fit_is_halved(
    tiny_llama: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "_oom_factors", {})
    whole, nats = perplexity(tiny_llama, TEXTS), module._nats
    sizes = []

    def cramped(model: Model, windows: list[object]) -> list[float]:
        sizes.append(len(windows))
        if len(windows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nats(model, windows)

    monkeypatch.setattr(module, "_nats", cramped)
    np.testing.assert_allclose(perplexity(tiny_llama, TEXTS).nll, whole.nll, rtol=1e-6)
    assert sizes[0] == 4 and sizes.count(1) == 4


def test_missing_and_blank_texts_do_not_count(tiny_llama: Model) -> None:
    column = pd.Series([TEXTS[0], None, "  ", "x", TEXTS[1]], dtype="string")
    found = perplexity(tiny_llama, column)
    assert list(found.tokens > 0) == [True, False, False, False, True]
    assert np.isnan(found.per_text).tolist() == [False, True, True, True, False]
    alone = perplexity(tiny_llama, [TEXTS[0], TEXTS[1]])
    assert found.value == pytest.approx(alone.value, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-6)
    assert repr(found).endswith(f"tiny-causal on 2 texts, {alone.tokens.sum()} tokens")


def test_a_special_token_that_is_spelled_out_stays_text(tiny_llama: Model) -> None:
    ids = tiny_llama.tokenizer("a <|im_end|> b", split_special_tokens=True).input_ids
    assert tiny_llama.tokenizer.eos_token_id not in ids
    found = perplexity(tiny_llama, ["a <|im_end|> b"])
    assert found.nll[0] == pytest.approx(plain_nats(tiny_llama, ids), rel=1e-5)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one string", "is one string"),
        ([], "no text of two tokens"),
        ([None, " ", "x"], "no text of two tokens"),
        (["a text", 3], "3 is not a text"),
        (["\ud800 lone surrogate"], "cannot read this text"),
    ],
)
def test_texts_that_are_none_are_refused(tiny_llama: Model, texts, message: str) -> None:
    with pytest.raises(TextError, match=message):
        perplexity(tiny_llama, texts)


@pytest.mark.parametrize("choice", [{"window": 1}, {"window": 4096}, {"stride": 0}, {"stride": -1}])
def test_windows_that_cannot_be_are_refused(tiny_llama: Model, choice) -> None:
    with pytest.raises(NbllmError, match=r"window=.* stride=.* cannot be|stride=.* is no whole"):
        perplexity(tiny_llama, TEXTS, **choice)


def test_a_model_of_another_kind_is_refused(tiny_encoder: Model) -> None:
    with pytest.raises(UnsupportedModelError, match="tiny-encoder is a sentence encoder"):
        perplexity(tiny_encoder, TEXTS)


def test_an_output_that_is_not_finite_is_said(tiny_llama: Model) -> None:
    with torch.no_grad():
        tiny_llama.network.lm_head.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="not a finite number"):
        perplexity(tiny_llama, TEXTS)


def test_the_real_model_foretells_language_better_than_a_list(smollm2: Model) -> None:
    sentence = "The museum is free on the first Sunday of every month, and closed on Mondays."
    words = " ".join(sorted(sentence.split(), key=len))
    found = perplexity(smollm2, [sentence, words])
    assert found.per_text[0] * 5 < found.per_text[1]
    # In bf16, whose logits are in steps of 1/8 here, on both sides.
    assert found.nll[0] == pytest.approx(plain_nats(smollm2, ids_of(smollm2, sentence)), rel=0.03)

"""Tiny random models of many architectures, as `nbllm.load` would return them."""

import dataclasses

import numpy as np
import torch
import transformers

from nbllm.models.model import Model
from tests.conftest import tiny_model

SIZES = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "vocab_size": 400,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id"], 0),
}
GROUPED = {"num_key_value_heads": 2}
# Of each: its kind, what differs from SIZES, and the attention function it starts with.
ARCHITECTURES = {
    "Llama": ("causal", GROUPED, "sdpa"),
    "Qwen2": ("causal", GROUPED, "sdpa"),
    "Qwen3": ("causal", {**GROUPED, "head_dim": 16}, "sdpa"),
    "Mistral": ("causal", {**GROUPED, "sliding_window": 4}, "sdpa"),
    "Gemma2": ("causal", {**GROUPED, "head_dim": 8, "sliding_window": 4}, "eager"),
    # One head of keys for all.
    "Gemma3Text": (
        "causal",
        {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},
        "sdpa",
    ),
    "GPT2": ("causal", {}, "sdpa"),
    "GPTNeoX": ("causal", {}, "sdpa"),
    "OPT": ("causal", {}, "sdpa"),
    "Phi": ("causal", GROUPED, "sdpa"),
    "Phi3": ("causal", GROUPED, "sdpa"),
    "GptOss": (
        "causal",
        {**GROUPED, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
        "eager",
    ),
    "Bert": ("encoder", {}, "sdpa"),
    "Roberta": ("encoder", {}, "sdpa"),
    "DistilBert": ("encoder", {"dim": 32, "hidden_dim": 48, "n_heads": 4}, "sdpa"),
    "ModernBert": (
        "encoder",
        {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 0},
        "sdpa",
    ),
}
CAUSAL = [name for name, (kind, *_) in ARCHITECTURES.items() if kind == "causal"]
HALVES = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 256,
    "init_std": 0.2,
    "vocab_size": 400,
    "forced_eos_token_id": None,
    **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"], 0),
}
# Of each: its class and its configuration. Encoders and decoders are of unequal depth.
ENCODER_DECODERS = {
    "T5": (
        "T5ForConditionalGeneration",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 3,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "vocab_size": 400,
            "initializer_factor": 1.0,
            **dict.fromkeys(["pad_token_id", "eos_token_id", "decoder_start_token_id"], 0),
        },
    ),
    "Bart": ("BartForConditionalGeneration", HALVES),
    "Marian": ("MarianMTModel", HALVES),
}


def tiny(name: str, attention: str | None = None) -> Model:
    """A model with one stack of layers; `attention` is the function that it runs."""
    kind, changes, first = ARCHITECTURES.get(name, ("causal", {}, "eager"))
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    auto = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModel
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = auto.from_config(config, attn_implementation=attention or first).eval()
    return _as_loaded(network, kind, name)


def tiny_pair(name: str, attention: str = "sdpa") -> Model:
    """An encoder-decoder."""
    network, sizes = ENCODER_DECODERS[name]
    config = getattr(transformers, f"{name}Config")(**sizes)
    config._attn_implementation = attention
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, network)(config).eval()
    return _as_loaded(made, "seq2seq", name)


def largest_difference(recording, reference) -> float:
    """Between a recording's weights and an array (heads, rows, columns) for each of its layers."""
    return max(
        float(np.abs(recording.weights(layer, head) - weights[head]).max())
        for layer, weights in zip(recording.layer_numbers, reference, strict=True)
        for head in range(recording.heads)
    )


def _as_loaded(network, kind, name) -> Model:
    return dataclasses.replace(
        tiny_model("causal"), network=network, kind=kind, name=name, context_length=256
    )

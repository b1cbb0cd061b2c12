"""GGUF files of tiny random models, written as llama.cpp's convert_hf_to_gguf.py does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.convert_slow_tokenizer import bytes_to_unicode

VOCABULARY, WIDTH, LAYERS, HEADS = 262, 64, 2, 4
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
}
_NAMED_OTHERWISE: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": WIDTH}

# Of headers, that no architecture has for itself.
_SHARED = ("general.", "split.", "tokenizer.")

# By the architecture's name in GGUF: its configuration class and what that takes.
CONFIGURATIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _SHAPE),
    "qwen2": ("Qwen2Config", _SHAPE),
    "qwen3": ("Qwen3Config", {**_SHAPE, "head_dim": 32}),
    "gemma2": ("Gemma2Config", {**_SHAPE, "head_dim": 32}),
    "gemma3": ("Gemma3TextConfig", {**_SHAPE, "head_dim": 32, "_sliding_window_pattern": 6}),
    "phi3": ("Phi3Config", _SHAPE),
    "starcoder2": ("Starcoder2Config", _SHAPE),
    "stablelm": ("StableLmConfig", _SHAPE),
    "nemotron": ("NemotronConfig", _SHAPE),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS,
         "n_positions": 512},
    ),
    "falcon": (
        "FalconConfig",
        {**_NAMED_OTHERWISE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS},
    ),
    "bloom": ("BloomConfig", {**_NAMED_OTHERWISE, "n_layer": LAYERS, "n_head": HEADS}),
    "mamba": ("MambaConfig", {**_NAMED_OTHERWISE, "num_hidden_layers": LAYERS}),
    "lfm2": (
        "Lfm2Config",
        {**_SHAPE, "block_auto_adjust_ff_dim": False, "full_attn_idxs": [1]},
    ),
    "qwen2moe": (
        "Qwen2MoeConfig",
        {**_SHAPE, **_EXPERTS, "shared_expert_intermediate_size": 80},
    ),
    "qwen3moe": (
        "Qwen3MoeConfig",
        {**_SHAPE, **_EXPERTS, "head_dim": 32, "norm_topk_prob": True},
    ),
    "t5": (
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 16, "d_ff": 128,
         "num_layers": LAYERS, "num_heads": HEADS, "decoder_start_token_id": 0},
    ),
}  # fmt: skip


def configuration(architecture: str, **other: Any) -> PretrainedConfig:
    """A tiny configuration of one architecture of GGUF."""
    name, given = CONFIGURATIONS[architecture]
    made: PretrainedConfig = getattr(transformers, name)(**{**given, **other})
    return made


def network(config: PretrainedConfig) -> PreTrainedModel:
    """Random weights that are exact in bf16, norms and biases included."""
    auto = (
        transformers.AutoModelForSeq2SeqLM
        if config.is_encoder_decoder
        else transformers.AutoModelForCausalLM
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = auto.from_config(config)
        if config.model_type == "t5" and not config.scale_decoder_outputs:  # Flan-T5
            made.lm_head.weight = torch.nn.Parameter(torch.empty(VOCABULARY, WIDTH))
        for name, parameter in made.named_parameters():
            noise = torch.randn_like(parameter) * 0.2
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            kept = parameter.data if name.endswith(("A_log", ".D")) else float(is_norm)
            parameter.data = (kept + noise).bfloat16().float()
    return made.eval()


def write_gguf(
    made: PreTrainedModel,
    path: Path,
    architecture: str,
    header: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a network as a GGUF file, with `header` and `tensors` added to what it has."""
    writer = gguf.GGUFWriter(path, architecture)
    stated = {**_header(made.config, architecture), **(header or {})}
    for key, value in stated.items():
        _add(
            writer,
            key
            if key.startswith(("general.", "split.", "tokenizer."))
            else f"{architecture}.{key}",
            value,
        )
    _add_tokenizer(writer, architecture)
    for name, tensor in {**_tensors(made, architecture), **(tensors or {})}.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_for_openvino(path: Path, architecture: str = "llama", **header: Any) -> Path:
    """Write a tiny network with the headers that OpenVINO's reader requires."""
    made = network(configuration(architecture))
    stated = {
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    return write_gguf(made, path, architecture, stated | header)


def _header(config: PretrainedConfig, architecture: str) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {}
    kv_heads = getattr(config, "num_key_value_heads", None)
    stated = {
        "general.license": "mit",
        "vocab_size": config.vocab_size,
        "context_length": getattr(config, "max_position_embeddings", 512),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", getattr(config, "d_ff", None)),
        "attention.head_count": getattr(config, "num_attention_heads", None),
        "attention.head_count_kv": [0, kv_heads] if architecture == "lfm2" else kv_heads,
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attention.layer_norm_rms_epsilon": _first(
            config, "rms_norm_eps", "norm_eps", "layer_norm_epsilon"
        ),
        "attention.layer_norm_epsilon": _first(
            config, "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"
        ),
        "attention.relative_buckets_count": getattr(config, "relative_attention_num_buckets", None),
        "decoder_start_token_id": getattr(config, "decoder_start_token_id", None),
        "rope.dimension_count": getattr(config, "head_dim", None),
        "rope.freq_base": (rope.get("full_attention") or rope).get("rope_theta"),
        "expert_count": getattr(config, "num_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "expert_feed_forward_length": getattr(config, "moe_intermediate_size", None),
        "expert_shared_feed_forward_length": getattr(
            config, "shared_expert_intermediate_size", None
        ),
        "shortconv.l_cache": getattr(config, "conv_L_cache", None),
        "ssm.conv_kernel": getattr(config, "conv_kernel", None),
        "ssm.state_size": getattr(config, "state_size", None),
        "ssm.time_step_rank": getattr(config, "time_step_rank", None),
        "ssm.inner_size": getattr(config, "intermediate_size", None),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _first(config: PretrainedConfig, *names: str) -> Any:
    return next((getattr(config, name) for name in names if hasattr(config, name)), None)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case str():
            writer.add_string(key, value)
        case float():
            writer.add_float32(key, value)
        case int():
            writer.add_uint32(key, value)
        case _:
            writer.add_array(key, value)


def _add_tokenizer(writer: gguf.GGUFWriter, architecture: str) -> None:
    normal, control, byte = 1, 3, 6
    if architecture in ("gemma2", "gemma3"):  # SentencePiece, whose other bytes are tokens
        special = ["<pad>", "<bos>", "<eos>", "<unk>"]
        tokens = [*special, *(f"<0x{i:02X}>" for i in range(256)), "▁", "a"]
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([0.0] * VOCABULARY)
        writer.add_token_types([control] * 4 + [byte] * 256 + [normal] * 2)
        writer.add_add_bos_token(True)
        writer.add_unk_token_id(3)
    elif architecture.startswith("t5"):  # unigrams
        tokens = ["<pad>", "<s>", "</s>", "<unk>", "▁", *map(chr, range(33, 33 + 257))]
        writer.add_tokenizer_model("t5")
        writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
        writer.add_token_types([control] * 4 + [normal] * 258)
        writer.add_unk_token_id(3)
    else:  # pairs of bytes
        tokens = ["<pad>", "<s>", "</s>", *bytes_to_unicode().values(), "he", "ll", "hell"]
        writer.add_tokenizer_model("gpt2")
        writer.add_token_types([control] * 3 + [normal] * 259)
        writer.add_token_merges(["h e", "l l", "he ll"])
    writer.add_token_list(tokens)
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _tensors(made: PreTrainedModel, architecture: str) -> dict[str, np.ndarray]:
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture], LAYERS)
    state = made.state_dict()
    tied = "lm_head.weight" in state and (
        state["lm_head.weight"].data_ptr() == made.get_input_embeddings().weight.data_ptr()
    )
    written: dict[str, np.ndarray] = {}
    for name, parameter in state.items():
        tensor = parameter.float().numpy()
        if (tied and name == "lm_head.weight") or name.endswith("coder.embed_tokens.weight"):
            continue
        block = name.split(".")[2] if name.startswith("model.layers.") else ""
        if name.endswith("experts.gate_up_proj"):
            gate, up = np.split(tensor, 2, axis=1)
            written[f"blk.{block}.ffn_gate_exps.weight"] = gate
            written[f"blk.{block}.ffn_up_exps.weight"] = up
        elif name.endswith("experts.down_proj"):
            written[f"blk.{block}.ffn_down_exps.weight"] = tensor
        else:
            stem, dot, suffix = name.rpartition(".")
            if suffix not in ("weight", "bias"):
                stem, dot, suffix = name, "", ""
            theirs = names.get_name(stem) or names.get_name(stem.removeprefix("transformer."))
            assert theirs is not None, name
            written[theirs + dot + suffix] = _as_theirs(tensor, theirs, suffix, architecture)
    return written


def _as_theirs(tensor: np.ndarray, name: str, suffix: str, architecture: str) -> np.ndarray:
    """A tensor in llama.cpp's order and values."""
    rows = len(tensor)
    leaf = name.rpartition(".")[2]
    if architecture == "llama" and leaf in ("attn_q", "attn_k"):  # pairs side by side
        heads = rows * HEADS // WIDTH
        halves = tensor.reshape(heads, 2, rows // heads // 2, -1)
        return halves.swapaxes(1, 2).reshape(tensor.shape)
    if architecture in ("gemma2", "gemma3", "nemotron") and leaf.endswith("norm"):
        return tensor + 1 if suffix == "weight" else tensor
    if architecture == "gpt2" and suffix == "weight" and leaf.startswith(("attn_", "ffn_")):
        return tensor.T
    if architecture == "bloom" and leaf == "attn_qkv":  # heads after queries, keys and values
        parts = tensor.reshape(HEADS, 3, WIDTH // HEADS, *tensor.shape[1:])
        return parts.swapaxes(0, 1).reshape(tensor.shape)
    if leaf == "ssm_a":
        return -np.exp(tensor)
    if suffix == "weight" and (leaf == "ssm_conv1d" or name.endswith("shortconv.conv")):
        return tensor.squeeze(1)
    if leaf == "ffn_gate_inp_shexp":
        return tensor.squeeze(0)
    return tensor

"""Every text architecture that transformers' auto mappings know, as a tiny random network.

A configuration is derived from its own class: what it calls a width, a count or a window is set by
the field's name, in it and in the configurations inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from transformers.models.auto import modeling_auto as auto

from nbllm.models.architecture import CLASSES
from nbllm.models.kind import Kind
from tests.conftest import byte_tokenizer, seeded

LARGEST = 3_000_000  # parameters
WINDOW = 8


def _each(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


# By the name of the field. A default of another type than the value here is left alone.
SIZES: dict[str, Any] = {
    **_each(
        "hidden_size n_embd d_model dim embed_dim emb_dim embedding_size embedding_dim model_dim "
        "word_embed_proj_dim input_embedding_size output_embedding_size attention_hidden_size "
        "true_hidden_size hidden_size_global pronunciation_embed_dim shape_embed_dim "
        "lru_width backbone_hidden_size dim_model_base block_dim",
        32,
    ),
    **_each(
        "intermediate_size ffn_dim d_ff n_inner encoder_ffn_dim decoder_ffn_dim hidden_dim "
        "dim_ff dff "
        "ffn_hidden_size moe_intermediate_size shared_expert_intermediate_size d_inner "
        "shared_intermediate_size dense_intermediate_size feed_forward_size intermediate_size_mlp "
        "expert_ffn_hidden_size shared_experts_intermediate_size intermediate_dim "
        "moe_shared_expert_intermediate_size classifier_proj_size prompt_mid_dim "
        "router_hidden_size",
        48,
    ),
    **_each(
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers "
        "num_decoder_layers num_encoder_layers num_blocks",
        4,
    ),
    **_each(
        "num_attention_heads n_head n_heads num_heads encoder_attention_heads attention_heads "
        "decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
        "swa_num_attention_heads n_mamba_heads",
        4,
    ),
    **_each(
        "num_key_value_heads n_kv_heads num_kv_heads swa_num_key_value_heads num_query_groups", 2
    ),
    **_each(
        "head_dim qk_rope_head_dim qk_nope_head_dim v_head_dim index_head_dim swa_head_dim d_kv "
        "kv_channels dim_head d_head attention_head_size rotary_dim linear_head_dim "
        "linear_key_head_dim linear_value_head_dim global_head_dim swa_v_head_dim d_rel",
        8,
    ),
    **_each("qk_head_dim attention_head_dim", 16),
    **_each("q_lora_rank kv_lora_rank o_lora_rank laurel_rank adapter_rank gated_norm_rank", 16),
    **_each(
        "num_experts num_local_experts n_routed_experts moe_num_experts num_experts_per_layer", 4
    ),
    **_each("num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k", 2),
    **_each(
        "n_group topk_group num_expert_group num_expert_groups n_groups mamba_n_groups o_groups", 1
    ),
    **_each("n_shared_experts moe_num_shared_experts num_shared_experts", 1),
    **_each("first_k_dense_replace num_dense_layers moe_layer_start_index", 1),
    **_each("linear_num_key_heads linear_num_value_heads linear_num_heads", 4),
    **_each("index_n_heads", 16),
    **_each("mamba_d_state state_size ssm_state_size", 8),
    **_each("mamba_n_heads mamba_num_heads", 8),
    **_each("mamba_d_head mamba_head_dim mamba_headdim", 8),
    **_each("time_step_rank mamba_dt_rank", 4),
    **_each("mamba_d_ssm", 64),
    **_each(
        "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length "
        "max_source_positions max_target_positions original_max_position_embeddings",
        2048,
    ),
    **_each("num_labels", 2),
    **_each("hidden_size_per_layer_input ple_embed_dim", 8),
    **_each("type_vocab_size task_type_vocab_size", 2),
    **_each("initializer_range init_std embed_init_std", 0.2),
    **_each("use_sliding_window", True),
    **_each("num_kv_shared_layers", 2),
    **_each("num_layers_per_stack", 2),
    **_each(
        "sliding_window_pattern _sliding_window_pattern no_rope_layer_interval attn_layer_period "
        "global_attn_every_n_layers expert_layer_period layer_group_size full_attention_interval "
        "max_window_layers",
        2,
    ),
    # What bounds how far a layer looks.
    **_each(
        "sliding_window window_size attention_chunk_size local_attention attention_window_size "
        "sliding_window_size keep_window_size index_topk local_radius block_size "
        "local_attn_chunk_length lsh_attn_chunk_length attention_window "
        "local_attention_window_len",
        WINDOW,
    ),
    **_each("global_block_size", 4),
    **_each("chunk_size mamba_chunk_size", 8),
}
# Fields that have no default, yet have to be set.
ABSENT = (
    "sliding_window",
    "num_experts_per_tok",
    "attention_chunk_size",
    "n_routed_experts",
    "head_dim",
    "n_inner",
    "d_inner",
)
# Ids of tokens: those of the tests' tokenizer.
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

# Of a model type: what its class asks for beside that.
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_ALTERNATE = ["sliding_attention", "full_attention"] * 2
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {
        "layer_types": _ALTERNATE,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dots3_note_text": {
        "layer_types": ["indexed_attention", "sliding_attention"] * 2,
        "per_layer_config": {},
        "head_dim": 16,
    },
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": True,
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8}},
    "esmc": {"num_key_value_heads": 4},
    "gemma3n_text": {"intermediate_size": 48, "layer_types": _ALTERNATE},
    "gemma4_text": {"num_kv_shared_layers": 2, "layer_types": _ALTERNATE, "per_layer_config": {}},
    "gemma4_unified_text": {
        "num_kv_shared_layers": 2,
        "layer_types": _ALTERNATE,
        "per_layer_config": {},
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hrm_text": {"num_hidden_layers": 16},
    "jamba": {"attn_layer_offset": 1, "expert_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "lilt": {"channel_shrink_ratio": 4, "max_2d_position_embeddings": 64, "hidden_size": 24 * 2},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32, "initializer_range": 0.02},
    "mistral4": {"num_key_value_heads": 4},
    "moshi": {"audio_vocab_size": 64},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "qwen4_exp_text": {
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "ngram_vocab_size_base": 100,
        "split_ngram_parts": 4,
        "hc_lowrank": 8,
    },
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [32, 64],
        "axial_pos_embds_dim": [16, 16],
        "num_attention_heads": 4,
        "attn_layers": ["local", "lsh", "local", "lsh"],
    },
    "roc_bert": {"pronunciation_vocab_size": 50, "shape_vocab_size": 50},
    "xlstm": {"hidden_size": 32, "embedding_dim": 32, "ffn_round_up_to_multiple_of": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 8,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
        "attention_hidden_size": 64,
        "num_key_value_heads": 4,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "num_hidden_layers": 8,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention"]
        * 2,
        "hybrid_layer_ids": [2, 6],
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "num_key_value_heads": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "use_mem_eff_path": False,
    },
    "zaya": {"num_experts_per_tok": 1},
}


def derive(cls: type[Any], **given: Any) -> dict[str, Any]:
    """What to give a configuration class for a network as small as it allows."""
    default = cls()
    settings: dict[str, Any] = {}
    for name, value in default.to_dict().items():
        if name in ("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"):
            settings[name] = 400
        elif name in SIZES and _is_alike(name, value):
            settings[name] = SIZES[name]
        elif name in IDS:
            settings[name] = IDS[name]
    if "kv_lora_rank" in settings:  # latent attention has a key for each query head
        settings["num_key_value_heads"] = SIZES["num_attention_heads"]
    rope = getattr(default, "rope_parameters", None)
    if "mrope_section" in getattr(default, "ignore_keys_at_rope_validation", ()):
        settings["rope_parameters"] = {**rope, "mrope_section": [1, 1, 2]}
    for name, sub in getattr(cls, "sub_configs", {}).items():
        if hasattr(sub, "to_dict"):
            settings[name] = {**derive(sub), "model_type": sub.model_type}
    if default.is_encoder_decoder:
        settings["decoder_start_token_id"] = IDS["decoder_start_token_id"]
    return {**settings, **OWN.get(cls.model_type, {}), **given}


def _is_alike(name: str, value: Any) -> bool:
    if value is None:
        return name in ABSENT
    return isinstance(value, bool) == isinstance(SIZES[name], bool) and isinstance(
        value, (int, float)
    )


_MAPPINGS: dict[Kind, dict[str, Any]] = {
    "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "seq2seq": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "encoder": auto.MODEL_MAPPING_NAMES,
    "classifier": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
}
# Those of encoders that are known for text by another mapping too.
_TEXT_ENCODERS = {
    *auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}


class NotBuilt(Exception):
    """No network as small as this can be made of the class, or it takes no text."""


@dataclass(frozen=True)
class Architecture:
    """A class of one of transformers' auto mappings."""

    kind: Kind
    model_type: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.model_type}"

    def network(self) -> transformers.PreTrainedModel:
        """Random weights in float32. Raises NotBuilt, with the reason."""
        try:
            made = transformers.CONFIG_MAPPING[self.model_type]
            found = CLASSES[self.kind]._model_mapping[made]
            network = found[0] if isinstance(found, tuple) else found
            settings = derive(made)
            if self.kind == "causal" and hasattr(made(), "is_decoder"):
                settings["is_decoder"] = True
            config = made(**settings)
            with torch.device("meta"):
                count = sum(p.numel() for p in network(config).parameters())
        except Exception as error:
            said = str(error).strip().replace("\n", " ")
            raise NotBuilt(f"{type(error).__name__}: {said[:120]}") from error
        if network.main_input_name != "input_ids":
            raise NotBuilt(f"it takes {network.main_input_name} and no text")
        if count > LARGEST:
            raise NotBuilt(f"{count:,} parameters, most of them for other than text")
        return seeded(network, config)

    def save(self, folder: Path) -> None:
        """A folder that `nbllm.load` takes. Raises NotBuilt, with the reason."""
        network = self.network()
        network.save_pretrained(folder)
        tokenizer(self.kind).save_pretrained(folder)


def architectures(*, every: bool) -> list[Architecture]:
    """All of them; otherwise of the encoders only those that are known to take text."""
    return [
        Architecture(kind, name)
        for kind, names in _MAPPINGS.items()
        for name in names
        if every or kind != "encoder" or name in _TEXT_ENCODERS
    ]


def tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    """That of the tests; for what reads whole texts, with a token at the end of each."""
    made = byte_tokenizer()
    if kind in ("encoder", "classifier"):
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|im_end|>",
            special_tokens=[("<|im_end|>", made.eos_token_id)],
        )
    return made

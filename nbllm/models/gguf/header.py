"""What a GGUF header states of a model and transformers leaves out of the configuration.

Without it a class's defaults stand in, which are one checkpoint's values: the model then has
other shapes than its weights, or computes other numbers than its publisher's. The keys are
those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the tensors those of
llama.cpp's convert_hf_to_gguf.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbllm.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["complete"]

_SHAPES = {
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
# Their heads are of two widths, or transformers reads all of their header.
_COMPLETE = ("gemma4", "lfm2", "qwen35", "qwen35moe")

# Of Llama 3.1, 3.2 and 3.3, which differ in the factor alone; the file holds none of them.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def complete(
    config: PreTrainedConfig, metadata: Mapping[str, Any], tensors: Sequence[Any], filename: str
) -> None:
    """Add to a configuration what transformers left out of it.

    Args:
        config: is changed.
        metadata: of the GGUF file.
        tensors: as gguf's reader has them.
        filename: for the message.

    Raises:
        UnsupportedModelError: the positions are scaled in a way that transformers does not have.
    """
    architecture = metadata["general.architecture"]
    if architecture in _COMPLETE:
        return
    if architecture == "t5":
        _complete_t5(config, {tensor.name for tensor in tensors})
        return
    for key, name in _SHAPES.items():
        value = metadata.get(f"{architecture}.{key}")
        if value is not None and config.attribute_map.get(name, name) in vars(config):
            setattr(config, name, value)
    if (scaling := _scaling(metadata, tensors, filename)) is not None:
        # Gemma 3 turns the heads of its sliding layers by unscaled angles.
        parameters: dict[str, Any] = config.rope_parameters
        parameters.get("full_attention", parameters).update(scaling)


def _complete_t5(config: PreTrainedConfig, tensors: set[str]) -> None:
    """Tell T5 from T5 1.1 and Flan-T5, which transformers takes every T5 for."""
    config.is_gated_act = "enc.blk.0.ffn_gate.weight" in tensors
    config.feed_forward_proj = "gated-gelu" if config.is_gated_act else "relu"
    config.dense_act_fn = "gelu_new" if config.is_gated_act else "relu"
    config.scale_decoder_outputs = "output.weight" not in tensors


def _scaling(
    metadata: Mapping[str, Any], tensors: Sequence[Any], filename: str
) -> dict[str, Any] | None:
    """Return the scaling of rotary positions, as `rope_parameters` state it; None where none is."""
    architecture = metadata["general.architecture"]
    stated = {
        key.removeprefix(f"{architecture}.rope.scaling."): value
        for key, value in metadata.items()
        if key.startswith(f"{architecture}.rope.scaling.")
    }
    factors = {
        t.name: np.asarray(t.data, np.float64) for t in tensors if t.name.startswith("rope_")
    }
    original = stated.get("original_context_length")
    kind = stated.get("type", "none")
    if "rope_factors_long.weight" in factors:
        scaling = {
            "rope_type": "longrope",
            "short_factor": factors["rope_factors_short.weight"].tolist(),
            "long_factor": factors["rope_factors_long.weight"].tolist(),
            "original_max_position_embeddings": original,
            "attention_factor": stated.get("attn_factor"),
        }
    elif "rope_freqs.weight" in factors:
        scaling = _llama3(factors["rope_freqs.weight"], metadata, filename)
    elif kind == "linear":
        scaling = {"rope_type": "linear", "factor": stated["factor"]}
    elif kind == "yarn":
        scaling = {
            "rope_type": "yarn",
            "factor": stated["factor"],
            "original_max_position_embeddings": original,
        }
    elif kind == "none":
        return None
    else:
        raise UnsupportedModelError(_refusal(filename, f"of type {kind!r}"))
    return {key: value for key, value in scaling.items() if value is not None}


def _llama3(
    divisors: NDArray[np.float64], metadata: Mapping[str, Any], filename: str
) -> dict[str, Any]:
    """Return the parameters that give these divisors of the angles, shape (dimensions / 2,)."""
    base = metadata.get(f"{metadata['general.architecture']}.rope.freq_base", 10_000.0)
    scaling = {"rope_type": "llama3", "factor": float(divisors.max()), **_LLAMA3}
    if not np.allclose(_llama3_divisors(len(divisors), base, scaling), divisors, rtol=1e-3):
        raise UnsupportedModelError(_refusal(filename, "by frequencies of its own"))
    return scaling


def _llama3_divisors(count: int, base: float, scaling: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the divisors, shape (count,), as transformers' `_compute_llama3_parameters` does."""
    wavelengths = 2 * np.pi * base ** (np.arange(count) / count)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / wavelengths
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / scaling["factor"] + smooth))


def _refusal(filename: str, how: str) -> str:
    return (
        f"{filename} scales its rotary positions {how}, which transformers does not do from a "
        "GGUF file. Give the same model as a folder of safetensors or a hub name 'owner/name'."
    )

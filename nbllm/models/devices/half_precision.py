"""The families of models that keep within float16, whose largest number is 65,504."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["float16_problem"]

_T5 = "it overflows (https://github.com/huggingface/transformers/issues/9295)"
_VLLM = "it is numerically unstable (vLLM's ModelConfig refuses it)"
_UNSLOTH = "its activations overflow (unsloth's list FORCE_FLOAT32)"
_QWEN2 = "its attention scores overflow (https://github.com/QwenLM/Qwen3/issues/868)"

_OVERFLOWS = {
    "t5": _T5, "mt5": _T5, "umt5": _T5, "longt5": _T5,
    "gemma2": _VLLM, "gemma3": _VLLM, "gemma3_text": _VLLM, "glm4": _VLLM, "plamo2": _VLLM,
    "gemma3n": _UNSLOTH, "gemma3n_text": _UNSLOTH, "gpt_oss": _UNSLOTH, "qwen3_5": _UNSLOTH,
    "qwen2": _QWEN2, "qwen2_moe": _QWEN2,
}  # fmt: skip

# Published in float16, or run in it wherever there is no bfloat16 (vLLM's default there), without
# such reports.
_KEEPS_WITHIN = {
    "llama", "mistral", "mixtral", "phi", "phi3", "qwen3",
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom",
    "bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "bart", "marian",
}  # fmt: skip


def float16_problem(config: PreTrainedConfig) -> str | None:
    """Return why float16 is not chosen for a model, as the end of a sentence; None where it may be.

    Args:
        config: of the model.
    """
    import torch

    family = config.model_type
    if family in _OVERFLOWS:
        return f"in float16 {_OVERFLOWS[family]}"
    if family in _KEEPS_WITHIN or getattr(config, "dtype", None) == torch.float16:
        return None
    return f"nobody is known to run {family} in float16"

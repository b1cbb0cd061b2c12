"""The pass without numbers against a real one: what is kept, and what is alive at the peak."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedConfig

from nbllm.models.architecture import CLASSES, skeleton
from nbllm.models.estimate.dry_run import dry_run
from nbllm.models.kind import Kind
from nbllm.models.memory.budget import kv_bytes
from nbllm.models.quantization.schemes import config as quantization_config
from nbllm.models.quantization.schemes import quantized_layers

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": 300, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
BERT = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
CASES: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "grouped heads": ("causal", "LlamaConfig", SMALL),
    "one head of keys": ("causal", "LlamaConfig", {**SMALL, "num_key_value_heads": 1}),
    "sliding windows": ("causal", "MistralConfig", {**SMALL, "sliding_window": 16}),
    "windows in some layers": (
        "causal",
        "Gemma3TextConfig",
        {
            **SMALL,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
    ),
    "eager attention": ("causal", "Gemma2Config", {**SMALL, "sliding_window": 2048}),
    "joined projections": (
        "causal",
        "GPT2Config",
        {"vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 4},
    ),
    "experts": ("causal", "MixtralConfig", {**SMALL, "num_local_experts": 4}),
    "encoder-decoder": ("seq2seq", "BartConfig", BART),
    "classifier": ("classifier", "BertConfig", BERT),
    "encoder": ("encoder", "BertConfig", BERT),
}  # fmt: skip


def _config(name: str) -> tuple[Kind, PreTrainedConfig]:
    kind, cls, settings = CASES[name]
    return kind, getattr(transformers, cls)(**settings)


def _real_inputs(kind: Kind, context: int, batch: int) -> dict[str, Any]:
    ids = torch.randint(3, 300, (batch, context))
    inputs: dict[str, Any] = {"input_ids": ids}
    if batch > 1:
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["attention_mask"][0, 0] = 0
    if kind == "causal":
        inputs |= {"use_cache": True, "logits_to_keep": 1}
    if kind == "seq2seq":
        inputs |= {"use_cache": True, "decoder_input_ids": torch.zeros(batch, 1, dtype=torch.long)}
    return inputs


def _peak(network: torch.nn.Module, inputs: dict[str, Any]) -> tuple[Any, int]:
    """The result, and the most bytes that torch's allocator had given out meanwhile."""
    with torch.inference_mode():
        network(**inputs)  # what is only done once
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            out = network(**inputs)
    results = seen.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return out, peak


@pytest.mark.parametrize(("name", "batch"), [("grouped heads", 1), *((name, 3) for name in CASES)])
def test_cache_and_activations_are_those_of_a_real_pass(name: str, batch: int) -> None:
    kind, config = _config(name)
    context = 48
    # Experts are multiplied in groups, for which there is no fp32 kernel to rehearse.
    dtype = torch.bfloat16 if name == "experts" else torch.float32
    network = CLASSES[kind].from_config(config, dtype=dtype).eval()
    out, peak = _peak(network, _real_inputs(kind, context, batch))
    shell = skeleton(config, kind)
    seen = dry_run(shell, kind, dtype, CPU, {"none": {}}, context, batch)
    kept = 0
    if kind == "causal":
        kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in out.past_key_values.layers)
        assert seen.cache == kept
        assert kv_bytes(config, dtype, context) * batch == kept
    elif kind == "seq2seq":
        own, cross = (
            out.past_key_values.self_attention_cache,
            out.past_key_values.cross_attention_cache,
        )
        first = sum(layer.keys.nbytes + layer.values.nbytes for layer in own.layers)
        kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cross.layers) + first
        assert seen.cache == kept + (context - 1) * first
    else:
        assert seen.cache == 0
    assert seen.activations["none"] + kept == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("bits", ["int8", "int8wo"])
def test_quantized_layers_take_what_they_are_forecast_to(
    bits: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = transformers.LlamaConfig(
        **{**SMALL, "hidden_size": 256, "intermediate_size": 1024, "head_dim": 64}
    )
    CLASSES["causal"].from_config(config).save_pretrained(tmp_path)
    shell = skeleton(config, "causal")
    layers = {bits: quantized_layers(shell, bits, CPU)}
    settings = quantization_config(bits, torch.bfloat16, CPU, shell)
    network = CLASSES["causal"].from_pretrained(
        tmp_path, dtype=torch.bfloat16, device_map={"": "cpu"}, quantization_config=settings
    )
    _, peak = _peak(network, _real_inputs("causal", 256, 2))
    seen = dry_run(shell, "causal", torch.bfloat16, CPU, layers, 256, 2)
    assert seen.activations[bits] + seen.cache == pytest.approx(peak, rel=0.1)

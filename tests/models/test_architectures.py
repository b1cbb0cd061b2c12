"""Architectures whose linear layers differ, in every quantization that has kernels here.

Each is a random configuration of two layers. Every one of them is loaded in every quantization,
runs, shows its card; its attention closes, or is refused by the architecture's name. Whether all
others answer as plain transformers does is asked in tests/architectures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import transformers

from nbllm.attention.recording.capture import record
from nbllm.errors import QuantizationError, UnsupportedModelError
from nbllm.models.kind import Kind
from nbllm.models.loader import load
from nbllm.models.model import Model
from nbllm.models.quantization.schemes import Quantization, kernel_problem
from tests.conftest import byte_tokenizer, seeded, word_tokenizer

TEXT = "The soup was warm and the staff were kind, so we stayed until they closed."
CPU = torch.device("cpu")
BITSANDBYTES = ("int8", "nf4", "fp4")
TORCHAO = ("int4", "int8wo")
QUANTIZATIONS = [q for q in get_args(Quantization) if kernel_problem(q, CPU) is None]
# How far attention that is computed again may be from what the kernel returned.
CLOSURE = {"fp32": 1e-5, "bf16": 2e-2}

# In the terms of most configurations; those that have names of their own translate.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
SEQ2SEQ: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 256,
    "init_std": 0.2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}


@dataclass(frozen=True)
class Architecture:
    """A class of transformers and what is true of it."""

    name: str  # of the class
    kind: Kind
    config: str  # of its configuration's class
    sizes: dict[str, Any] = field(default_factory=lambda: SIZES)
    records: bool = True  # its attention goes through transformers' AttentionInterface
    quantizes: tuple[str, ...] = BITSANDBYTES + TORCHAO  # who knows its linear layers

    def __str__(self) -> str:
        return self.name


ARCHITECTURES = [
    Architecture("LlamaForCausalLM", "causal", "LlamaConfig", GROUPED),
    Architecture(
        "Gemma3ForCausalLM", "causal", "Gemma3TextConfig",
        {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8},
    ),
    Architecture("Phi3ForCausalLM", "causal", "Phi3Config", GROUPED),
    Architecture("GPTNeoXForCausalLM", "causal", "GPTNeoXConfig"),
    Architecture("OPTForCausalLM", "causal", "OPTConfig",
                 {**SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    Architecture("GPT2LMHeadModel", "causal", "GPT2Config",
                 {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256,
                  "initializer_range": 0.2}, quantizes=BITSANDBYTES),
    Architecture("MixtralForCausalLM", "causal", "MixtralConfig",
                 {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    Architecture("FalconForCausalLM", "causal", "FalconConfig", records=False, quantizes=()),
    Architecture("BloomForCausalLM", "causal", "BloomConfig",
                 {"hidden_size": 64, "n_layer": 2, "n_head": 4}, records=False),
    Architecture("T5ForConditionalGeneration", "seq2seq", "T5Config",
                 {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
                  "decoder_start_token_id": 0}),
    Architecture("BartForConditionalGeneration", "seq2seq", "BartConfig", SEQ2SEQ),
    Architecture("BertForSequenceClassification", "classifier", "BertConfig"),
    Architecture("DistilBertForSequenceClassification", "classifier", "DistilBertConfig",
                 {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4,
                  "max_position_embeddings": 256, "initializer_range": 0.2}),
    Architecture("LlamaForSequenceClassification", "classifier", "LlamaConfig", GROUPED),
    Architecture("BertModel", "encoder", "BertConfig"),
    Architecture("ModernBertModel", "encoder", "ModernBertConfig",
                 {**SIZES, "global_attn_every_n_layers": 2, "local_attention": 16}),
    Architecture("DebertaV2Model", "encoder", "DebertaV2Config", SIZES, records=False),
]  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk."""

    architecture: Architecture
    folder: Path
    parameters: int


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=str)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """A folder with random weights."""
    architecture: Architecture = request.param
    tokenizer = byte_tokenizer() if architecture.kind in ("causal", "seq2seq") else word_tokenizer()
    config = getattr(transformers, architecture.config)(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **architecture.sizes,
    )
    folder = tmp_path_factory.mktemp(architecture.name)
    network = seeded(getattr(transformers, architecture.name), config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Checkpoint(architecture, folder, sum(p.numel() for p in network.parameters()))


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_it_loads_runs_and_shows_its_card(
    checkpoint: Checkpoint, quantize: str, capfd: pytest.CaptureFixture[str]
) -> None:
    architecture, folder = checkpoint.architecture, checkpoint.folder
    if quantize not in ("none", *architecture.quantizes):
        with pytest.raises(QuantizationError, match=rf"{architecture.name}.*change nothing"):
            load(folder, quantize=quantize)
        return
    dtype = "fp32" if quantize == "none" else "bf16"
    capfd.readouterr()
    with load(folder, quantize=quantize, dtype=dtype) as model:
        said, noise = capfd.readouterr()
        assert noise == "" and said.count("\n") == (quantize in BITSANDBYTES)
        assert ("weights kept for the next load" in said) == (quantize in BITSANDBYTES)
        assert type(model.network).__name__ == architecture.name
        assert model.kind == architecture.kind
        assert model.quantization == quantize
        assert is_quantized(model.network) == (quantize != "none")
        runs(model)
        card = repr(model)
        parameters = f"{checkpoint.parameters / 1e6:.1f} M"
        for fact in (architecture.kind, quantize, parameters, str(folder)):
            assert fact in card
        assert quantize in model._repr_html_()
        if architecture.records:
            recording = record(model, TEXT)
            pair = model.kind == "seq2seq"
            parts = [recording.encoder, recording.decoder, recording.cross] if pair else [recording]
            assert max(part.closure() for part in parts) <= CLOSURE[dtype]
        else:
            with pytest.raises(UnsupportedModelError, match=architecture.name):
                record(model, TEXT)
        assert capfd.readouterr() == ("", "")


def runs(model: Model) -> None:
    """One pass, and where texts are written a few tokens, in finite numbers."""
    if model.kind == "causal":
        model.tokenizer.padding_side = "left"
    inputs = model.tokenizer([TEXT, "Terrible service."], padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        if model.kind in ("causal", "seq2seq"):
            written = model.network.generate(**inputs, max_new_tokens=3, do_sample=False)
            assert written.shape[0] == 2
        if model.kind == "seq2seq":
            inputs["decoder_input_ids"] = inputs["input_ids"][:, :4]
        out = model.network(**inputs)
    values = out.logits if "logits" in out else out.last_hidden_state
    assert values.isfinite().all()


def is_quantized(network: torch.nn.Module) -> bool:
    """Whether any weight is stored in fewer bits."""
    ours = ("Linear4bit", "Linear8bitLt")
    theirs = ("Int4OpaqueTensor", "Int8Tensor")
    return any(
        type(module).__name__ in ours
        or type(getattr(module, "weight", None)).__name__ in theirs
        or type(getattr(getattr(module, "weight", None), "data", None)).__name__ in theirs
        for module in network.modules()
    )

"""GGUF files: unpacked once, to the numbers that were packed."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nbllm.errors import UnsupportedModelError
from nbllm.models.loader import load
from nbllm.models.model import Model

LAYERS, HEADS, KV_HEADS, WIDTH, INNER = 2, 4, 2, 64, 128
TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture
def network() -> LlamaForCausalLM:
    """A random LLaMA whose weights are exact in bf16."""
    torch.manual_seed(0)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=262,
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=512,
            initializer_range=0.2,
        )
    )
    for parameter in made.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return made.eval()


@pytest.fixture
def file(network: LlamaForCausalLM, tmp_path: Path) -> Path:
    """That LLaMA as a GGUF file, written as llama.cpp's converter does."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_license("mit")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(network.config.rms_norm_eps)
    writer.add_vocab_size(262)
    letters = list(bytes_to_unicode().values())
    special = ["<|endoftext|>", "<s>", "</s>"]
    tokens = special + letters + ["he", "ll", "hell"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (len(tokens) - len(special)))
    writer.add_token_merges(["h e", "l l", "he ll"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    for layer in range(LAYERS):
        for ours, theirs in TENSORS.items():
            tensor = weights[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                tensor = interleaved(tensor, HEADS if theirs == "attn_q" else KV_HEADS)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of a rotary projection's rows: pairs side by side."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def test_a_gguf_file_gives_the_model_that_was_written(
    file: Path, network: LlamaForCausalLM, capfd: pytest.CaptureFixture[str]
) -> None:
    model = load(file, quantize="none", dtype="fp32")
    ids = torch.tensor([[1, 70, 80, 90, 100, 5]])
    with torch.inference_mode():
        torch.testing.assert_close(model.network(ids).logits, network(ids).logits)
    assert (model.kind, model.context_length, model.licence) == ("causal", 512, "mit")
    assert model.source == str(file)
    assert model.tokenizer.convert_ids_to_tokens(model.tokenizer("hello").input_ids) == [
        "hell",
        "o",
    ]
    assert model.tokenizer.model_max_length == 512
    out, err = capfd.readouterr()
    assert out == ""
    assert all("Converting tiny, once" in line for line in err.splitlines() if line)


def test_it_is_converted_once_and_again_when_it_changes(
    file: Path, nbllm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(file, quantize="none").revision
    with monkeypatch.context() as patch:
        patch.setattr("nbllm.models.gguf.convert", None)
        moved = file.rename(file.with_name("moved.gguf"))
        again = load(moved, quantize="none")
    assert (again.revision, again.source) == (first, str(moved))

    with moved.open("ab") as end:
        end.write(b"\0")
    assert load(moved, quantize="none").revision != first


def test_fp32_and_bf16_hold_the_same_weights(file: Path) -> None:
    wide = load(file, quantize="none", dtype="fp32").network.state_dict()
    narrow = load(file, quantize="none", dtype="bf16").network.state_dict()
    for name, tensor in narrow.items():
        assert torch.equal(wide[name], tensor.float()), name


def test_a_file_that_is_no_gguf_says_so(tmp_path: Path, nbllm_home: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model at all, really")
    with pytest.raises(UnsupportedModelError, match=r"broken\.gguf cannot be read"):
        load(broken, quantize="none")
    assert not list((nbllm_home / "models").glob("gguf-*/"))


def test_the_default_model_is_the_published_one_in_bf16(smollm2: Model) -> None:
    assert smollm2.context_length == 8192
    assert smollm2.revision.startswith("b179c9523d0e")
    assert smollm2.network.num_parameters() == 134_515_008
    folder = Path(smollm2.network.config._name_or_path)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((folder / "nbllm.json").read_text())["licence"] == "Apache-2.0"
